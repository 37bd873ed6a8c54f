//! cancel: ends a hold and frees its units.

use trace::Span;

use crate::{
    Error, ReservationId,
    batch::{Batch, batch_ended_as},
    database::{Executor, execute},
    event::Events,
    reservation::{Status, of_result, raw},
    trace_events,
    transition::Change,
};

/// A request to end a hold.
#[derive(Clone, Debug)]
pub struct Cancel {
    /// The hold.
    pub id: ReservationId,
    /// The span of the request, which its event continues.
    pub span: Span,
}

impl From<ReservationId> for Cancel {
    fn from(id: ReservationId) -> Self {
        let span = Span::current();
        Self { id, span }
    }
}

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
    requests: &[Cancel],
    events: &Events,
) -> Result<Batch, Error> {
    let ids: Vec<ReservationId> = requests.iter().map(|request| request.id).collect();
    let cancel = concat!(
        "-- cancel\nselect changed, ",
        of_result!(),
        " from cancel_v2($1, $2)"
    );
    let query = sqlx::query(cancel).bind(raw(&ids)).bind(events.types());
    let spans = requests.iter().map(|request| &request.span);
    let call = async |executor: Executor<'_>| {
        let rows = execute(executor, query).await?;
        let (status, change) = (Status::Canceled, Change::Canceled);
        Ok::<_, Error>(batch_ended_as(status, change, &ids, &rows)?)
    };
    trace_events::call_batch(
        executor.into(),
        (events, "ReservationCanceled"),
        spans,
        call,
    )
    .await
}
