//! The outbox: events that are committed together with their change, and then published by the relay.
//!
//! | function | effect on rows |
//! |---|---|
//! | (the verbs) | insert them, in the transaction of the change |
//! | [`claim`] | locks rows that are ready to publish; SKIP LOCKED shares them among any number of relays |
//! | [`claim_misdated`] | locks rows whose time is too far ahead, because PostgreSQL's clock was set back |
//! | [`publish`] | marks rows as published after the broker's ack |
//! | [`lease`] | keeps sent rows from other relays after the end of the transaction that claimed them |
//! | [`relock`] | locks leased rows again, to record their outcome |
//! | [`back_off`] | delays rows that were unroutable or rejected by a full queue; no limit on attempts |
//! | [`refuse`] | counts a refusal; after the last attempt the row is a dead letter |
//! | [`purge`] | deletes rows that were published long ago |
//! | [`requeue_dead`] | makes all dead letters ready to publish again |
//! | [`replay`] | makes published rows ready to publish again |
//!
//! Ids become visible out of order, so no code remembers a last id: `published_at is null` decides.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use sqlx::{
    Connection as _, FromRow, PgConnection, PgPool, Postgres, Transaction, postgres::PgRow,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error,
    database::{Executor, execute, fetch},
    event::Event,
    schema::Utc,
};

/// A row that the current transaction has locked.
#[derive(Debug, FromRow)]
pub struct Claimed {
    /// Primary key of the row.
    pub id: i64,
    /// Message id.
    pub event_id: Uuid,
    /// Name of the event type.
    pub event_type: String,
    payload: String,
    /// Time of the change, by PostgreSQL's clock.
    pub created_at: OffsetDateTime,
    /// The trace of the request that caused the event, if it was sampled.
    pub traceparent: Option<String>,
    /// Whether the event was published before: the time since its change says nothing about the relay.
    pub replayed: bool,
}

impl Claimed {
    /// The parsed event. Fails if this release does not know the type or the payload.
    pub fn event(&self) -> Result<Event, serde_json::Error> {
        Event::read(&self.event_type, &self.payload)
    }
}

/// A dead letter: an event that was refused too often or that cannot be parsed.
#[derive(Clone, Debug, Serialize, JsonSchema, FromRow)]
#[schemars(rename = "DeadEvent", example = json!({
    "id": 12, "event_id": "6f1d0e1e-8a52-4c53-9f4b-6f0a2b3c4d5e", "event_type": "ReservationConfirmed",
    "payload": {
        "reservation_id": 1, "product_id": 1, "user_id": 42, "quantity": 1, "confirmed_at": "2026-02-14T12:01:00Z",
    },
    "attempts": 10, "last_error": "refused by the broker, alone", "dead_at": "2026-02-14T12:30:00Z",
}))]
pub struct Dead {
    /// Primary key of the row.
    pub id: i64,
    /// Message id.
    #[schemars(extend("format" = "uuid"), with = "String")]
    pub event_id: Uuid,
    /// Name of the event type.
    pub event_type: String,
    /// Payload as it was stored.
    pub payload: serde_json::Value,
    /// Number of refusals.
    pub attempts: i32,
    /// Last error of the broker or parser.
    pub last_error: Option<String>,
    /// Time of the last refusal.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "Utc")]
    pub dead_at: OffsetDateTime,
}

/// State of the outbox. Counts stop at [`STATUS_MAX_ROWS`].
#[derive(Clone, Copy, Debug, PartialEq, FromRow)]
pub struct Status {
    /// Number of events to publish.
    pub depth: i64,
    /// Age of the oldest of them, in seconds; 0 if there is none. After PostgreSQL's clock was set back, the age of an
    /// older event is too high rather than 0.
    pub oldest_age_seconds: f64,
    /// Number of dead letters.
    pub dead: i64,
}

