//! cancel: gives the units of a hold back.

use sqlx::PgPool;

use crate::{
    Error, ReservationId,
    database::call,
    reservation::{Batch, Status, batch_ended_as, raw},
};

/// Cancels each hold that is ACTIVE and not past its deadline by the database's clock.
///
/// What is CANCELED already answers the same again. Refuses with
/// [`Refusal::ReservationNotFound`], [`Refusal::ReservationExpired`] (also before any sweep) and
/// [`Refusal::ReservationConfirmed`].
///
/// [`Refusal::ReservationNotFound`]: crate::reservation::Refusal::ReservationNotFound
/// [`Refusal::ReservationExpired`]: crate::reservation::Refusal::ReservationExpired
/// [`Refusal::ReservationConfirmed`]: crate::reservation::Refusal::ReservationConfirmed
pub async fn cancel(pool: &PgPool, ids: &[ReservationId]) -> Result<Batch, Error> {
    let query = sqlx::query("-- cancel\nselect * from cancel_v1($1) order by n").bind(raw(ids));
    let rows = call(pool, query).await?;
    Ok(batch_ended_as(Status::Canceled, &rows)?)
}
