//! cancel batch: ends several holds, or none of them.

use std::iter::once;

use trace::Span;

use crate::{
    Error, ReservationId,
    batch::{AllOrNone, batch_ended_as},
    database::{Executor, execute},
    event::Events,
    reservation::{Status, of_result, raw},
    trace_events::{self, Traced},
    transition::Change,
};

/// Cancels all of these reservations as [`cancel`](crate::cancel::cancel) does, or none of them. No id may be given twice.
///
/// Refuses with the first reservation that cannot be canceled, and the refusal of `cancel`.
pub async fn cancel_batch(
    executor: impl Into<Executor<'_>>,
    ids: &[ReservationId],
    events: &Events,
) -> Result<AllOrNone<ReservationId>, Error> {
    let cancel = concat!(
        "-- cancel batch\nselect changed, ",
        of_result!(),
        " from cancel_batch_v1($1, $2)"
    );
    let query = sqlx::query(cancel).bind(raw(ids)).bind(events.types());
    let span = Span::current();
    let call = async |executor: Executor<'_>| {
        let rows = execute(executor, query).await?;
        let batch = batch_ended_as(Status::Canceled, Change::Canceled, ids, &rows)?;
        Ok::<_, Error>(batch.all_or_none(ids))
    };
    let (executor, event) = (executor.into(), (events, "ReservationCanceled"));
    trace_events::call(executor, event, once(&span), call, |all: &AllOrNone<_>| {
        Traced::of_request(all.transitions(), &span)
    })
    .await
}
