//! The outbox: events that were committed with what they tell of, and wait for the relay.
//!
//! | verb | what it does to rows |
//! |---|---|
//! | (the verbs) | write them, in the transaction that they tell of |
//! | [`claim`] | locks those that may be tried now; SKIP LOCKED deals them out to any number of relays |
//! | [`publish`] | acked by the broker: done |
//! | [`back_off`] | nobody to deliver to, or no room: later again, for ever |
//! | [`refuse`] | counts a refusal; the last one buries the row |
//! | [`purge`] | forgets what was published long ago |
//! | [`requeue_dead`] | digs all buried rows up again |
//! | [`replay`] | has what was published published again |
//!
//! Ids become visible out of order, so nothing remembers a last id: `published_at is null` decides.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use sqlx::{
    Connection as _, FromRow, PgConnection, PgPool, Postgres, Transaction, postgres::PgRow,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error,
    database::{Via, call, fetch},
    event::Event,
    schema::Utc,
};

/// A row that its transaction holds locked.
#[derive(Debug, FromRow)]
pub struct Claimed {
    pub id: i64,
    pub event_id: Uuid,
    pub event_type: String,
    payload: String,
    pub created_at: OffsetDateTime,
}

impl Claimed {
    /// The event, or why this release cannot tell what it is.
    pub fn event(&self) -> Result<Event, serde_json::Error> {
        Event::read(&self.event_type, &self.payload)
    }
}

/// A row that was refused too often, or that nobody can read.
#[derive(Clone, Debug, Serialize, JsonSchema, FromRow)]
#[schemars(rename = "DeadEvent")]
pub struct Dead {
    pub id: i64,
    #[schemars(extend("format" = "uuid"), with = "String")]
    pub event_id: Uuid,
    pub event_type: String,
    pub payload: serde_json::Value,
    pub attempts: i32,
    pub last_error: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "Utc")]
    pub dead_at: OffsetDateTime,
}

/// How the queue stands. Counts stop at [`STATUS_MAX_ROWS`].
#[derive(Clone, Copy, Debug, PartialEq, FromRow)]
pub struct Status {
    pub depth: i64,
    pub oldest_age_seconds: f64,
    pub dead: i64,
}

/// Longest life of a transaction made by [`begin`]: the longest that a frozen relay keeps its rows, and
/// that vacuum is held back.
pub const TRANSACTION_LIMIT: Duration = Duration::from_secs(2);

/// Counted from [`begin`], the time by which publishing must have ended: it leaves room for the mark.
pub const PUBLISH_LIMIT: Duration = Duration::from_millis(1_100);

/// Where counting stops: as many index entries are read in some 50 ms, and an operator learns nothing
/// from a greater number.
pub const STATUS_MAX_ROWS: i64 = 100_000;

const LIST_MAX_ROWS: i64 = 100;
const REQUEUE_MAX_ROWS: i64 = 1_000;

/// How many replayed events fall due in a second: a part of what a relay publishes, so that new events pass
/// between them.
const REPLAY_PER_SECOND: f64 = 5_000.0;

/// Begins the transaction in which rows are claimed, published and marked.
///
/// A statement has 0.8 s and a pause between two of them 1.2 s: whichever side freezes, PostgreSQL ends
/// the transaction within [`TRANSACTION_LIMIT`].
///
/// The commit does not wait for the disk: a mark that is lost in a crash is a repeated delivery, which
/// consumers have to expect anyway. The planner is left with the ordered index scan. Its statistics may
/// be of a time when nothing was queued, and sorting a backlog of a million rows for every batch would
/// never let it end.
pub async fn begin(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>, Error> {
    // One simple query is one round trip, and SET LOCAL is what PgBouncer's transaction mode allows.
    let begin = "begin; \
        set local statement_timeout = '800ms'; \
        set local idle_in_transaction_session_timeout = '1200ms'; \
        set local synchronous_commit = off; \
        set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_sort = off";
    Ok(connection.begin_with(begin).await?)
}

/// Locks up to `max_rows` rows that may be tried now, longest due first.
pub async fn claim(transaction: &mut PgConnection, max_rows: i64) -> Result<Vec<Claimed>, Error> {
    // clock_timestamp() could not be an index condition: every poll would read all rows that are backed off.
    let claim = "-- outbox claim: what may be tried now\n\
        select id, event_id, event_type, payload::text as payload, created_at from outbox_events \
        where published_at is null and dead_at is null and next_attempt_at <= statement_timestamp() \
        order by next_attempt_at, id limit $1 \
        for update skip locked";
    Ok(sqlx::query_as(claim)
        .bind(max_rows)
        .fetch_all(transaction)
        .await?)
}

// What an update sets is reckoned in its FROM: Citus takes no function that is not immutable over a column in SET.
//
// The statements below find their rows by id, and say `num_nonnulls(…) = 0` where they mean "not published and
// not dead": from the plain words the planner knows that the rows are in the index of what is to be published.
// With statistics from a quiet hour it believes that index to be empty, reads all of it for each batch, and
// with a million rows waiting no batch is ever marked in time.

/// The broker has taken responsibility for these rows.
pub async fn publish(transaction: &mut PgConnection, ids: &[i64]) -> Result<(), Error> {
    let publish = "-- outbox publish: acked by the broker\n\
        update outbox_events set published_at = statement_timestamp(), last_error = null \
        where id = any($1) and num_nonnulls(published_at, dead_at) = 0";
    sqlx::query(publish).bind(ids).execute(transaction).await?;
    Ok(())
}

/// These rows have nobody to go to, or nobody who takes any. They wait as long as they are old, from one second to one minute:
/// after an outage of the topology, what it delayed by a minute comes at most another minute late.
pub async fn back_off(
    transaction: &mut PgConnection,
    ids: &[i64],
    error: &str,
) -> Result<(), Error> {
    let back_off = "-- outbox back off: unroutable, or turned away\n\
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

/// Counts one refusal of each row. Returns the events that had their last attempt with it; the others
/// wait 1, 2, 4, … seconds, at most five minutes.
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
    let refuse = "-- outbox refuse: count it, and bury the row at the last\n\
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

/// Deletes up to `max_rows` rows that were published longer than `retention_hours` ago, oldest first, and
/// returns how many. Several relays may purge at once.
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
        &call(
            pool,
            sqlx::query(purge).bind(retention_hours).bind(max_rows),
        )
        .await?,
    )
}

