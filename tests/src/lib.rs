//! What the stories in `it` and the chaos run have in common: real processes, real servers, and the
//! network between them, each with ways to take it away.

pub mod chaos;
mod process;
mod proxy;
mod servers;

use std::time::{Duration, Instant};

pub use process::{Child, Log, output, start, start_with};
pub use proxy::{Proxy, Traffic};
pub use servers::{Server, Service};

/// Only a failing test ever waits this long, so it can be generous to slow machines.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `probe` again and again until it has something to tell. The one way in which tests wait.
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
