//! What the stories are told with: the whole service, the servers it needs, and ways to take them away.

mod client;
mod database;
mod process;
mod proxy;
mod servers;
mod system;
mod wire;

use std::time::{Duration, Instant};

pub(crate) use client::{Answer, Client, assert_fields, assert_utc, id};
pub(crate) use database::Database;
pub(crate) use process::{Child, start};
pub(crate) use proxy::{Proxy, Traffic};
pub(crate) use servers::{Server, Service};
pub(crate) use system::System;
pub(crate) use wire::Wire;

/// Only a failing test ever waits this long, so it can be generous to slow machines.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `probe` again and again until it has something to tell. The one way in which tests wait.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "this never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An environment variable that `deploy/local/test.sh` sets.
pub(crate) fn test_server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run the tests with `make test`, which starts the servers")
    })
}
