//! `POST /reservations/batch/extend`

use axum::extract::State;
use futures_util::FutureExt as _;
use inventory::{Seconds, extend_batch::extend_batch, reservation::Reservation};
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
    Operation::new("extendBatch", "Move the deadlines of several holds: all or none")
        .explained(
            "All or none, in one transaction. The reservations in the answer are in the order of the ids. A refusal is about the \
            first reservation that cannot be extended: `reservation_id` names it. All \
            deadlines move to the same time: that number of seconds from now, or the earliest time that the longest \
            durations of the holds allow. Only a hold whose deadline is later keeps it.",
        )
        .refuses(&[
            ProblemCode::ReservationNotFound,
            ProblemCode::ReservationExpired,
            ProblemCode::ReservationCanceled,
            ProblemCode::ReservationConfirmed,
            ProblemCode::ReservationReturned,
        ])
}

/// More time for several holds.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExtendBatch {
    /// The reservations. None may be given twice.
    ids: Ids,
    /// Seconds from now to the new deadline.
    #[schemars(example = 400)]
    seconds: Seconds,
}

pub(crate) async fn extend_all(
    _: ActingClient,
    State(bulkhead): State<&'static Bulkhead>,
    State(sale): State<&'static Sale>,
    Keyed(key, Json(body)): Keyed<Json<ExtendBatch>>,
) -> Result<Rendered<Answer<Vec<Reservation>>>, Problem> {
    let ids = body.ids.get().to_vec();
    let done = orders::execute(bulkhead, "extend_batch", ids, key, move |executor| {
        async move {
            let (ids, longest) = (body.ids.get(), sale.max_hold_seconds);
            extend_batch(executor, ids, body.seconds, longest).await
        }
        .boxed()
    });
    done.await
}
