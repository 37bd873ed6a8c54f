//! Idempotency keys: a repeated request gets the stored answer of the first one.
//!
//! The key, the work and the answer are written in one transaction: all are committed together or none. A second
//! request with the same key waits for the first one's commit. There is no "in progress" mark, so a process that
//! crashes leaves nothing behind.

use std::{collections::HashMap, time::Duration};

use futures_util::future::BoxFuture;
use sqlx::{FromRow, PgConnection, PgPool, Row, postgres::PgRow};
use time::OffsetDateTime;

use crate::{
    Error, ReservationId,
    database::{Connections, End, Executor, execute, transact},
};

/// An idempotency key and the request that was sent with it.
#[derive(Clone, Debug)]
pub struct Key {
    /// The client that the key belongs to.
    pub client: String,
    /// The key: 1–255 characters without NUL.
    pub key: String,
    /// Cryptographic hash of the request, to detect a different request with the same key.
    pub fingerprint: [u8; 32],
}

/// A stored answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status, 200–499.
    pub status: i16,
    /// Value of the Location header.
    pub location: Option<String>,
    /// The body.
    pub body: String,
}

/// The outcome of a reserve, as [`reserve_once`](crate::reserve::reserve_once) stores it: what the request does not say
/// itself. [`restore`](crate::reserve::restore) puts both together.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct StoredOutcome {
    pub(crate) outcome: String,
    pub(crate) reservation_id: Option<ReservationId>,
    pub(crate) number: Option<i32>,
    pub(crate) created_at: OffsetDateTime,
}

/// Outcome of a request with a key.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyOutcome {
    /// The request was done now, and its answer is stored.
    Done(Answer),
    /// The request was done earlier. This is its stored answer.
    Replayed(Answer),
    /// The reserve was done earlier. This is its stored outcome.
    ReplayedReserve(StoredOutcome),
    /// The key belongs to another request.
    Reused,
    /// An earlier request with this key is still in progress. Nothing was done for this one.
    InUse,
}

/// Result of the work for the new requests.
pub enum WorkOutcome<T, U> {
    /// Commit the work and store one answer per new request, in order.
    Keep(Vec<Answer>, T),
    /// Roll back, and store nothing.
    Undo(U),
}

/// Result of [`execute_once`].
pub enum Executed<T, U> {
    /// One outcome per key, in order, and the result of the work if there were new requests.
    Kept(Vec<KeyOutcome>, Option<T>),
    /// The work was rolled back.
    Undone(U),
}

/// A claimed key. `answer` is `None` if this transaction claimed it and has no answer yet.
struct Taken {
    fingerprint: Vec<u8>,
    answer: Option<Stored>,
}

/// The two kinds of stored answers.
enum Stored {
    Answer(Answer),
    Reserve(StoredOutcome),
}

/// Runs `work` for the requests whose keys are new. `work` gets the transaction and the positions of these requests
/// in `keys`. Of several requests with the same key, the first counts as new.
///
/// [`Error::NotDone`]: nothing was done and nothing stored. [`Error::OutcomeUnknown`]: both or neither. A repeated
/// request finds out which.
pub async fn execute_once<T, U, W>(
    connections: impl Into<Connections<'_>>,
    keys: &[Key],
    work: W,
) -> Result<Executed<T, U>, Error>
where
    W: for<'a> FnOnce(
        &'a mut PgConnection,
        Vec<usize>,
    ) -> BoxFuture<'a, Result<WorkOutcome<T, U>, Error>>,
{
    let work = async |transaction: &mut PgConnection| {
        let firsts = firsts(keys);
        let mut taken = claim(transaction, keys, &firsts).await?;
        let new = taken_now(&taken);
        let mut done = None;
        if !new.is_empty() {
            let answers = match work(transaction, new.clone()).await? {
                WorkOutcome::Undo(done) => return Ok((End::Rollback, Executed::Undone(done))),
                WorkOutcome::Keep(answers, worked) => {
                    done = Some(worked);
                    answers
                }
            };
            keep(transaction, keys, &new, &answers).await?;
            add(&mut taken, &new, answers);
        }
        let outcomes = outcomes(keys, &firsts, &new, &taken);
        Ok((End::Commit, Executed::Kept(outcomes, done)))
    };
    transact(connections, work).await
}

