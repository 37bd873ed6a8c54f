//! `POST /reservations/{id}/confirm`

use axum::extract::State;
use futures_util::FutureExt as _;
use inventory::{
    ReservationId,
    confirm::{self, Confirm},
    reservation::Reservation,
};
use schemars::JsonSchema;
use serde::Deserialize;
use trace::Span;

use crate::{
    Problem,
    answer::Answer,
    auth::ActingClient,
    code::ProblemCode,
    extract::{Id, OptionalJson},
    idempotency::{Keyed, Rendered},
    lane_builder::{LaneBuilder, LockOf},
    openapi::Operation,
    reservations::example,
    sale::Sale,
    verb::{ReservationVerb, shown},
};

/// The verb in the router's state.
pub(crate) type Lanes = ReservationVerb<Confirm, Answer<Reservation>>;

pub(crate) fn operation() -> Operation {
    Operation::new("confirmReservation", "Sell the held units after the user has paid")
        .explained(
            "A repeat has no second effect. With `reacquire`, the units of an EXPIRED reservation are sold if enough \
            units are free and nobody waits for them. The answer is then a new confirmed reservation, and its \
            `reacquired_from` names the EXPIRED one.",
        )
        .refuses(&[
            ProblemCode::ReservationExpired,
            ProblemCode::ReservationCanceled,
            ProblemCode::ReservationReturned,
            ProblemCode::ExpiredSoldOut,
            ProblemCode::MaxPerUserReached,
        ])
        .example(example("CONFIRMED", &["confirmed_at"]))
}

/// How to confirm.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Payment {
    /// Whether to sell the units of an EXPIRED reservation, if enough units are free and nobody waits for them.
    #[serde(default)]
    reacquire: bool,
}

pub(crate) async fn confirm(
    _: ActingClient,
    Id(id): Id<ReservationId>,
    State(lanes): State<&'static Lanes>,
    Keyed(key, OptionalJson(Payment { reacquire })): Keyed<OptionalJson<Payment>>,
) -> Result<Rendered<Answer<Reservation>>, Problem> {
    let request = Confirm {
        id,
        reacquire,
        span: Span::current(),
    };
    lanes.answer(id, key, request).await
}

pub(crate) fn start(builder: &LaneBuilder, sale: &'static Sale) -> Lanes {
    let lock_of = |request: &Confirm| LockOf::ProductOf(request.id);
    ReservationVerb::start(
        builder,
        "confirm",
        lock_of,
        shown,
        move |executor, requests| {
            async move { confirm::confirm(executor, &requests, &sale.events).await }.boxed()
        },
    )
}
