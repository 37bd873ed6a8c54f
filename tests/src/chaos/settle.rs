//! After the last fault: waits for recovery, checks that everything works, and reads the final state.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use sqlx::PgPool;
use tokio::time::{Instant, sleep, timeout};

use super::{
    clients::buy_out,
    history::Stored,
    journal::Journal,
    member::{Member, Process},
    sale::MAX_HOLD_MICROS,
    stored,
    world::{LOOK_EVERY, RECOVERY_LIMIT, World, all_well},
};
use crate::redis_command::redis_command;

/// Time limit after the deadline of a hold, the creation of an event, or a change on the live page, once everything
/// has recovered. (Failed requests are shown for 10 s.)
const QUIET_LIMIT: Duration = Duration::from_secs(30);

/// Waits until every process reports every server as up.
pub(crate) async fn wait_for_health(world: &impl World, journal: &Journal) {
    if timeout(RECOVERY_LIMIT, all_well(world)).await.is_err() {
        for what in world.not_well().await {
            journal.service_failed(format!("{RECOVERY_LIMIT:?} after the last fault, {what}"));
        }
    }
}

/// Without clients: waits until all holds expire and all events arrive. Then reserves every free unit twice more. At
/// the second time the holds of the first are past their deadlines, and every expirer is stopped.
pub(crate) async fn settle(world: &impl World, journal: &Arc<Journal>) -> anyhow::Result<Stored> {
    let (access, members) = (world.access(), world.members());
    let pool = access.database.clone();
    quiet(&pool, journal).await?;
    let free: Vec<(i64, i64)> =
        sqlx::query_as("-- chaos: free units\nselect id, stock::bigint from products order by id")
            .fetch_all(&pool)
            .await?;
    let expirers = || (members.iter()).filter(|member| member.process == Process::Expirer);
    for expirer in expirers() {
        expirer.kill().await;
    }
    buy_out(&free, 1, access, journal).await?;
    until_none(&pool, "-- chaos: live holds
        select count(*) from reservations where status = 'ACTIVE' and expires_at > clock_timestamp()")
    .await?;
    buy_out(&free, 2, access, journal).await?;
    for expirer in expirers() {
        expirer.start().await?;
    }
    quiet(&pool, journal).await?;
    let mut stored = stored::read(&pool).await?;
    stored.timers = timers_left(&access.redis).await?;
    let began = Instant::now();
    // The checker reports anything that is still missing.
    while !journal.all_are_shown(&stored) && began.elapsed() < QUIET_LIMIT {
        sleep(LOOK_EVERY).await;
    }
    Ok(stored)
}

async fn until_none(pool: &PgPool, count: &'static str) -> sqlx::Result<()> {
    while sqlx::query_scalar::<_, i64>(count).fetch_one(pool).await? > 0 {
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Waits until no hold is ACTIVE, no event is unpublished, and the consumer has all events. After the time limit, the
/// checker finds the rest in the rows.
async fn quiet(pool: &PgPool, journal: &Journal) -> anyhow::Result<()> {
    let limit = Duration::from_micros(MAX_HOLD_MICROS.unsigned_abs()) + QUIET_LIMIT;
    let began = Instant::now();
    while began.elapsed() < limit {
        let (active, unpublished): (i64, i64) = sqlx::query_as(
            "-- chaos: what is under way
            select (select count(*) from reservations where status = 'ACTIVE'),
                (select count(*) from outbox_events where published_at is null)",
        )
        .fetch_one(pool)
        .await?;
        if active == 0 && unpublished == 0 {
            let events =
                sqlx::query_scalar("-- chaos: events\nselect event_id::text from outbox_events")
                    .fetch_all(pool)
                    .await?;
            if journal.missing(&events) == 0 {
                break;
            }
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The holds with timers in Redis. No hold is ACTIVE at this point.
async fn timers_left(url: &str) -> anyhow::Result<Vec<i64>> {
    let began = Instant::now();
    loop {
        let keys: Vec<String> = redis_command(url, &["KEYS", "reservation:*"]).await?;
        if keys.is_empty() || began.elapsed() > QUIET_LIMIT {
            let id = |key: &String| key.rsplit(':').next()?.parse().ok();
            return Ok(keys.iter().filter_map(id).collect());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Stops every process, and checks that each ends in order.
pub(crate) async fn shut_down(members: &[Member], journal: &Journal) -> anyhow::Result<()> {
    for member in members {
        if let Some(child) = member.child().await.as_ref() {
            child.terminate();
        }
    }
    for member in members {
        let mut child = member.child().await;
        let child = child.as_mut().context("a process is missing")?;
        match timeout(RECOVERY_LIMIT, child.ends()).await {
            Ok(status) if status.success() => {}
            Ok(status) => journal.service_failed(format!("{} ended with {status}", member.name)),
            Err(_) => journal.service_failed(format!("{} does not stop", member.name)),
        }
    }
    Ok(())
}
