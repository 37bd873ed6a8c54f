//! Helpers for tests of expiry: short holds, their sweep, and access to Redis.

use redis::{Cmd, FromRedisValue, aio::MultiplexedConnection};
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

/// Redis, as an operator with `redis-cli` sees it.
pub(super) struct Redis(MultiplexedConnection);

impl Redis {
    pub(super) async fn at(url: &str) -> Self {
        let client = redis::Client::open(url).unwrap();
        Self(client.get_multiplexed_async_connection().await.unwrap())
    }

    pub(super) async fn ask<T: FromRedisValue>(&mut self, command: &str) -> T {
        let words: Vec<&str> = command.split(' ').collect();
        self.ask_words(&words).await
    }

    /// For arguments with spaces.
    pub(super) async fn ask_words<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = Cmd::new();
        for word in words {
            command.arg(word);
        }
        command.query_async(&mut self.0).await.unwrap()
    }

    /// Waits until a command has this reply.
    pub(super) async fn answers(&mut self, command: &str, wanted: Option<i64>) {
        eventually(&format!("{command} = {wanted:?}"), async || {
            (self.ask::<Option<i64>>(command).await == wanted).then_some(())
        })
        .await;
    }
}

/// The key of a hold's timer.
pub(super) fn timer_key(system: &System, hold: &Value) -> String {
    format!("{}reservation:{}", system.redis_prefix(), id(hold))
}
