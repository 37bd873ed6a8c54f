//! `PUT /products/{id}/stock`

use axum::extract::State;
use futures_util::FutureExt as _;
use inventory::{
    ProductId,
    adjust_stock::REASON_MAX_CHARACTERS,
    product::Product,
    reservation::Refusal,
    schema::WITHOUT_NUL,
    set_stock::{self, SetStock},
    whole_number,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    Problem,
    adjust_stock::change_stock,
    answer::Answer,
    auth::Admin,
    bulkhead::Bulkhead,
    code::ProblemCode,
    extract::{Id, Json},
    faults::Fault,
    idempotency::{Keyed, Rendered},
    openapi::Operation,
    sale::Sale,
};

pub(crate) fn operation() -> Operation {
    Operation::new("setStock", "Set the number of free units")
        .explained(
            "The difference is stored with its reason, as a change by `POST` is. With `expected`, nothing is done if \
            another number of units is free: a hold or a sale may have come between a count and this request. Without \
            it, units that were sold meanwhile become free units again. A repeat can set the stock again, also with \
            `expected`: if the units that were added are sold, or offered to users who wait, the number of free units is the \
            expected one again. Send an `Idempotency-Key`.",
        )
        .refuses(&[ProblemCode::StockChanged])
}

/// The free units of a product.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedStock {
    /// Number of free units to set.
    #[serde(deserialize_with = "units")]
    #[schemars(range(min = 0, max = i32::MAX), example = 100)]
    stock: i32,
    /// Number of free units that there must be before.
    #[serde(default, deserialize_with = "some_units")]
    #[schemars(with = "i32", range(min = 0, max = i32::MAX), example = 80)]
    expected: Option<i32>,
    #[schemars(
        length(min = 1, max = REASON_MAX_CHARACTERS),
        regex(pattern = WITHOUT_NUL),
        example = &"count"
    )]
    reason: String,
}

fn units<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let number = whole_number(deserializer, 0, i32::MAX.into())?;
    number.try_into().map_err(D::Error::custom)
}

fn some_units<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    units(deserializer).map(Some)
}

pub(crate) async fn set_stock(
    _: Admin,
    Id(id): Id<ProductId>,
    State(bulkhead): State<&'static Bulkhead>,
    State(sale): State<&'static Sale>,
    Keyed(key, Json(body)): Keyed<Json<WantedStock>>,
) -> Result<Rendered<Answer<Product>>, Problem> {
    let wanted = SetStock {
        stock: body.stock,
        expected: body.expected,
        reason: body.reason.try_into()?,
    };
    let refused = |refusal| match refusal {
        Refusal::TotalTooLarge => Fault::of("/stock", &refusal.to_string()).into(),
        refusal => refusal.into(),
    };
    let changed = change_stock(bulkhead, "set_stock", id, key, refused, move |executor| {
        async move { set_stock::set_stock(executor, id, &wanted, &sale.events).await }.boxed()
    });
    changed.await
}
