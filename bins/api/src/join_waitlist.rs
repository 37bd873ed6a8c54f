//! `POST /products/{id}/waitlist`

use axum::extract::State;
use futures_util::FutureExt as _;
use inventory::{
    ProductId, Quantity, UserId,
    join_waitlist::{self, Join},
    reservation::Reference,
    waitlist::Entry,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    Problem,
    answer::Created,
    auth::ActingClient,
    bulkhead::Bulkhead,
    code::ProblemCode,
    extract::{Id, Json},
    idempotency::{Keyed, Rendered},
    openapi::Operation,
    reserve::one,
    sale::Sale,
};

pub(crate) fn operation() -> Operation {
    Operation::new("joinWaitlist", "Wait in line for units of a product")
        .explained(
            "Units that come free go to the first in line. If units are free for the new entry, it is OFFERED a hold at \
            once. Refusals are checked in the order in which this page lists them. A retry after a lost answer is safe: \
            `already_waiting` names the entry, or `already_reserved` the hold that was offered.",
        )
        .refuses(&[
            ProblemCode::AlreadyWaiting,
            ProblemCode::AlreadyReserved,
            ProblemCode::SaleNotOpen,
            ProblemCode::SaleClosed,
            ProblemCode::MaxPerUserReached,
        ])
}

/// A user who wants units of a product.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinWaitlist {
    #[schemars(example = 42)]
    user_id: UserId,
    /// Number of units. The user gets all of them at once.
    #[serde(default = "one")]
    quantity: Quantity,
    /// Your own name for the entry, for example an order number. The offered hold gets the same reference.
    reference: Option<Reference>,
}

pub(crate) async fn join_waitlist(
    _: ActingClient,
    Id(product_id): Id<ProductId>,
    State(bulkhead): State<&'static Bulkhead>,
    State(sale): State<&'static Sale>,
    Keyed(key, Json(body)): Keyed<Json<JoinWaitlist>>,
) -> Result<Rendered<Created<Entry>>, Problem> {
    let request = Join {
        product_id,
        user_id: body.user_id,
        quantity: body.quantity,
        reference: body.reference,
    };
    let once = bulkhead.execute_once(
        "join_waitlist",
        key,
        move |executor| {
            async move {
                let Sale {
                    hold_seconds,
                    ref events,
                    ..
                } = *sale;
                join_waitlist::join_waitlist(executor, &request, hold_seconds, events).await
            }
            .boxed()
        },
        |after_commit, joined| after_commit.tell(joined.transitions()),
        |joined| {
            let body = joined.answer.clone()?;
            let path = format!("/waitlist/{}", body.id);
            Ok(Created { path, body })
        },
    );
    once.await
}
