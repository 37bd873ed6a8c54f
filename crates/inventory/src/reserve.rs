//! reserve: takes free units of a product and holds them for a user.

use std::time::Duration;

use sqlx::{
    Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use time::OffsetDateTime;
use trace::Span;

use crate::{
    Error, ProductId, Quantity, ReservationId, UserId,
    batch::Batch,
    database::{Connections, Executor, execute, no_such_outcome},
    event::Events,
    idempotency::{Key, StoredOutcome},
    reservation::{Reference, Refusal, Reservation, Status},
    trace_events::{self, Traced},
    transition::Change,
};

/// A request for a hold.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// The product.
    pub product_id: ProductId,
    /// The user, who may have one hold per product.
    pub user_id: UserId,
    /// Number of units.
    pub quantity: Quantity,
    /// The shop's own name of the reservation.
    pub reference: Option<Reference>,
    /// The span of the request, which its event continues.
    pub span: Span,
}

/// Reserves with the same result as one call per request in order. A hold lasts as long as its product defines, or
/// else `hold_seconds`.
///
/// Refuses, in this order: [`Refusal::ProductNotFound`], [`Refusal::AlreadyReserved`], [`Refusal::SaleNotOpen`],
/// [`Refusal::SaleClosed`], [`Refusal::SoldOut`] or [`Refusal::SoldOutToWaitlist`], [`Refusal::MaxPerUserReached`]. Holds past their deadline do
/// not block a request: the user's own hold is expired, and holds of others are reclaimed as far as the batch lacks
/// units.
pub async fn reserve(
    executor: impl Into<Executor<'_>>,
    requests: &[Reserve],
    hold_seconds: i32,
    events: &Events,
) -> Result<Batch, Error> {
    let executor = executor.into();
    // A transaction would keep the locks of a failed attempt while it waits for the others, which could deadlock.
    if let Executor::Alone(connections) = executor {
        let tried = decide(connections, TRY, requests, hold_seconds, events).await?;
        if !tried.busy {
            return batch(tried);
        }
    }
    batch(decide(executor, RESERVE, requests, hold_seconds, events).await?)
}

/// As [`reserve`], for requests with idempotency keys: one call reserves, and stores each outcome under its key.
/// `None`: nothing was done, because one of the keys is known, in use, or given twice.
/// [`execute_once`](crate::idempotency::execute_once) can handle these.
pub async fn reserve_once(
    connections: impl Into<Connections<'_>>,
    keys: &[Key],
    requests: &[Reserve],
    hold_seconds: i32,
    events: &Events,
) -> Result<Option<Batch>, Error> {
    fn column<'a, T>(keys: &'a [Key], value: impl Fn(&'a Key) -> T) -> Vec<T> {
        keys.iter().map(value).collect()
    }
    let query = query(ONCE, requests, hold_seconds, events)
        .bind(column(keys, |key| &*key.client))
        .bind(column(keys, |key| &*key.key))
        .bind(column(keys, |key| &key.fingerprint[..]));
    let decided = send(
        Executor::Alone(connections.into()),
        query,
        requests,
        hold_seconds,
        events,
    )
    .await?;
    match decided.busy {
        true => Ok(None),
        false => batch(decided).map(Some),
    }
}

/// The outcome of `request`, which [`reserve_once`] has stored. Fails if a newer release has stored an outcome that this
/// release does not know.
pub fn restore(
    stored: &StoredOutcome,
    request: &Reserve,
) -> Result<Result<Reservation, Refusal>, Error> {
    let StoredOutcome {
        outcome,
        reservation_id,
        number,
        created_at,
    } = stored;
    let created_at = Some(*created_at);
    let answer = answer(request, outcome, *reservation_id, *number, created_at);
    Ok(answer?)
}

const RESERVE: &str = "-- reserve
    select outcomes, ids, numbers, reserved_at, expired, busy, waited
    from reserve_v3($1, $2, $3, $4, $5, $6)";

/// As [`RESERVE`], but does nothing if another session has locked one of several products. Otherwise it needs one statement
/// less for each product.
const TRY: &str = "-- reserve
    select outcomes, ids, numbers, reserved_at, expired, busy, waited
    from reserve_v3($1, $2, $3, $4, $5, $6, wait => false)";

const ONCE: &str = "-- reserve once
    select outcomes, ids, numbers, reserved_at, expired, busy, waited
    from reserve_once_v3($1, $2, $3, $4, $5, $6, $7, $8, $9)";

fn batch(decided: BatchResult) -> Result<Batch, Error> {
    let mut answers = Vec::with_capacity(decided.answers.len());
    for answer in decided.answers {
        answers.push(answer.ok_or_else(|| no_such_outcome("none"))?);
    }
    let changes = vec![Change::Reserved; answers.len()];
    let mut batch = Batch::new(answers, changes, decided.expired);
    batch.offered = decided.offered;
    batch.waited = decided.waited;
    Ok(batch)
}

/// Result of a function that reserves. A request without an answer was rolled back.
pub(crate) struct BatchResult {
    pub(crate) answers: Vec<Option<Result<Reservation, Refusal>>>,
    pub(crate) expired: u64,
    /// Number of holds that were offered to users who waited for units.
    pub(crate) offered: u64,
    /// How long the call has waited for locks.
    waited: Duration,
    /// Nothing was done, because another transaction holds a lock, or because of a key.
    busy: bool,
}

