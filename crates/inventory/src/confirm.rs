//! confirm: sells what is held, and writes the event of the sale in the same transaction.

use crate::{
    Error, ReservationId,
    database::{Via, call},
    event::Events,
    reservation::{Batch, Status, batch_ended_as, of_result, raw},
};

/// Confirms each hold that is ACTIVE and not past its deadline by the database's clock.
///
/// What is CONFIRMED already answers the same again. Refuses with
/// [`Refusal::ReservationNotFound`], [`Refusal::ReservationExpired`] (also before any sweep),
/// [`Refusal::ReservationCanceled`] and [`Refusal::ReservationReturned`].
///
/// [`Refusal::ReservationNotFound`]: crate::reservation::Refusal::ReservationNotFound
/// [`Refusal::ReservationExpired`]: crate::reservation::Refusal::ReservationExpired
/// [`Refusal::ReservationCanceled`]: crate::reservation::Refusal::ReservationCanceled
/// [`Refusal::ReservationReturned`]: crate::reservation::Refusal::ReservationReturned
pub async fn confirm(
    via: impl Into<Via<'_>>,
    ids: &[ReservationId],
    events: &Events,
) -> Result<Batch, Error> {
    let confirm = concat!(
        "-- confirm\nselect changed, ",
        of_result!(),
        " from confirm_v2($1, $2)"
    );
    let query = sqlx::query(confirm).bind(raw(ids)).bind(events.types());
    let rows = call(via, query).await?;
    Ok(batch_ended_as(Status::Confirmed, ids, &rows)?)
}
