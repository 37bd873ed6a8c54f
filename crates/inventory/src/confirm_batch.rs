//! confirm batch: sells the units of several holds, or of none.

use std::iter::once;

use sqlx::{Row as _, postgres::PgRow};
use trace::Span;

use crate::{
    Error, ReservationId,
    batch::{AllOrNone, batch_ended_as},
    database::{Executor, execute},
    event::Events,
    reacquire,
    reservation::{Status, of_result, raw},
    trace_events::{self, Traced},
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
        "-- confirm batch\nselect lost_id, outcome, remaining, expired, offered, changed, ",
        of_result!(),
        " from confirm_batch_v2($1, $2, $3)"
    );
    let query = sqlx::query(confirm)
        .bind(raw(ids))
        .bind(matches!(reacquire, Reacquire::Expired))
        .bind(events.types());
    let span = Span::current();
    let call = async |executor: Executor<'_>| {
        let rows = execute(executor, query).await?;
        read_all(ids, rows)
    };
    let (executor, event) = (executor.into(), (events, "ReservationConfirmed"));
    trace_events::call(executor, event, once(&span), call, |all: &AllOrNone<_>| {
        Traced::of_request(all.transitions(), &span)
    })
    .await
}

/// Reads the result of `confirm_batch_v2`.
fn read_all(ids: &[ReservationId], rows: Vec<PgRow>) -> Result<AllOrNone<ReservationId>, Error> {
    let (mut in_time, mut late) = (Vec::new(), Vec::new());
    for row in rows {
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