/// Calls a function that reserves.
pub(crate) async fn decide(
    executor: impl Into<Executor<'_>>,
    statement: &'static str,
    requests: &[Reserve],
    hold_seconds: i32,
    events: &Events,
) -> Result<BatchResult, Error> {
    let query = query(statement, requests, hold_seconds, events);
    send(executor.into(), query, requests, hold_seconds, events).await
}

fn query<'q>(
    statement: &'static str,
    requests: &'q [Reserve],
    hold_seconds: i32,
    events: &'q Events,
) -> Query<'q, Postgres, PgArguments> {
    fn column<'a, T>(requests: &'a [Reserve], value: impl Fn(&'a Reserve) -> T) -> Vec<T> {
        requests.iter().map(value).collect()
    }
    // Without any reference, an empty array saves their cost.
    let references = match requests.iter().any(|request| request.reference.is_some()) {
        true => column(requests, |request| {
            request.reference.as_ref().map(Reference::as_str)
        }),
        false => Vec::new(),
    };
    sqlx::query(statement)
        .bind(column(requests, |request| request.product_id.get()))
        .bind(column(requests, |request| request.user_id.get()))
        .bind(column(requests, |request| request.quantity.get()))
        .bind(references)
        .bind(hold_seconds)
        .bind(events.types())
}

async fn send(
    executor: Executor<'_>,
    query: Query<'_, Postgres, PgArguments>,
    requests: &[Reserve],
    hold_seconds: i32,
    events: &Events,
) -> Result<BatchResult, Error> {
    let spans = requests.iter().map(|request| &request.span);
    let call = async |executor: Executor<'_>| {
        let [row] = &execute(executor, query).await?[..] else {
            return Err(sqlx::Error::RowNotFound.into());
        };
        Ok::<_, Error>(read(row, requests, hold_seconds)?)
    };
    let event = (events, "ReservationCreated");
    trace_events::call(executor, event, spans, call, |decided: &BatchResult| {
        let mut traced = Traced::default();
        for (request, answer) in requests.iter().zip(&decided.answers) {
            if let Some(Ok(hold)) = answer {
                traced.add(&request.span, Change::Reserved, hold);
            }
        }
        traced
    })
    .await
}

fn read(row: &PgRow, requests: &[Reserve], hold_seconds: i32) -> Result<BatchResult, sqlx::Error> {
    if row.try_get("busy")? {
        return Ok(BatchResult {
            answers: Vec::new(),
            expired: 0,
            offered: 0,
            waited: Duration::ZERO,
            busy: true,
        });
    }
    let outcomes: Vec<Option<String>> = row.try_get("outcomes")?;
    let ids: Vec<Option<ReservationId>> = row.try_get("ids")?;
    let numbers: Vec<Option<i32>> = row.try_get("numbers")?;
    let reserved_at: Option<OffsetDateTime> = row.try_get("reserved_at")?;
    let expired: i64 = row.try_get("expired")?;
    let waited: i32 = row.try_get("waited")?;

    let mut answers = Vec::with_capacity(requests.len());
    for (position, (request, id)) in requests.iter().zip(ids).enumerate() {
        // An empty array means that all requests were reserved.
        let outcome = match outcomes.is_empty() {
            true => Some("reserved"),
            false => outcomes.get(position).and_then(Option::as_deref),
        };
        let number = numbers.get(position).copied().flatten();
        let number = match outcome {
            Some("reserved") => number.or(Some(hold_seconds)),
            _ => number,
        };
        let answer = outcome.map(|outcome| answer(request, outcome, id, number, reserved_at));
        answers.push(answer.transpose()?);
    }
    Ok(BatchResult {
        answers,
        expired: expired.unsigned_abs(),
        offered: outcomes.len().saturating_sub(requests.len()) as u64,
        waited: Duration::from_micros(u64::try_from(waited).unwrap_or(0)),
        busy: false,
    })
}

/// The answer to a request. `number` is the seconds of the hold, or the number in the refusal.
fn answer(
    request: &Reserve,
    outcome: &str,
    id: Option<ReservationId>,
    number: Option<i32>,
    reserved_at: Option<OffsetDateTime>,
) -> Result<Result<Reservation, Refusal>, sqlx::Error> {
    let units = number.unwrap_or(0);
    Ok(match (outcome, id, number, reserved_at) {
        ("reserved", Some(id), Some(seconds), Some(created_at)) => Ok(Reservation {
            id,
            product_id: request.product_id,
            user_id: request.user_id,
            quantity: request.quantity,
            status: Status::Active,
            created_at,
            expires_at: created_at + time::Duration::seconds(seconds.into()),
            confirmed_at: None,
            canceled_at: None,
            expired_at: None,
            returned_at: None,
            reference: request.reference.clone(),
            reacquired_from: None,
        }),
        ("already_reserved", Some(reservation_id), ..) => {
            Err(Refusal::AlreadyReserved { reservation_id })
        }
        // Users wait in the line of this product.
        ("sold_out", Some(_), ..) => Err(Refusal::SoldOutToWaitlist { free: units }),
        ("sold_out", ..) => Err(Refusal::SoldOut { free: units }),
        ("max_per_user_reached", ..) => Err(Refusal::MaxPerUserReached { remaining: units }),
        ("sale_not_open", ..) => Err(Refusal::SaleNotOpen),
        ("sale_closed", ..) => Err(Refusal::SaleClosed),
        ("product_not_found", ..) => Err(Refusal::ProductNotFound),
        _ => return Err(no_such_outcome(outcome)),
    })
}
