//! The counters in Redis, for commands.

use std::time::Duration;

use anyhow::Context as _;
use inventory::audit;
use runtime::Process;
use sqlx::PgPool;
use timer::Timer;
use tokio::time::{sleep, timeout};

/// Time limit for a connection to Redis.
const REDIS_LIMIT: Duration = Duration::from_secs(3);

/// Counts all reservations, and sets the counters to that.
///
/// # Errors
///
/// PostgreSQL or Redis does not answer.
pub(crate) async fn rebuild(
    pool: &PgPool,
    args: &timer::Args,
    process: &Process,
) -> anyhow::Result<()> {
    let timer = Timer::start(args, process)?;
    let connected = async {
        while !timer.is_up().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let connected = timeout(REDIS_LIMIT, connected).await;
    connected.context("Redis does not answer")?;
    let tally = audit::tally(pool).await?;
    let counts = [
        tally.created,
        tally.confirmed,
        tally.canceled,
        tally.expired,
    ];
    timer.set_counters(counts).await
}
