//! Traces of events: an event that a sampled request has caused is stored with the request's trace, so that the message can
//! continue it.
//!
//! The verbs' own statements know nothing of it. A call with sampled requests, and only such a call, has one more statement in
//! its transaction.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use time::OffsetDateTime;
use trace::Span;

use crate::{
    Error, ReservationId,
    batch::Batch,
    database::{End, Executor, execute, transact},
    event::Events,
    reservation::{Reservation, raw},
    transition::{Change, Transition},
};

/// The events of one call that have a trace, by their time: the reservations, and the traces of their requests.
#[derive(Default)]
pub(crate) struct Traced(BTreeMap<OffsetDateTime, (Vec<ReservationId>, Vec<String>)>);

impl Traced {
    /// Adds the event about this reservation, if its request was sampled.
    pub(crate) fn add(&mut self, span: &Span, change: Change, reservation: &Reservation) {
        let traceparent = span.traceparent();
        if let (Some(traceparent), Some(at)) = (traceparent, time_of(change, reservation)) {
            let (ids, traceparents) = self.0.entry(at).or_default();
            ids.push(reservation.id);
            traceparents.push(traceparent);
        }
    }

    /// The events of a batch. Its answers are in the order of these spans.
    fn of_batch<'a>(batch: &Batch, spans: impl Iterator<Item = &'a Span>) -> Self {
        let mut traced = Self::default();
        for ((change, answer), span) in batch.outcomes().zip(spans) {
            if let Ok(reservation) = answer {
                traced.add(span, change, reservation);
            }
        }
        traced
    }

    /// The events of one request.
    pub(crate) fn of_request<'a>(
        transitions: impl Iterator<Item = Transition<'a>>,
        span: &Span,
    ) -> Self {
        let mut traced = Self::default();
        for transition in transitions {
            if let Transition::Of(change, reservation) = transition {
                traced.add(span, change, reservation);
            }
        }
        traced
    }
}

/// When the call made this change. `None`: it has no event.
fn time_of(change: Change, reservation: &Reservation) -> Option<OffsetDateTime> {
    match change {
        Change::Reserved => Some(reservation.created_at),
        Change::Confirmed | Change::Reacquired => reservation.confirmed_at,
        Change::Canceled => reservation.canceled_at,
        Change::Returned => reservation.returned_at,
        Change::Extended | Change::Repeated => None,
    }
}

/// Makes a call of a verb that writes events of this type. If one of the `spans` of its requests is sampled and the type is
/// selected, `traced` says which events have a trace.
pub(crate) async fn call<'a, T>(
    executor: Executor<'_>,
    (events, event_type): (&Events, &str),
    mut spans: impl Iterator<Item = &'a Span>,
    call: impl AsyncFnOnce(Executor<'_>) -> Result<T, Error>,
    traced: impl FnOnce(&T) -> Traced,
) -> Result<T, Error> {
    if !spans.any(Span::is_sampled) || !events.types().contains(&event_type) {
        return call(executor).await;
    }
    let both = async |transaction: &mut PgConnection| {
        let done = call(Executor::Transaction(transaction)).await?;
        store(transaction, traced(&done)).await?;
        Ok((End::Commit, done))
    };
    match executor {
        Executor::Alone(connections) => transact(connections, both).await,
        Executor::Transaction(transaction) => Ok(both(transaction).await?.1),
    }
}

/// As [`call`], for a call that returns a batch, whose answers are in the order of the `spans`.
pub(crate) async fn call_batch<'a>(
    executor: Executor<'_>,
    event: (&Events, &str),
    spans: impl Iterator<Item = &'a Span> + Clone,
    batch: impl AsyncFnOnce(Executor<'_>) -> Result<Batch, Error>,
) -> Result<Batch, Error> {
    let traced = |batch: &Batch| Traced::of_batch(batch, spans.clone());
    call(executor, event, spans.clone(), batch, traced).await
}

async fn store(transaction: &mut PgConnection, traced: Traced) -> Result<(), Error> {
    for (at, (ids, traceparents)) in traced.0 {
        let query = sqlx::query("-- trace events\nselect trace_events_v1($1, $2, $3)")
            .bind(raw(&ids))
            .bind(at)
            .bind(traceparents);
        execute(&mut *transaction, query).await?;
    }
    Ok(())
}