/// Maximum duration of a transaction started by [`begin`]. A frozen relay blocks its rows and holds back vacuum for
/// at most this time.
pub const TRANSACTION_LIMIT: Duration = Duration::from_secs(2);

/// How long the transaction of [`begin`] waits for confirms. Later confirms are awaited under a [`lease`], without a
/// transaction. A lease costs one more update per row, so this is several times what a healthy broker usually needs.
pub const CONFIRM_LIMIT: Duration = Duration::from_millis(500);

/// Duration of the first [`lease`] of a row: how long a crashed relay can delay it.
pub const LEASE: Duration = Duration::from_secs(5);

/// Maximum duration of a [`lease`]. A lease is renewed for as long as the row has waited, so that a crash at most
/// doubles the wait.
pub const LEASE_MAX: Duration = Duration::from_secs(30);

/// Counting stops here: this many index entries take some 50 ms, and a larger number tells an operator nothing more.
pub const STATUS_MAX_ROWS: i64 = 100_000;

const LIST_MAX_ROWS: i64 = 100;
const REQUEUE_MAX_ROWS: i64 = 1_000;

/// Number of replayed events that become ready per second: a fraction of a relay's throughput, so that new events are
/// not delayed.
const REPLAY_PER_SECOND: f64 = 5_000.0;

/// The `last_error` of a row that waits because of a replay, until the next attempt.
const REPLAYED: &str = "replayed";

/// The `last_error` of a row that was sent, and waits for its confirm. Such an event stays in its cell when its product moves:
/// see `sql/depart_rest.sql`.
pub const UNCONFIRMED: &str = "sent, but not confirmed";

