//! Helpers for tests of expiry: short holds, and their sweep.

use serde_json::Value;

use crate::support::{System, eventually, id};

/// Holds that expire during the test.
pub(super) const SHORT_HOLDS: (&str, &str) = ("HOLD_SECONDS", "1");

/// Waits until a hold has been swept. Reads the table, because the API shows any hold past its deadline as expired.
pub(super) async fn is_swept(system: &System, hold: &Value) {
    eventually("the sweep of a hold", async || {
        (stored_status(system, hold).await == "EXPIRED").then_some(())
    })
    .await;
}

pub(super) async fn stored_status(system: &System, hold: &Value) -> String {
    sqlx::query_scalar("select status from reservations where id = $1")
        .bind(id(hold))
        .fetch_one(&system.database.pool)
        .await
        .unwrap()
}
