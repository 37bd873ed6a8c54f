//! cancel: ends a hold and frees its units.

use crate::{
    Error, ReservationId,
    batch::{Batch, batch_ended_as},
    database::{Executor, execute},
    event::Events,
    reservation::{Status, of_result, raw},
    transition::Change,
};

/// Cancels each hold that is ACTIVE and before its deadline by the database's clock.
///
/// A reservation that is already CANCELED gets the same answer again. Refuses with [`Refusal::ReservationNotFound`],
/// [`Refusal::ReservationExpired`] (also before any sweep), [`Refusal::ReservationConfirmed`] and
/// [`Refusal::ReservationReturned`].
///
/// [`Refusal::ReservationNotFound`]: crate::reservation::Refusal::ReservationNotFound
/// [`Refusal::ReservationExpired`]: crate::reservation::Refusal::ReservationExpired
/// [`Refusal::ReservationConfirmed`]: crate::reservation::Refusal::ReservationConfirmed
/// [`Refusal::ReservationReturned`]: crate::reservation::Refusal::ReservationReturned
pub async fn cancel(
    executor: impl Into<Executor<'_>>,
    ids: &[ReservationId],
    events: &Events,
) -> Result<Batch, Error> {
    let cancel = concat!(
        "-- cancel\nselect changed, ",
        of_result!(),
        " from cancel_v2($1, $2)"
    );
    let query = sqlx::query(cancel).bind(raw(ids)).bind(events.types());
    let rows = execute(executor, query).await?;
    Ok(batch_ended_as(
        Status::Canceled,
        Change::Canceled,
        ids,
        &rows,
    )?)
}
