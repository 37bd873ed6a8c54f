//! reacquire: sells again what an expired hold has lost.

use sqlx::Row;

use crate::{
    Error, ReservationId,
    database::{Via, call},
    event::Events,
    reservation::{Batch, Refusal, Status, batch_ended_as},
};

/// Takes the units of an expired hold again, if they are free, with a new reservation that is CONFIRMED from
/// the start. A repeat answers the same one.
///
/// Refuses with [`Refusal::ExpiredSoldOut`] and [`Refusal::MaxPerUserReached`]; and what has not expired as
/// [`confirm`](crate::confirm::confirm) does.
pub async fn reacquire(
    via: impl Into<Via<'_>>,
    id: ReservationId,
    events: &Events,
) -> Result<Batch, Error> {
    let query = sqlx::query(
        "-- reacquire
        select outcome, remaining, expired, (standing).* from reacquire_v1($1, $2)",
    )
    .bind(id)
    .bind(events.types());
    let rows = call(via, query).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let refusal = match row.try_get("outcome")? {
        Some("expired_sold_out") => Some(Refusal::ExpiredSoldOut),
        Some("max_per_user_reached") => Some(Refusal::MaxPerUserReached {
            remaining: row.try_get("remaining")?,
        }),
        _ => None,
    };
    let mut batch = batch_ended_as(Status::Confirmed, &rows)?;
    if let Some(refusal) = refusal {
        batch.answers = vec![Err(refusal)];
    }
    let expired: i64 = row.try_get("expired")?;
    batch.expired = expired.unsigned_abs();
    Ok(batch)
}
