//! Commands to Redis, as an operator sends them.

use redis::{Client, Cmd, FromRedisValue, RedisResult};

/// Sends a command on a connection of its own.
pub async fn redis_command<T: FromRedisValue>(url: &str, words: &[&str]) -> RedisResult<T> {
    let mut connection = Client::open(url)?
        .get_multiplexed_async_connection()
        .await?;
    let mut command = Cmd::new();
    command.arg(words);
    command.query_async(&mut connection).await
}