/// Begins the transaction in which rows are claimed, published and marked.
///
/// A statement may take 0.8 s, and a pause between two statements 1.2 s. Whichever side freezes, PostgreSQL ends the
/// transaction within [`TRANSACTION_LIMIT`].
///
/// The commit does not wait for the disk. A mark that is lost in a crash causes a repeated delivery, which consumers
/// must handle anyway. The planner may use only the ordered index scan. Its statistics may date from an empty outbox,
/// and sorting a backlog of a million rows for every batch would take longer than the transaction may.
pub async fn begin(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>, Error> {
    // Several statements in one simple query cost one round trip. SET LOCAL works with PgBouncer's transaction mode.
    let begin = "begin; \
        set local statement_timeout = '800ms'; \
        set local idle_in_transaction_session_timeout = '1200ms'; \
        set local synchronous_commit = off; \
        set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_sort = off";
    Ok(connection.begin_with(begin).await?)
}

/// The statement that claims rows, by its name and the condition for `next_attempt_at`. clock_timestamp() cannot be an index
/// condition: every poll would read all rows that are backed off.
macro_rules! claim {
    ($name:literal, $due:literal) => {
        concat!(
            "-- outbox claim",
            $name,
            "\n select id, event_id, event_type, payload::text as payload, created_at, traceparent, \
              coalesce(last_error = $2, false) as replayed from outbox_events \
            where published_at is null and dead_at is null and next_attempt_at ",
            $due,
            " order by next_attempt_at, id limit $1 for update skip locked"
        )
    };
}

/// Locks up to `max_rows` rows that are ready to publish, longest due first.
pub async fn claim(transaction: &mut PgConnection, max_rows: i64) -> Result<Vec<Claimed>, Error> {
    let claim = claim!(": what may be tried now", "<= statement_timestamp()");
    claimed(transaction, claim, max_rows).await
}

/// Locks up to `max_rows` rows that would become ready in more than 10 min. No retry and no lease is that long. Such a
/// time was written before PostgreSQL's clock was set back, or by a replay of more than 3 million events. These rows
/// are ready now, but after all others: do not claim many of them at once.
pub async fn claim_misdated(
    transaction: &mut PgConnection,
    max_rows: i64,
) -> Result<Vec<Claimed>, Error> {
    let claim = claim!(
        " misdated: due in more than 10 min",
        "> statement_timestamp() + interval '10 min'"
    );
    claimed(transaction, claim, max_rows).await
}

async fn claimed(
    transaction: &mut PgConnection,
    claim: &'static str,
    max_rows: i64,
) -> Result<Vec<Claimed>, Error> {
    Ok(sqlx::query_as(claim)
        .bind(max_rows)
        .bind(REPLAYED)
        .fetch_all(transaction)
        .await?)
}

// Updates compute new values in FROM, because Citus allows only immutable functions over columns in SET.
//
// The statements below find their rows by id. They say `num_nonnulls(…) = 0` for "not published and not dead". From
// the plain condition the planner would conclude that the partial index of unpublished rows fits. With statistics
// from a quiet hour it believes that this index is empty, and reads all of it for each batch. With a million rows
// waiting, no batch would be marked in time.

/// Marks rows as published: the broker has acked them.
pub async fn publish(transaction: &mut PgConnection, ids: &[i64]) -> Result<(), Error> {
    let publish = "-- outbox publish: acked by the broker\n\
        update outbox_events set published_at = statement_timestamp(), last_error = null \
        where id = any($1) and num_nonnulls(published_at, dead_at) = 0";
    sqlx::query(publish).bind(ids).execute(transaction).await?;
    Ok(())
}

/// Makes locked rows ready again in `lasts`, and not before: meanwhile only this relay may record their outcome. Returns
/// the new time of the rows, which identifies the lease. `None`: none of the rows waits any more.
pub async fn lease(
    transaction: &mut PgConnection,
    ids: &[i64],
    lasts: Duration,
    error: &str,
) -> Result<Option<OffsetDateTime>, Error> {
    let lease = "-- outbox lease: sent, and not confirmed yet\n\
        with leased as ( \
          update outbox_events set last_error = $2, \
            next_attempt_at = statement_timestamp() + $3 * interval '1 s' \
          where id = any($1) and num_nonnulls(published_at, dead_at) = 0 \
          returning next_attempt_at) \
        select max(next_attempt_at) as until from leased";
    let (until,) = sqlx::query_as(lease)
        .bind(ids)
        .bind(error)
        .bind(lasts.as_secs_f64())
        .fetch_all(transaction)
        .await?
        .pop()
        .ok_or(sqlx::Error::RowNotFound)?;
    Ok(until)
}

/// Locks those of the rows that still have one of these leases. All others were claimed by another relay after their
/// lease had ended, or were changed by hand: their outcome is not ours to record. Without this check, a late confirm
/// could mark an event that was published and then replayed meanwhile.
pub async fn relock(
    transaction: &mut PgConnection,
    ids: &[i64],
    leases: &[OffsetDateTime],
) -> Result<Vec<i64>, Error> {
    let relock = "-- outbox relock: leased rows\n\
        select id from outbox_events \
        where id = any($1) and next_attempt_at = any($2) and num_nonnulls(published_at, dead_at) = 0 \
        for update skip locked";
    Ok(sqlx::query_scalar(relock)
        .bind(ids)
        .bind(leases)
        .fetch_all(transaction)
        .await?)
}

/// Delays rows that no queue received, or that a full queue rejected. The delay is the row's age, between 1 s and 1
/// min. After an outage of the topology, a row that was delayed by a minute waits at most one more minute.
pub async fn back_off(
    transaction: &mut PgConnection,
    ids: &[i64],
    error: &str,
) -> Result<(), Error> {
    let back_off = "-- outbox back off: unroutable, or rejected by a queue\n\
        update outbox_events e set last_error = $2, next_attempt_at = w.next_attempt_at \
        from ( \
          select id, statement_timestamp() + least(greatest(statement_timestamp() - created_at, '1 s'), '1 min') \
            * (0.75 + id % 64 / 256.0) as next_attempt_at \
          from outbox_events where id = any($1)) w \
        where e.id = w.id and num_nonnulls(e.published_at, e.dead_at) = 0";
    sqlx::query(back_off)
        .bind(ids)
        .bind(error)
        .execute(transaction)
        .await?;
    Ok(())
}

/// Counts one refusal of each row. Rows with `max_attempts` refusals become dead letters, and their event ids are
/// returned. The others wait 1, 2, 4, … seconds, at most 5 min.
pub async fn refuse(
    transaction: &mut PgConnection,
    refusals: &[(i64, String)],
    max_attempts: i32,
) -> Result<Vec<Uuid>, Error> {
    #[derive(FromRow)]
    struct Refused {
        event_id: Uuid,
        is_dead: bool,
    }
    let refuse = "-- outbox refuse: count it, and make the row a dead letter at the last\n\
        update outbox_events e set attempts = r.attempts, last_error = r.error, \
          next_attempt_at = r.next_attempt_at, dead_at = r.dead_at \
        from ( \
          select e.id, r.error, e.attempts + 1 as attempts, \
            statement_timestamp() + least(2 ^ least(e.attempts, 20), 300) * interval '1 s' as next_attempt_at, \
            case when e.attempts + 1 >= $3 then statement_timestamp() end as dead_at \
          from unnest($1::bigint[], $2::text[]) as r (id, error) join outbox_events e on e.id = r.id) r \
        where e.id = r.id and num_nonnulls(e.published_at, e.dead_at) = 0 \
        returning e.event_id, e.dead_at is not null as is_dead";
    let (ids, errors): (Vec<i64>, Vec<&str>) = refusals
        .iter()
        .map(|(id, error)| (id, error.as_str()))
        .unzip();
    let rows: Vec<Refused> = sqlx::query_as(refuse)
        .bind(ids)
        .bind(errors)
        .bind(max_attempts)
        .fetch_all(transaction)
        .await?;
    Ok(rows
        .into_iter()
        .filter(|refused| refused.is_dead)
        .map(|refused| refused.event_id)
        .collect())
}

/// Deletes up to `max_rows` rows that were published longer than `retention_hours` ago, oldest first. Returns the
/// number of rows. Several relays may purge at once.
pub async fn purge(pool: &PgPool, retention_hours: i32, max_rows: i64) -> Result<u64, Error> {
    let purge = "-- outbox purge: what was published long ago\n\
        with gone as ( \
          delete from outbox_events where id = any(array( \
            select id from outbox_events \
            where published_at < statement_timestamp() - make_interval(hours => $1) \
            order by published_at limit $2 for update skip locked)) \
          returning 1) \
        select count(*) from gone";
    count(
        &execute(
            pool,
            sqlx::query(purge).bind(retention_hours).bind(max_rows),
        )
        .await?,
    )
}

/// The oldest 100 dead letters.
pub async fn list_dead(pool: &PgPool) -> Result<Vec<Dead>, Error> {
    let list = "-- outbox list dead\n\
        select id, event_id, event_type, payload, attempts, last_error, dead_at from outbox_events \
        where dead_at is not null order by id limit $1";
    fetch(pool, sqlx::query(list).bind(LIST_MAX_ROWS)).await
}

/// Makes every dead letter ready to publish again, with all its attempts. Returns the number of rows. Works in
/// bounded batches: after an error half-way, the rest stay dead letters for another call.
pub async fn requeue_dead(mut executor: Executor<'_>) -> Result<u64, Error> {
    let requeue = "-- outbox requeue dead\n\
        with requeued as ( \
          update outbox_events set dead_at = null, attempts = 0, next_attempt_at = statement_timestamp() \
          where id = any(array( \
            select id from outbox_events where dead_at is not null \
            order by id limit $1 for update skip locked)) \
          returning 1) \
        select count(*) from requeued";
    let mut total = 0;
    loop {
        let query = sqlx::query(requeue).bind(REQUEUE_MAX_ROWS);
        let requeued = execute(executor.reborrow(), query).await;
        let requeued = count(&requeued.map_err(|error| error.after(total > 0))?)?;
        total += requeued;
        if requeued < REQUEUE_MAX_ROWS as u64 {
            return Ok(total);
        }
    }
}

/// Makes every event that was published from `from` (inclusive) to `to` (exclusive) and not yet purged ready to
/// publish again, with its old message id, at 5,000 per second. Returns the number of events. Deliveries of the
/// replay itself are never replayed, however late `to` is. Works in bounded batches: after an error half-way, the
/// rest is left for another call.
pub async fn replay(
    mut executor: Executor<'_>,
    from: OffsetDateTime,
    to: OffsetDateTime,
) -> Result<u64, Error> {
    #[derive(Clone, Copy, FromRow)]
    struct Replayed {
        count: i64,
        last: Option<OffsetDateTime>,
    }
    let now = sqlx::query("-- outbox replay: when\nselect statement_timestamp()");
    let rows: Vec<(OffsetDateTime,)> = fetch(executor.reborrow(), now).await?;
    let (now,) = *rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let replay = "-- outbox replay\n\
        with replayed as ( \
          update outbox_events e set published_at = null, attempts = 0, next_attempt_at = q.next_attempt_at, \
            last_error = $7 \
          from (select id, published_at, $3 + ($5 + row_number() over ()) / $6 * interval '1 s' as next_attempt_at from ( \
            select id, published_at from outbox_events where published_at >= $1 and published_at < $2 \
            order by published_at limit $4 for update skip locked) q) q \
          where e.id = q.id \
          returning q.published_at) \
        select count(*) as count, max(published_at) as last from replayed";
    // Each batch starts where the last one ended. Otherwise, within one transaction, it would read the dead row
    // versions of all earlier batches.
    let (mut from, mut total) = (from, 0);
    loop {
        let query = sqlx::query(replay)
            .bind(from)
            .bind(to.min(now))
            .bind(now)
            .bind(REQUEUE_MAX_ROWS)
            .bind(total as f64)
            .bind(REPLAY_PER_SECOND)
            .bind(REPLAYED);
        let rows = fetch(executor.reborrow(), query).await;
        let rows: Vec<Replayed> = rows.map_err(|error| error.after(total > 0))?;
        let batch = *rows.first().ok_or(sqlx::Error::RowNotFound)?;
        from = batch.last.unwrap_or(from);
        let replayed = batch.count.unsigned_abs();
        total += replayed;
        if replayed < REQUEUE_MAX_ROWS as u64 {
            return Ok(total);
        }
    }
}

/// State of the outbox. Rows beyond [`STATUS_MAX_ROWS`] are not counted: they are younger than the counted ones, or
/// wait for another attempt.
pub async fn status(executor: impl Into<Executor<'_>>) -> Result<Status, Error> {
    let status = "-- outbox status\n\
        select q.depth, q.oldest_age_seconds, d.dead from ( \
          select count(*) as depth, \
            coalesce(extract(epoch from greatest(statement_timestamp() - min(created_at), \
              max(created_at) - statement_timestamp()))::float8, 0) as oldest_age_seconds \
          from (select created_at from outbox_events where published_at is null and dead_at is null \
            order by next_attempt_at, id limit $1) unpublished) q, ( \
          select count(*) as dead from (select 1 from outbox_events where dead_at is not null \
            order by id limit $1) dead) d";
    let rows: Vec<Status> = fetch(executor, sqlx::query(status).bind(STATUS_MAX_ROWS)).await?;
    rows.first()
        .copied()
        .ok_or_else(|| sqlx::Error::RowNotFound.into())
}

fn count(rows: &[PgRow]) -> Result<u64, Error> {
    let (count,) = rows.first().map(<(i64,)>::from_row).unwrap_or(Ok((0,)))?;
    Ok(count.unsigned_abs())
}
