//! extend batch: moves the deadlines of several holds, or of none.

use crate::{
    Error, ReservationId, Seconds,
    batch::{AllOrNone, batch_ended_as},
    database::{Executor, execute},
    reservation::{Status, of_result, raw},
    transition::Change,
};

/// Extends all of these holds as [`extend`](crate::extend::extend) does, or none of them. All deadlines move to
/// the same time, the earliest that one of them would have alone. Only a hold whose deadline is later keeps it. No id may be
/// given twice.
///
/// Refuses with the first hold that cannot be extended, and the refusal of `extend`.
pub async fn extend_batch(
    executor: impl Into<Executor<'_>>,
    ids: &[ReservationId],
    seconds: Seconds,
    max_hold_seconds: i32,
) -> Result<AllOrNone<ReservationId>, Error> {
    let extend = concat!(
        "-- extend batch\nselect changed, ",
        of_result!(),
        " from extend_batch_v1($1, $2, $3)"
    );
    let query = sqlx::query(extend)
        .bind(raw(ids))
        .bind(seconds.get())
        .bind(max_hold_seconds);
    let rows = execute(executor, query).await?;
    let batch = batch_ended_as(Status::Active, Change::Extended, ids, &rows)?;
    Ok(batch.all_or_none(ids))
}
