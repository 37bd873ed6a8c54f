//! Periodic deletion of old rows in small batches.

use std::time::Duration;

use tokio::time::sleep;

const PURGE_EVERY: Duration = Duration::from_secs(60);

/// Pause after an error.
const PURGE_RETRY: Duration = Duration::from_secs(5);

/// Number of rows that one statement deletes, and the pause after it: at most 10,000 rows per second.
const PURGE_MAX_ROWS: i64 = 1_000;
const PURGE_PAUSE: Duration = Duration::from_millis(100);

/// Calls `delete` periodically, forever. `delete` gets the maximum number of rows and returns the number that it
/// deleted. If there may be more rows, it is called again soon.
pub async fn keep_purging<E, F, Fut>(mut delete: F)
where
    E: std::error::Error + 'static,
    F: FnMut(i64) -> Fut,
    Fut: Future<Output = Result<u64, E>>,
{
    loop {
        let pause = match delete(PURGE_MAX_ROWS).await {
            Ok(purged) if purged == PURGE_MAX_ROWS.unsigned_abs() => PURGE_PAUSE,
            Ok(_) => PURGE_EVERY,
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "cannot delete old rows"
                );
                PURGE_RETRY
            }
        };
        sleep(pause).await;
    }
}
