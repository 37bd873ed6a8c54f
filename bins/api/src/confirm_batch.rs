//! `POST /reservations/batch/confirm`

use axum::extract::State;
use futures_util::FutureExt as _;
use inventory::{
    confirm_batch::{Reacquire, confirm_batch},
    reservation::Reservation,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    Problem,
    answer::Answer,
    auth::ActingClient,
    bulkhead::Bulkhead,
    code::ProblemCode,
    extract::Json,
    idempotency::{Keyed, Rendered},
    openapi::Operation,
    orders::{self, Ids},
    sale::Sale,
};

pub(crate) fn operation() -> Operation {
    Operation::new("confirmBatch", "Sell the units of several holds: all or none")
        .explained(
            "All or none, in one transaction. The reservations in the answer are in the order of the ids. A refusal is about the \
            first reservation that cannot be confirmed: `reservation_id` names it. A repeat has no second effect. With `reacquire`, the \
            units of EXPIRED reservations are sold if enough units are free for all of them and nobody waits for them: the \
            answer then has new confirmed reservations in their places.",
        )
        .refuses(&[
            ProblemCode::ReservationNotFound,
            ProblemCode::ReservationExpired,
            ProblemCode::ReservationCanceled,
            ProblemCode::ReservationReturned,
            ProblemCode::ExpiredSoldOut,
            ProblemCode::MaxPerUserReached,
        ])
}

/// Reservations to confirm together.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmBatch {
    /// The reservations. None may be given twice.
    ids: Ids,
    /// Whether to sell the units of EXPIRED reservations, if enough are free for all of them and nobody waits.
    #[serde(default)]
    reacquire: bool,
}

pub(crate) async fn confirm_all(
    _: ActingClient,
    State(bulkhead): State<&'static Bulkhead>,
    State(sale): State<&'static Sale>,
    Keyed(key, Json(body)): Keyed<Json<ConfirmBatch>>,
) -> Result<Rendered<Answer<Vec<Reservation>>>, Problem> {
    let ids = body.ids.get().to_vec();
    let done = orders::execute(bulkhead, "confirm_batch", ids, key, move |executor| {
        async move {
            let reacquire = match body.reacquire {
                true => Reacquire::Expired,
                false => Reacquire::Nothing,
            };
            confirm_batch(executor, body.ids.get(), reacquire, &sale.events).await
        }
        .boxed()
    });
    done.await
}