/// The dead rows, oldest first, at most 100.
pub async fn list_dead(pool: &PgPool) -> Result<Vec<Dead>, Error> {
    let list = "-- outbox list dead\n\
        select id, event_id, event_type, payload, attempts, last_error, dead_at from outbox_events \
        where dead_at is not null order by id limit $1";
    fetch(pool, sqlx::query(list).bind(LIST_MAX_ROWS)).await
}

/// Gives every dead row all its attempts again, and returns how many there were. In bounded batches: an
/// error half-way leaves the rest dead, for another call.
pub async fn requeue_dead(mut via: Via<'_>) -> Result<u64, Error> {
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
        let requeued = call(via.again(), query).await;
        let requeued = count(&requeued.map_err(|error| error.after(total > 0))?)?;
        total += requeued;
        if requeued < REQUEUE_MAX_ROWS as u64 {
            return Ok(total);
        }
    }
}

/// Has every event that was published from `from` on and before `to`, and is kept still, published again with
/// its message id, at 5,000 a second; returns how many there are. What the replay itself publishes is no part
/// of it, however late `to` is. In bounded batches: an error half-way leaves the rest, for another call.
pub async fn replay(
    mut via: Via<'_>,
    from: OffsetDateTime,
    to: OffsetDateTime,
) -> Result<u64, Error> {
    #[derive(Clone, Copy, FromRow)]
    struct Replayed {
        count: i64,
        last: Option<OffsetDateTime>,
    }
    let now = sqlx::query("-- outbox replay: when\nselect statement_timestamp()");
    let rows: Vec<(OffsetDateTime,)> = fetch(via.again(), now).await?;
    let (now,) = *rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let replay = "-- outbox replay\n\
        with replayed as ( \
          update outbox_events e set published_at = null, attempts = 0, next_attempt_at = q.next_attempt_at \
          from (select id, published_at, $3 + ($5 + row_number() over ()) / $6 * interval '1 s' as next_attempt_at from ( \
            select id, published_at from outbox_events where published_at >= $1 and published_at < $2 \
            order by published_at limit $4 for update skip locked) q) q \
          where e.id = q.id \
          returning q.published_at) \
        select count(*) as count, max(published_at) as last from replayed";
    // The next batch begins where the last one ended: in one transaction it would walk over the remains of all.
    let (mut from, mut total) = (from, 0);
    loop {
        let query = sqlx::query(replay)
            .bind(from)
            .bind(to.min(now))
            .bind(now)
            .bind(REQUEUE_MAX_ROWS)
            .bind(total as f64)
            .bind(REPLAY_PER_SECOND);
        let rows = fetch(via.again(), query).await;
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

/// How the queue stands. Beyond [`STATUS_MAX_ROWS`] the rest goes uncounted: those rows are younger than
/// the ones before them, or wait for another attempt.
pub async fn status(via: impl Into<Via<'_>>) -> Result<Status, Error> {
    let status = "-- outbox status\n\
        select q.depth, q.oldest_age_seconds, d.dead from ( \
          select count(*) as depth, coalesce(extract(epoch from \
            greatest(statement_timestamp() - min(created_at), '0 s'))::float8, 0) as oldest_age_seconds \
          from (select created_at from outbox_events where published_at is null and dead_at is null \
            order by next_attempt_at, id limit $1) unpublished) q, ( \
          select count(*) as dead from (select 1 from outbox_events where dead_at is not null \
            order by id limit $1) dead) d";
    let rows: Vec<Status> = fetch(via, sqlx::query(status).bind(STATUS_MAX_ROWS)).await?;
    rows.first()
        .copied()
        .ok_or_else(|| sqlx::Error::RowNotFound.into())
}

fn count(rows: &[PgRow]) -> Result<u64, Error> {
    let (count,) = rows.first().map(<(i64,)>::from_row).unwrap_or(Ok((0,)))?;
    Ok(count.unsigned_abs())
}
