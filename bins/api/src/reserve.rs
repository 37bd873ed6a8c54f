//! `POST /reservations`

use axum::extract::State;
use futures_util::FutureExt as _;
use inventory::{
    ProductId, Quantity, UserId,
    reservation::{Reference, Reservation},
    reserve::{self, Reserve},
    sku::Sku,
};
use schemars::JsonSchema;
use serde::Deserialize;
use trace::Span;

use crate::{
    Problem,
    answer::Created,
    auth::ActingClient,
    code::ProblemCode,
    extract::{Json, given},
    idempotency::{Keyed, Rendered},
    lane_builder::{LaneBuilder, LockOf},
    moved,
    openapi::Operation,
    sale::Sale,
    skus::{Named, Skus, one_name},
    verb::{AtOnce, Outcome, Verb, VerbSpec},
};

/// The verb in the router's state.
pub(crate) type Lanes = Verb<Reserve, Created<Reservation>>;

/// Refusals of a reserve, in the order in which the verb checks them.
pub(crate) const REFUSALS: [ProblemCode; 6] = [
    ProblemCode::ProductNotFound,
    ProblemCode::AlreadyReserved,
    ProblemCode::SaleNotOpen,
    ProblemCode::SaleClosed,
    ProblemCode::SoldOut,
    ProblemCode::MaxPerUserReached,
];

pub(crate) fn operation() -> Operation {
    Operation::new("reserveProduct", "Hold units of a product for a user")
        .explained(
            "Refusals are checked in the order in which this page lists them. A retry after a lost answer is safe: \
            `already_reserved` names the hold that the first request made, also after the end of the sale.",
        )
        .refuses(&REFUSALS)
}

/// Units to hold for a user.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = one_name)]
pub(crate) struct CreateReservation {
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "ProductId", example = 1)]
    product_id: Option<ProductId>,
    /// The product's SKU, in place of `product_id`. Exactly one of the two must be given.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Sku")]
    sku: Option<Sku>,
    #[schemars(example = 42)]
    user_id: UserId,
    #[serde(default = "one")]
    quantity: Quantity,
    /// Your own name for the reservation, for example an order number. It is stored, shown, and can be searched for.
    reference: Option<Reference>,
}

/// The default quantity of a request.
pub(crate) fn one() -> Quantity {
    Quantity::ONE
}

pub(crate) async fn reserve(
    _: ActingClient,
    State(lanes): State<&'static Lanes>,
    State(skus): State<&'static Skus>,
    Keyed(key, Json(body)): Keyed<Json<CreateReservation>>,
) -> Result<Rendered<Created<Reservation>>, Problem> {
    let named = Named::of("", body.product_id, body.sku)?;
    let answer = async |product_id: ProductId| {
        let request = Reserve {
            product_id,
            user_id: body.user_id,
            quantity: body.quantity,
            reference: body.reference,
            span: Span::current(),
        };
        lanes.answer(product_id, key, request).await
    };
    moved::about_one(skus, &named, answer).await
}

/// Starts `count` lanes for requests without a key, and `count` lanes for requests with a key.
pub(crate) fn start(builder: &LaneBuilder, sale: &'static Sale, count: usize) -> Lanes {
    let spec = VerbSpec {
        name: "reserve",
        lanes: count,
        lock_of: |request: &Reserve| LockOf::Product(request.product_id),
        render,
    };
    Verb::start_with(
        builder,
        spec,
        move |executor, requests| {
            async move {
                reserve::reserve(executor, &requests, sale.hold_seconds, &sale.events).await
            }
            .boxed()
        },
        Some(at_once(sale)),
    )
}

fn at_once(sale: &'static Sale) -> AtOnce<Reserve> {
    AtOnce {
        work: Box::new(move |connections, keys, requests| {
            let reserved = async move {
                reserve::reserve_once(connections, keys, requests, sale.hold_seconds, &sale.events)
                    .await
            };
            reserved.boxed()
        }),
        restore: reserve::restore,
    }
}

fn render(outcome: Outcome) -> Result<Created<Reservation>, Problem> {
    let body = outcome?;
    let path = format!("/reservations/{}", body.id);
    Ok(Created { path, body })
}
