//! return: takes back sold units.

use std::iter::once;

use trace::Span;

use crate::{
    Error, ReservationId,
    batch::{Batch, batch_ended_as},
    database::{Executor, execute},
    event::Events,
    reservation::{Status, of_result, raw},
    trace_events::{self, Traced},
    transition::Change,
};

/// Frees the units of each reservation that is CONFIRMED.
///
/// A reservation that is already RETURNED gets the same answer again. Refuses with [`Refusal::ReservationNotFound`],
/// [`Refusal::ReservationNotConfirmed`], [`Refusal::ReservationExpired`] and [`Refusal::ReservationCanceled`].
///
/// [`Refusal::ReservationNotFound`]: crate::reservation::Refusal::ReservationNotFound
/// [`Refusal::ReservationNotConfirmed`]: crate::reservation::Refusal::ReservationNotConfirmed
/// [`Refusal::ReservationExpired`]: crate::reservation::Refusal::ReservationExpired
/// [`Refusal::ReservationCanceled`]: crate::reservation::Refusal::ReservationCanceled
pub async fn return_sold(
    executor: impl Into<Executor<'_>>,
    ids: &[ReservationId],
    events: &Events,
) -> Result<Batch, Error> {
    let return_sold = concat!(
        "-- return\nselect changed, ",
        of_result!(),
        " from return_v1($1, $2)"
    );
    let query = sqlx::query(return_sold).bind(raw(ids)).bind(events.types());
    let span = Span::current();
    let call = async |executor: Executor<'_>| {
        let rows = execute(executor, query).await?;
        let (status, change) = (Status::Returned, Change::Returned);
        Ok::<_, Error>(batch_ended_as(status, change, ids, &rows)?)
    };
    let (executor, event) = (executor.into(), (events, "ReservationReturned"));
    trace_events::call(executor, event, once(&span), call, |batch: &Batch| {
        Traced::of_request(batch.transitions(), &span)
    })
    .await
}
