//! `POST /waitlist` and `POST /products/{id}/waitlist`

use axum::extract::State;
use futures_util::FutureExt as _;
use inventory::{
    ProductId, Quantity, UserId,
    idempotency::Key,
    join_waitlist::{self, Join},
    reservation::Reference,
    sku::Sku,
    waitlist::Entry,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    Problem,
    answer::Created,
    auth::ActingClient,
    bulkhead::{About, Bulkhead},
    code::ProblemCode,
    extract::{Id, Json, given},
    idempotency::{Keyed, Rendered},
    moved,
    openapi::Operation,
    reserve::one,
    sale::Sale,
    skus::{Named, Skus, one_name},
};

/// Refusals of a join, in the order in which the verb checks them.
const REFUSALS: [ProblemCode; 5] = [
    ProblemCode::AlreadyWaiting,
    ProblemCode::AlreadyReserved,
    ProblemCode::SaleNotOpen,
    ProblemCode::SaleClosed,
    ProblemCode::MaxPerUserReached,
];

pub(crate) fn operation() -> Operation {
    described("joinWaitlist", "Wait in line for units of a product").refuses(&REFUSALS)
}

pub(crate) fn named_operation() -> Operation {
    let summary = "Wait in line for units of a product that the body names";
    described("createWaitlistEntry", summary)
        .refuses(&[ProblemCode::ProductNotFound])
        .refuses(&REFUSALS)
}

fn described(id: &str, summary: &str) -> Operation {
    Operation::new(id, summary).explained(
        "Units that come free go to the first in line. If units are free for the new entry, it is OFFERED a hold at \
            once. Refusals are checked in the order in which this page lists them. A retry after a lost answer is safe: \
            `already_waiting` names the entry, or `already_reserved` the hold that was offered.",
    )
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

/// A user who wants units of the product that the body names.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = one_name)]
pub(crate) struct CreateWaitlistEntry {
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "ProductId", example = 1)]
    product_id: Option<ProductId>,
    /// The product's SKU, in place of `product_id`. Exactly one of the two must be given.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Sku")]
    sku: Option<Sku>,
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
    join(bulkhead, sale, key, request).await
}

pub(crate) async fn join_named(
    _: ActingClient,
    State(bulkhead): State<&'static Bulkhead>,
    State(sale): State<&'static Sale>,
    State(skus): State<&'static Skus>,
    Keyed(key, Json(body)): Keyed<Json<CreateWaitlistEntry>>,
) -> Result<Rendered<Created<Entry>>, Problem> {
    let named = Named::of("", body.product_id, body.sku)?;
    let answer = async |product_id| {
        let request = Join {
            product_id,
            user_id: body.user_id,
            quantity: body.quantity,
            reference: body.reference,
        };
        join(bulkhead, sale, key, request).await
    };
    moved::about_one(skus, &named, answer).await
}

async fn join(
    bulkhead: &Bulkhead,
    sale: &'static Sale,
    key: Option<Key>,
    request: Join,
) -> Result<Rendered<Created<Entry>>, Problem> {
    let once = bulkhead.execute_once(
        "join_waitlist",
        About::Products(vec![request.product_id]),
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
