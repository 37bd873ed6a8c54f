//! How long an `Idempotency-Key` and its answer are kept.

use crate::support::{Peer, System, eventually};

use super::idempotency::{assert_replayed, keys, reserve};

async fn age(system: &System, key: &str, interval: &str) {
    let age =
        "update idempotency_keys set created_at = created_at - $2::text::interval where key = $1";
    let aged = sqlx::query(age).bind(key).bind(interval);
    let aged = aged.execute(&system.database.pool).await.unwrap();
    assert_eq!(aged.rows_affected(), 1);
}

#[tokio::test]
async fn a_key_is_forgotten_after_its_time_and_acts_anew() {
    let system = System::start().await;
    let product = system.create_product(9).await;
    let first = reserve(&system, "old", product, 1).await;
    let young = reserve(&system, "young", product, 2).await;
    system.cancel(&first.expect(201)).await;
    age(&system, "old", "3 hours").await;
    let mut expirer = Peer::expirer(&system, &[("IDEMPOTENCY_HOURS", "2")]).await;
    eventually("the purge", async || {
        (keys(&system).await == 1).then_some(())
    })
    .await;
    let anew = reserve(&system, "old", product, 1).await;
    assert_ne!(anew.expect(201)["id"], first.json()["id"]);
    assert_eq!(anew.header("idempotency-replayed"), "");
    assert_replayed(&young, &reserve(&system, "young", product, 2).await);
    expirer.stop().await;
}

/// A product that is sold out can have millions of refusals per hour.
#[tokio::test]
async fn a_refusal_is_forgotten_after_ten_minutes_and_what_was_done_is_not() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    let done = reserve(&system, "done", product, 1).await;
    done.expect(201);
    for key in ["old", "young"] {
        let refused = reserve(&system, key, product, 2).await;
        refused.expect_problem(409, "sold_out");
    }
    let young = reserve(&system, "young", product, 2).await;
    age(&system, "done", "23 hours").await;
    age(&system, "old", "11 minutes").await;
    age(&system, "young", "9 minutes").await;
    let mut expirer = Peer::expirer(&system, &[]).await;
    eventually("the purge", async || {
        (keys(&system).await == 2).then_some(())
    })
    .await;
    let again = reserve(&system, "young", product, 2).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.text, young.text);
    // Its row was moved back by 23 hours, and so are the times in this answer.
    let again = reserve(&system, "done", product, 1).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.json()["id"], done.json()["id"]);
    // Nothing was done under this key, so the request may be done now.
    system.cancel(&done.json()).await;
    reserve(&system, "old", product, 2).await.expect(201);
    expirer.stop().await;
}
