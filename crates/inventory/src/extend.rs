//! extend: moves the deadline of a hold.

use crate::{
    Error, ReservationId, Seconds,
    batch::{Batch, batch_ended_as},
    database::{Executor, execute},
    reservation::{Status, of_result, raw},
    transition::Change,
};

/// A request to extend a hold.
#[derive(Clone, Copy, Debug)]
pub struct Extend {
    /// The hold.
    pub id: ReservationId,
    /// New time to the deadline, from now.
    pub seconds: Seconds,
}

/// Moves the deadline of each hold that is ACTIVE and before its deadline by the database's clock, to the requested
/// seconds from now. A deadline never moves back. The total duration of a hold is limited by the product's
/// `max_hold_seconds`, or else by the parameter.
///
/// Refuses with [`Refusal::ReservationNotFound`], [`Refusal::ReservationExpired`] (also before any sweep),
/// [`Refusal::ReservationConfirmed`], [`Refusal::ReservationCanceled`] and [`Refusal::ReservationReturned`].
///
/// [`Refusal::ReservationNotFound`]: crate::reservation::Refusal::ReservationNotFound
/// [`Refusal::ReservationExpired`]: crate::reservation::Refusal::ReservationExpired
/// [`Refusal::ReservationConfirmed`]: crate::reservation::Refusal::ReservationConfirmed
/// [`Refusal::ReservationCanceled`]: crate::reservation::Refusal::ReservationCanceled
/// [`Refusal::ReservationReturned`]: crate::reservation::Refusal::ReservationReturned
pub async fn extend(
    executor: impl Into<Executor<'_>>,
    requests: &[Extend],
    max_hold_seconds: i32,
) -> Result<Batch, Error> {
    let (ids, seconds): (Vec<ReservationId>, Vec<i32>) = requests
        .iter()
        .map(|request| (request.id, request.seconds.get()))
        .unzip();
    let extend = concat!(
        "-- extend\nselect changed, ",
        of_result!(),
        " from extend_v1($1, $2, $3)"
    );
    let query = sqlx::query(extend)
        .bind(raw(&ids))
        .bind(seconds)
        .bind(max_hold_seconds);
    let rows = execute(executor, query).await?;
    Ok(batch_ended_as(
        Status::Active,
        Change::Extended,
        &ids,
        &rows,
    )?)
}
