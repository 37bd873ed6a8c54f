//! After the last fault: waits for recovery, checks that everything works, and reads the final state.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use serde_json::Value;
use sqlx::{PgPool, Row as _, postgres::PgRow};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};

use super::{
    clients::buy_out,
    consumer::told,
    history::{Adjustment, Entry, EntryStatus, Event, Hold, Product, Status, Stored},
    journal::{Journal, micros, now},
    world::{Member, Process, World},
};

/// Time limit for recovery after the last fault, generous for slow machines. The service itself needs a few seconds:
/// retries are at most 2 s apart, and a call times out after 10 s.
pub(crate) const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

/// Time limit after the deadline of a hold, the creation of an event, or a change on the live page, once everything
/// has recovered. (Failed requests are shown for 10 s.)
const QUIET_LIMIT: Duration = Duration::from_secs(30);

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until every process reports every server as up.
pub(crate) async fn wait_for_health(world: &impl World, journal: &Journal) {
    if timeout(RECOVERY_LIMIT, all_well(world)).await.is_err() {
        for what in world.not_well().await {
            journal.service_failed(format!("{RECOVERY_LIMIT:?} after the last fault, {what}"));
        }
    }
}

/// Waits until everything works.
pub(crate) async fn all_well(world: &impl World) {
    while !world.not_well().await.is_empty() {
        sleep(LOOK_EVERY).await;
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
    let mut stored = read(&pool).await?;
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
    let hold = Duration::from_micros(journal.max_hold_micros().unsigned_abs());
    let began = Instant::now();
    while began.elapsed() < hold + QUIET_LIMIT {
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
    let client = redis::Client::open(url)?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let began = Instant::now();
    loop {
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg("reservation:*")
            .query_async(&mut redis)
            .await?;
        if keys.is_empty() || began.elapsed() > QUIET_LIMIT {
            let id = |key: &String| key.rsplit(':').next()?.parse().ok();
            return Ok(keys.iter().filter_map(id).collect());
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn read(pool: &PgPool) -> anyhow::Result<Stored> {
    let products = sqlx::query(
        "-- chaos: products
        select id, stock::bigint, held::bigint, sold::bigint, total::bigint,
            hold_seconds::bigint, max_per_user::bigint, waiting::bigint from products",
    )
    .try_map(|row: PgRow| {
        Ok(Product {
            id: row.try_get("id")?,
            stock: row.try_get("stock")?,
            held: row.try_get("held")?,
            sold: row.try_get("sold")?,
            total: row.try_get("total")?,
            hold_seconds: row.try_get("hold_seconds")?,
            max_per_user: row.try_get("max_per_user")?,
            waiting: row.try_get("waiting")?,
        })
    })
    .fetch_all(pool)
    .await?;
    let holds = sqlx::query(
        "-- chaos: reservations
        select id, product_id, user_id, quantity::bigint, status, created_at, expires_at,
            coalesce(returned_at, confirmed_at, canceled_at, expired_at) as ended_at, confirmed_at,
            reacquired_from, reference from reservations",
    )
    .try_map(hold)
    .fetch_all(pool)
    .await?;
    let adjustments = sqlx::query(
        "-- chaos: ledger
        select id, product_id, delta::bigint, reason, created_at from stock_adjustments order by id",
    )
    .try_map(|row: PgRow| {
        Ok(Adjustment {
            id: row.try_get("id")?,
            product: row.try_get("product_id")?,
            delta: row.try_get("delta")?,
            reason: row.try_get("reason")?,
            at: micros(row.try_get("created_at")?),
        })
    })
    .fetch_all(pool)
    .await?;
    let entries = sqlx::query(
        "-- chaos: waitlists
        select id, product_id, user_id, quantity::bigint, status, reference, reservation_id, created_at, ended_at
        from waitlist_entries order by id",
    )
    .try_map(entry)
    .fetch_all(pool)
    .await?;
    let events = sqlx::query(
        "-- chaos: outbox
        select event_id::text, event_type, payload, published_at is not null as published,
            dead_at is not null as dead from outbox_events",
    )
    .try_map(|row: PgRow| {
        Ok(Event {
            id: row.try_get("event_id")?,
            told: told(
                row.try_get("event_type")?,
                &row.try_get::<Value, _>("payload")?,
            ),
            published: row.try_get("published")?,
            dead: row.try_get("dead")?,
        })
    })
    .fetch_all(pool)
    .await?;
    let names: Vec<(i64, String)> =
        sqlx::query_as("-- chaos: names of products\nselect id, name from products")
            .fetch_all(pool)
            .await?;
    Ok(Stored {
        read: now(),
        products,
        names: names.into_iter().collect(),
        holds,
        adjustments,
        entries,
        events,
        timers: Vec::new(),
    })
}

fn hold(row: PgRow) -> sqlx::Result<Hold> {
    let status: String = row.try_get("status")?;
    let time = |name| row.try_get::<OffsetDateTime, _>(name).map(micros);
    let end = |name| {
        let time = row.try_get::<Option<OffsetDateTime>, _>(name);
        time.map(|time| time.map(micros))
    };
    Ok(Hold {
        id: row.try_get("id")?,
        product: row.try_get("product_id")?,
        user: row.try_get("user_id")?,
        quantity: row.try_get("quantity")?,
        status: Status::parse(&status).ok_or_else(|| sqlx::Error::Decode(status.into()))?,
        created: time("created_at")?,
        expires: time("expires_at")?,
        ended: end("ended_at")?,
        confirmed: end("confirmed_at")?,
        reacquired_from: row.try_get("reacquired_from")?,
        reference: row.try_get("reference")?,
    })
}

fn entry(row: PgRow) -> sqlx::Result<Entry> {
    let status: String = row.try_get("status")?;
    let ended: Option<OffsetDateTime> = row.try_get("ended_at")?;
    Ok(Entry {
        id: row.try_get("id")?,
        product: row.try_get("product_id")?,
        user: row.try_get("user_id")?,
        quantity: row.try_get("quantity")?,
        status: EntryStatus::parse(&status).ok_or_else(|| sqlx::Error::Decode(status.into()))?,
        reference: row.try_get("reference")?,
        hold: row.try_get("reservation_id")?,
        created: micros(row.try_get("created_at")?),
        ended: ended.map(micros),
    })
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