/// As [`execute_once`], but for new keys only, and faster: each key is inserted once, with its answer. `None`: nothing
/// was done, because one of the keys is known, in use, or given twice.
pub async fn execute_new<T, U, W>(
    connections: impl Into<Connections<'_>>,
    keys: &[Key],
    work: W,
) -> Result<Option<Executed<T, U>>, Error>
where
    W: for<'a> FnOnce(
        &'a mut PgConnection,
        Vec<usize>,
    ) -> BoxFuture<'a, Result<WorkOutcome<T, U>, Error>>,
{
    let work = async |transaction: &mut PgConnection| {
        let all = (0..keys.len()).collect();
        let (answers, worked) = match work(transaction, all).await? {
            WorkOutcome::Undo(done) => return Ok((End::Rollback, Some(Executed::Undone(done)))),
            WorkOutcome::Keep(answers, worked) => (answers, worked),
        };
        if !insert(transaction, keys, &answers).await? {
            return Ok((End::Rollback, None));
        }
        let outcomes = answers.into_iter().map(KeyOutcome::Done).collect();
        Ok((End::Commit, Some(Executed::Kept(outcomes, Some(worked)))))
    };
    transact(connections, work).await
}

/// For each key, the first position with the same key.
fn firsts(keys: &[Key]) -> Vec<usize> {
    let mut firsts: HashMap<_, usize> = HashMap::with_capacity(keys.len());
    let positions = keys.iter().enumerate();
    positions
        .map(|(position, key)| *firsts.entry((&key.client, &key.key)).or_insert(position))
        .collect()
}

/// The positions of the keys that this transaction has claimed.
fn taken_now(taken: &[Option<Taken>]) -> Vec<usize> {
    let is_new = |position: &usize| matches!(&taken[*position], Some(Taken { answer: None, .. }));
    (0..taken.len()).filter(is_new).collect()
}

fn add(taken: &mut [Option<Taken>], new: &[usize], answers: Vec<Answer>) {
    assert_eq!(answers.len(), new.len(), "an answer for each new request");
    for (position, answer) in new.iter().zip(answers) {
        if let Some(taken) = &mut taken[*position] {
            taken.answer = Some(Stored::Answer(answer));
        }
    }
}

/// One outcome per key, in order.
fn outcomes(
    keys: &[Key],
    firsts: &[usize],
    new: &[usize],
    taken: &[Option<Taken>],
) -> Vec<KeyOutcome> {
    let outcomes = keys.iter().zip(firsts).enumerate();
    let outcomes = outcomes.map(|(position, (key, first))| match &taken[*first] {
        Some(Taken {
            fingerprint,
            answer: Some(_),
        }) if *fingerprint != key.fingerprint => KeyOutcome::Reused,
        Some(Taken {
            answer: Some(Stored::Answer(answer)),
            ..
        }) => match new.binary_search(&position).is_ok() {
            true => KeyOutcome::Done(answer.clone()),
            false => KeyOutcome::Replayed(answer.clone()),
        },
        Some(Taken {
            answer: Some(Stored::Reserve(outcome)),
            ..
        }) => KeyOutcome::ReplayedReserve(outcome.clone()),
        _ => KeyOutcome::InUse,
    });
    outcomes.collect()
}

/// The claimed or stored keys by position. `None` except at the first position of each key, and for keys in use.
async fn claim(
    transaction: &mut PgConnection,
    keys: &[Key],
    firsts: &[usize],
) -> Result<Vec<Option<Taken>>, Error> {
    let claims: Vec<usize> = (0..keys.len())
        .filter(|position| firsts[*position] == *position)
        .collect();
    let query = sqlx::query(
        "-- claim keys
        select fingerprint, status, location, body, outcome, reservation_id, number, created_at
        from claim_keys_v2($1, $2, $3)
        order by n",
    )
    .bind(column(keys, &claims, |key| &*key.client))
    .bind(column(keys, &claims, |key| &*key.key))
    .bind(column(keys, &claims, |key| &key.fingerprint[..]));
    let rows = execute(Executor::Transaction(transaction), query).await?;
    let mut taken: Vec<_> = keys.iter().map(|_| None).collect();
    for (position, row) in claims.into_iter().zip(&rows) {
        taken[position] = read(row)?;
    }
    Ok(taken)
}

