//! `POST /reservations/{id}/cancel`

use axum::extract::State;
use futures_util::FutureExt as _;
use inventory::{
    ReservationId,
    cancel::{self, Cancel},
    reservation::Reservation,
};

use crate::{
    Problem,
    answer::Answer,
    auth::ActingClient,
    code::ProblemCode,
    extract::{Id, NoBody},
    idempotency::{Keyed, Rendered},
    lane_builder::{LaneBuilder, LockOf},
    openapi::Operation,
    reservations::example,
    sale::Sale,
    verb::{ReservationVerb, shown},
};

/// The verb in the router's state.
pub(crate) type Lanes = ReservationVerb<Cancel, Answer<Reservation>>;

pub(crate) fn operation() -> Operation {
    Operation::new("cancelReservation", "Cancel a hold and free its units")
        .explained("A repeat has no second effect.")
        .refuses(&[
            ProblemCode::ReservationExpired,
            ProblemCode::ReservationConfirmed,
            ProblemCode::ReservationReturned,
        ])
        .example(example("CANCELED", &["canceled_at"]))
}

pub(crate) async fn cancel(
    _: ActingClient,
    Id(id): Id<ReservationId>,
    State(lanes): State<&'static Lanes>,
    Keyed(key, _): Keyed<NoBody>,
) -> Result<Rendered<Answer<Reservation>>, Problem> {
    lanes.answer(id, key, Cancel::from(id)).await
}

pub(crate) fn start(builder: &LaneBuilder, sale: &'static Sale) -> Lanes {
    let lock_of = |request: &Cancel| LockOf::ProductOf(request.id);
    ReservationVerb::start(
        builder,
        "cancel",
        lock_of,
        shown,
        move |executor, requests| {
            async move { cancel::cancel(executor, &requests, &sale.events).await }.boxed()
        },
    )
}
