//! reacquire: sells the units of an EXPIRED reservation, after a late payment.

use std::iter::once;

use sqlx::{FromRow as _, Row, postgres::PgRow};
use trace::Span;

use crate::{
    Error, ReservationId,
    batch::Batch,
    database::{Executor, execute},
    event::Events,
    reservation::{Refusal, Reservation, Status, answer, of_result},
    trace_events,
    transition::Change,
};

/// Sells the units of an EXPIRED reservation if enough units are free and nobody waits for them. The result is a new
/// reservation, which is CONFIRMED from the start. A repeat returns the same reservation.
///
/// The refusals are [`Refusal::ExpiredSoldOut`] and [`Refusal::MaxPerUserReached`]. If the hold has not expired, they
/// are those of [`confirm`](crate::confirm::confirm). The event continues the trace of `span`.
///
/// # Errors
///
/// The call was not done, or its outcome is unknown. A refusal is an answer, not an error.
pub async fn reacquire(
    executor: impl Into<Executor<'_>>,
    id: ReservationId,
    span: &Span,
    events: &Events,
) -> Result<Batch, Error> {
    let query = sqlx::query(concat!(
        "-- reacquire
        select outcome, remaining, expired, offered, coalesce(outcome = 'reacquired', false) as changed, ",
        of_result!(),
        " from reacquire_v2($1, $2)"
    ))
    .bind(id)
    .bind(events.types());
    let call = async |executor: Executor<'_>| {
        let rows = execute(executor, query).await?;
        Ok::<_, Error>(read(rows.first().ok_or(sqlx::Error::RowNotFound)?)?)
    };
    let event = (events, "ReservationConfirmed");
    trace_events::call_batch(executor.into(), event, once(span), call).await
}

/// Reads the result of `reacquire_v2`.
pub(crate) fn read(row: &PgRow) -> Result<Batch, sqlx::Error> {
    let (expired, offered): (i64, i64) = (row.try_get("expired")?, row.try_get("offered")?);
    let changed: bool = row.try_get("changed")?;
    let found: Option<ReservationId> = row.try_get("id")?;
    let answer = match row.try_get("outcome")? {
        Some("expired_sold_out") => Err(Refusal::ExpiredSoldOut),
        Some("max_per_user_reached") => Err(Refusal::MaxPerUserReached {
            remaining: row.try_get("remaining")?,
        }),
        _ => match found {
            Some(_) => answer(Status::Confirmed, Some(&Reservation::from_row(row)?)),
            None => Err(Refusal::ReservationNotFound),
        },
    };
    let change = match changed {
        true => Change::Reacquired,
        false => Change::Repeated,
    };
    let mut batch = Batch::new(vec![answer], vec![change], expired.unsigned_abs());
    batch.offered = offered.unsigned_abs();
    Ok(batch)
}