fn read(row: &PgRow) -> Result<Option<Taken>, sqlx::Error> {
    let Some(fingerprint) = row.try_get("fingerprint")? else {
        return Ok(None);
    };
    let status: Option<i16> = row.try_get("status")?;
    let outcome: Option<&str> = row.try_get("outcome")?;
    let answer = match (status, outcome) {
        (_, Some(_)) => Some(Stored::Reserve(StoredOutcome::from_row(row)?)),
        (Some(status), None) => Some(Stored::Answer(Answer {
            status,
            location: row.try_get("location")?,
            body: row.try_get("body")?,
        })),
        (None, None) => None,
    };
    Ok(Some(Taken {
        fingerprint,
        answer,
    }))
}

async fn keep(
    transaction: &mut PgConnection,
    keys: &[Key],
    new: &[usize],
    answers: &[Answer],
) -> Result<(), Error> {
    let query = sqlx::query("-- keep answers\nselect keep_answers_v2($1, $2, $3, $4, $5)")
        .bind(column(keys, new, |key| &*key.client))
        .bind(column(keys, new, |key| &*key.key))
        .bind(part(answers, |answer| answer.status))
        .bind(part(answers, |answer| answer.location.as_deref()))
        .bind(part(answers, |answer| &*answer.body));
    execute(Executor::Transaction(transaction), query).await?;
    Ok(())
}

/// Returns whether the answers are stored.
async fn insert(
    transaction: &mut PgConnection,
    keys: &[Key],
    answers: &[Answer],
) -> Result<bool, Error> {
    let insert = "-- insert answers\nselect insert_answers_v3($1, $2, $3, $4, $5, $6) as inserted";
    let query = sqlx::query(insert)
        .bind(part(keys, |key| &*key.client))
        .bind(part(keys, |key| &*key.key))
        .bind(part(keys, |key| &key.fingerprint[..]))
        .bind(part(answers, |answer| answer.status))
        .bind(part(answers, |answer| answer.location.as_deref()))
        .bind(part(answers, |answer| &*answer.body));
    let rows = execute(Executor::Transaction(transaction), query).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(row.try_get("inserted")?)
}

fn part<'a, S, T>(all: &'a [S], value: impl Fn(&'a S) -> T) -> Vec<T> {
    all.iter().map(value).collect()
}

fn column<'a, T>(keys: &'a [Key], positions: &[usize], value: impl Fn(&'a Key) -> T) -> Vec<T> {
    let keys = positions.iter().map(|position| &keys[*position]);
    keys.map(value).collect()
}

/// The answers that [`purge`] deletes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kept {
    /// Answers of requests that were done.
    Done,
    /// Refusals. Nothing was done for these requests, so a late repeat does no harm. A product that is sold out can
    /// have millions of them per hour.
    Refused,
}

/// Deletes up to `max_rows` keys with such answers older than `age`, oldest first. Returns the number of rows. Several
/// processes may purge at once.
pub async fn purge(pool: &PgPool, kept: Kept, age: Duration, max_rows: i64) -> Result<u64, Error> {
    let query = sqlx::query(
        "-- idempotency purge
        with gone as (
            delete from idempotency_keys where ctid = any(array(
                select ctid from idempotency_keys
                where (status >= 400) = $1 and created_at < statement_timestamp() - make_interval(secs => $2)
                order by created_at limit $3 for update skip locked))
            returning 1)
        select count(*) as purged from gone",
    )
    .bind(kept == Kept::Refused)
    .bind(age.as_secs_f64())
    .bind(max_rows);
    let rows = execute(pool, query).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let purged: i64 = row.try_get("purged")?;
    Ok(purged.unsigned_abs())
}
