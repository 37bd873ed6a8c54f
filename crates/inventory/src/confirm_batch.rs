//! confirm batch: sells the units of several holds, or of none.

use sqlx::Row as _;

use crate::{
    Error, ReservationId,
    batch::{AllOrNone, batch_ended_as},
    database::{Executor, execute},
    event::Events,
    reacquire,
    reservation::{Status, of_result, raw},
    transition::Change,
};

/// Confirms all of these reservations as [`confirm`](crate::confirm::confirm) does, or none of them. With `reacquire`, the
/// units of the holds that have expired are sold again, if all of them can be. No id may be given twice.
///
/// Refuses with the first reservation that cannot be confirmed, and the refusal of `confirm`.
pub async fn confirm_batch(
    executor: impl Into<Executor<'_>>,
    ids: &[ReservationId],
    reacquire: Reacquire,
    events: &Events,
) -> Result<AllOrNone<ReservationId>, Error> {
    let confirm = concat!(
        "-- confirm batch\nselect lost_id, outcome, remaining, expired, changed, ",
        of_result!(),
        " from confirm_batch_v1($1, $2, $3)"
    );
    let query = sqlx::query(confirm)
        .bind(raw(ids))
        .bind(matches!(reacquire, Reacquire::Expired))
        .bind(events.types());
    let (mut in_time, mut late) = (Vec::new(), Vec::new());
    for row in execute(executor, query).await? {
        match row.try_get("lost_id")? {
            None => in_time.push(row),
            Some(lost) => late.push((lost, row)),
        }
    }
    let mut batch = batch_ended_as(Status::Confirmed, Change::Confirmed, ids, &in_time)?;
    for (lost, row) in late {
        let lost: ReservationId = lost;
        if let Some(position) = ids.iter().position(|id| *id == lost) {
            batch.replace(position, reacquire::read(&row)?);
        }
    }
    Ok(batch.all_or_none(ids))
}

/// Which holds past their deadline [`confirm_batch`] sells again.
#[derive(Clone, Copy, Debug)]
pub enum Reacquire {
    /// None: they are refused.
    Nothing,
    /// All, if enough units are free.
    Expired,
}
