//! What commands tell Redis: the counters, and that there are events to publish.

use std::time::Duration;

use anyhow::Context as _;
use inventory::audit;
use runtime::Process;
use sqlx::PgPool;
use timer::{Counter, Timer};
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
    let timer = connect(args, process).await?;
    let tally = audit::tally(pool).await?;
    timer.set_counters(tally.counts()).await
}

/// Adds holds that were offered to users who waited to the counters, and wakes the relay if there are events.
///
/// # Errors
///
/// Redis does not answer.
pub(crate) async fn tell(
    args: &timer::Args,
    offered: u64,
    has_events: bool,
    process: &Process,
) -> anyhow::Result<()> {
    let timer = connect(args, process).await?;
    timer.note(|notes| {
        notes.count(Counter::Created, offered);
        if has_events {
            notes.wake_relay();
        }
    });
    Ok(())
}

async fn connect(args: &timer::Args, process: &Process) -> anyhow::Result<Timer> {
    let timer = Timer::start(args, process)?;
    let connected = async {
        while !timer.is_up().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let connected = timeout(REDIS_LIMIT, connected).await;
    connected.context("Redis does not answer")?;
    Ok(timer)
}
