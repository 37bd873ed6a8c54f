//! `POST /reservations/{id}/extend`

use axum::extract::State;
use futures_util::FutureExt as _;
use inventory::{
    ReservationId, Seconds,
    extend::{self, Extend},
    reservation::Reservation,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    Problem,
    answer::Answer,
    auth::ActingClient,
    code::ProblemCode,
    extract::{Id, Json},
    idempotency::{Keyed, Rendered},
    lane_builder::{LaneBuilder, LockOf},
    openapi::Operation,
    sale::Sale,
    verb::{ReservationVerb, shown},
};

/// The verb in the router's state.
pub(crate) type Lanes = ReservationVerb<Extend, Answer<Reservation>>;

pub(crate) fn operation() -> Operation {
    Operation::new("extendReservation", "Move a hold's deadline to a number of seconds from now")
        .explained(
            "The deadline never moves to an earlier time, and never beyond the longest duration of a hold. The \
            answer has the new deadline.",
        )
        .refuses(&[
            ProblemCode::ReservationExpired,
            ProblemCode::ReservationCanceled,
            ProblemCode::ReservationConfirmed,
            ProblemCode::ReservationReturned,
        ])
}

/// More time for a hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoreTime {
    /// Seconds from now to the new deadline.
    #[schemars(example = 400)]
    seconds: Seconds,
}

pub(crate) async fn extend(
    _: ActingClient,
    Id(id): Id<ReservationId>,
    State(lanes): State<&'static Lanes>,
    Keyed(key, Json(MoreTime { seconds })): Keyed<Json<MoreTime>>,
) -> Result<Rendered<Answer<Reservation>>, Problem> {
    let request = Extend { id, seconds };
    lanes.answer(id, key, request).await
}

pub(crate) fn start(builder: &LaneBuilder, sale: &'static Sale) -> Lanes {
    let lock_of = |request: &Extend| LockOf::ProductOf(request.id);
    let max_hold_seconds = sale.max_hold_seconds;
    ReservationVerb::start(
        builder,
        "extend",
        lock_of,
        shown,
        move |executor, requests| {
            async move { extend::extend(executor, &requests, max_hold_seconds).await }.boxed()
        },
    )
}
