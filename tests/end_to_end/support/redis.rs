//! Redis, as an operator sees it.

use redis::{Cmd, FromRedisValue, aio::MultiplexedConnection};
use serde_json::Value;

use super::{System, eventually, id, redis_command};

/// Redis, as an operator with `redis-cli` sees it.
pub(crate) struct Redis(MultiplexedConnection);

impl Redis {
    pub(crate) async fn at(url: &str) -> Self {
        let client = redis::Client::open(url).unwrap();
        Self(client.get_multiplexed_async_connection().await.unwrap())
    }

    /// The reply to a command on a connection of its own. `None` if the server closes the connection, as each server does
    /// when a sentinel promotes it.
    pub(crate) async fn asked<T: FromRedisValue>(url: &str, command: &str) -> Option<T> {
        let words: Vec<&str> = command.split(' ').collect();
        redis_command(url, &words).await.ok()
    }

    pub(crate) async fn ask<T: FromRedisValue>(&mut self, command: &str) -> T {
        let words: Vec<&str> = command.split(' ').collect();
        self.ask_words(&words).await
    }

    /// For arguments with spaces.
    pub(crate) async fn ask_words<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = Cmd::new();
        command.arg(words);
        command.query_async(&mut self.0).await.unwrap()
    }

    /// Waits until a command has this reply.
    pub(crate) async fn answers(&mut self, command: &str, wanted: Option<i64>) {
        eventually(&format!("{command} = {wanted:?}"), async || {
            (self.ask::<Option<i64>>(command).await == wanted).then_some(())
        })
        .await;
    }
}

/// The key of a hold's timer.
pub(crate) fn timer_key(system: &System, hold: &Value) -> String {
    format!("{}reservation:{}", system.redis_prefix(), id(hold))
}
