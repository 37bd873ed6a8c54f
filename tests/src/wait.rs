//! Waiting for a condition, with a time limit.

use std::time::{Duration, Instant};

/// Only a failing test waits this long, so the limit suits slow machines.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls `probe` until it returns a value. Tests wait only by this function.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "this never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
