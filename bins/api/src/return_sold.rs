//! `POST /reservations/{id}/return`

use axum::extract::State;
use futures_util::FutureExt as _;
use inventory::{ReservationId, reservation::Reservation, return_sold};

use crate::{
    Problem,
    answer::Answer,
    auth::Admin,
    bulkhead::{About, Bulkhead},
    code::ProblemCode,
    extract::{Id, NoBody},
    idempotency::{Keyed, Rendered},
    openapi::Operation,
    reservations::example,
    sale::Sale,
    verb::shown,
};

pub(crate) fn operation() -> Operation {
    Operation::new("returnReservation", "Return a sale and free its units")
        .explained("A repeat has no second effect.")
        .refuses(&[
            ProblemCode::ReservationExpired,
            ProblemCode::ReservationCanceled,
            ProblemCode::ReservationNotConfirmed,
        ])
        .example(example("RETURNED", &["confirmed_at", "returned_at"]))
}

pub(crate) async fn return_sold(
    _: Admin,
    Id(id): Id<ReservationId>,
    State(bulkhead): State<&'static Bulkhead>,
    State(sale): State<&'static Sale>,
    Keyed(key, _): Keyed<NoBody>,
) -> Result<Rendered<Answer<Reservation>>, Problem> {
    let once = bulkhead.execute_once(
        "return",
        About::Reservations(vec![id]),
        key,
        move |executor| {
            async move { return_sold::return_sold(executor, &[id], &sale.events).await }.boxed()
        },
        |after_commit, batch| after_commit.tell(batch.transitions()),
        |batch| shown(batch.answers.first().ok_or(Problem::Internal)?.clone()),
    );
    once.await
}
