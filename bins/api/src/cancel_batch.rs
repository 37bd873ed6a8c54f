//! `POST /reservations/batch/cancel`

use axum::extract::State;
use futures_util::FutureExt as _;
use inventory::{cancel_batch::cancel_batch, reservation::Reservation};
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
    Operation::new("cancelBatch", "Cancel several holds: all or none")
        .explained(
            "All or none, in one transaction. The reservations in the answer are in the order of the ids. A refusal is about the \
            first reservation that cannot be canceled: `reservation_id` names it. A repeat has no second effect.",
        )
        .refuses(&[
            ProblemCode::ReservationNotFound,
            ProblemCode::ReservationExpired,
            ProblemCode::ReservationConfirmed,
            ProblemCode::ReservationReturned,
        ])
}

/// Reservations to cancel together.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelBatch {
    /// The reservations. None may be given twice.
    ids: Ids,
}

pub(crate) async fn cancel_all(
    _: ActingClient,
    State(bulkhead): State<&'static Bulkhead>,
    State(sale): State<&'static Sale>,
    Keyed(key, Json(body)): Keyed<Json<CancelBatch>>,
) -> Result<Rendered<Answer<Vec<Reservation>>>, Problem> {
    let ids = body.ids.get().to_vec();
    let done = orders::execute(bulkhead, "cancel_batch", ids, key, move |executor| {
        async move { cancel_batch(executor, body.ids.get(), &sale.events).await }.boxed()
    });
    done.await
}
