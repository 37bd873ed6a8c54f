//! Helpers for tests of expiry: the expirer, and access to Redis.

use std::ops::Deref;

use redis::{Cmd, FromRedisValue, aio::MultiplexedConnection};
use serde_json::Value;

use crate::support::{Child, Client, System, eventually, id};

/// A port without a server.
pub(super) const NO_REDIS: (&str, &str) = ("REDIS_URL", "redis://127.0.0.1:1/0");

/// Holds that expire during the test.
pub(super) const SHORT_HOLDS: (&str, &str) = ("HOLD_SECONDS", "1");

/// Each sweep is observed when it is done.
const SWEEPS: &str = "flashsale_expiry_sweep_seconds_count";

/// The expirer's process. Also a [`Client`] for its health and metrics.
pub(super) struct Expirer {
    pub(super) child: Child,
    client: Client,
}

impl Deref for Expirer {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Expirer {
    pub(super) async fn start(system: &System, more: &[(&str, &str)]) -> Self {
        let mut child = system.beside("flashsale-expirer", more);
        let address = child.address().await;
        let client = Client::new(format!("http://{address}"), None);
        Self { child, client }
    }

    /// Waits until a whole sweep has started and ended.
    pub(super) async fn sweeps(&self) {
        let before = self.metric(SWEEPS).await;
        eventually("two sweeps", async || {
            (self.metric(SWEEPS).await >= before + 2.0).then_some(())
        })
        .await;
    }

    /// Waits until a series in its `/metrics` has at least this value.
    pub(super) async fn counts(&self, series: &str, at_least: f64) {
        eventually(&format!("{series} of {at_least}"), async || {
            (self.metric(series).await >= at_least).then_some(())
        })
        .await;
    }

    /// Waits until its health shows this state of a dependency. Returns the HTTP status.
    pub(super) async fn sees(&self, dependency: &str, state: &str) -> u16 {
        eventually(&format!("{dependency} {state}"), async || {
            let ready = self.get("/readyz").await;
            (ready.json()["dependencies"][dependency] == state).then(|| ready.status.as_u16())
        })
        .await
    }

    /// Stops it as an operator would. Returns its log.
    pub(super) async fn stop(&mut self) -> String {
        self.child.terminate();
        assert!(self.child.ends().await.success());
        self.child.all_it_said().await
    }
}

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
