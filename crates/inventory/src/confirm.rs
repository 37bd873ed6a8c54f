//! confirm: sells the units of a hold, and writes the event of the sale in the same transaction.

use sqlx::PgConnection;
use trace::Span;

use crate::{
    Error, ReservationId,
    batch::{Batch, batch_ended_as},
    database::{End, Executor, execute, transact},
    event::Events,
    reacquire::reacquire,
    reservation::{Refusal, Status, of_result, raw},
    trace_events,
    transition::Change,
};

/// A request to sell the units of a hold.
#[derive(Clone, Debug)]
pub struct Confirm {
    /// The hold.
    pub id: ReservationId,
    /// Whether to sell the units of an EXPIRED reservation, if enough units are free and nobody waits for them. This is
    /// for late payments.
    pub reacquire: bool,
    /// The span of the request, which its event continues.
    pub span: Span,
}

impl From<ReservationId> for Confirm {
    fn from(id: ReservationId) -> Self {
        Self {
            id,
            reacquire: false,
            span: Span::current(),
        }
    }
}

/// Confirms each hold that is ACTIVE and before its deadline, by the database's clock. If a hold is past its deadline
/// and the request has `reacquire`, its units are reacquired in the same transaction.
///
/// A repeat for a CONFIRMED reservation returns it again. The refusals are [`Refusal::ReservationNotFound`],
/// [`Refusal::ReservationExpired`] (also before any sweep), [`Refusal::ReservationCanceled`],
/// [`Refusal::ReservationReturned`], and with `reacquire` those of [`reacquire`](crate::reacquire::reacquire).
///
/// # Errors
///
/// The call was not done, or its outcome is unknown. A refusal is an answer, not an error.
pub async fn confirm(
    executor: impl Into<Executor<'_>>,
    requests: &[Confirm],
    events: &Events,
) -> Result<Batch, Error> {
    match executor.into() {
        Executor::Alone(connections) if requests.iter().any(|request| request.reacquire) => {
            let work = async |transaction: &mut PgConnection| {
                let batch = confirm_or_reacquire(transaction, requests, events).await?;
                Ok((End::Commit, batch))
            };
            transact(connections, work).await
        }
        Executor::Alone(connections) => confirm_in_time(connections, requests, events).await,
        Executor::Transaction(transaction) => {
            confirm_or_reacquire(transaction, requests, events).await
        }
    }
}

async fn confirm_or_reacquire(
    transaction: &mut PgConnection,
    requests: &[Confirm],
    events: &Events,
) -> Result<Batch, Error> {
    let mut batch = confirm_in_time(&mut *transaction, requests, events).await?;
    for (position, request) in requests.iter().enumerate() {
        let expired = matches!(batch.answers[position], Err(Refusal::ReservationExpired));
        if request.reacquire && expired {
            let late = reacquire(&mut *transaction, request.id, &request.span, events).await?;
            batch.replace(position, late);
        }
    }
    Ok(batch)
}

async fn confirm_in_time(
    executor: impl Into<Executor<'_>>,
    requests: &[Confirm],
    events: &Events,
) -> Result<Batch, Error> {
    let ids: Vec<ReservationId> = requests.iter().map(|request| request.id).collect();
    let confirm = concat!(
        "-- confirm\nselect changed, ",
        of_result!(),
        " from confirm_v2($1, $2)"
    );
    let query = sqlx::query(confirm).bind(raw(&ids)).bind(events.types());
    let spans = requests.iter().map(|request| &request.span);
    let call = async |executor: Executor<'_>| {
        let rows = execute(executor, query).await?;
        let (status, change) = (Status::Confirmed, Change::Confirmed);
        Ok::<_, Error>(batch_ended_as(status, change, &ids, &rows)?)
    };
    trace_events::call_batch(
        executor.into(),
        (events, "ReservationConfirmed"),
        spans,
        call,
    )
    .await
}
