//! `POST /products/{id}/stock`

use axum::extract::State;
use futures_util::{FutureExt as _, future::BoxFuture};
use inventory::{
    Error, Executor, ProductId,
    adjust_stock::{self, Adjusted, Adjustment, REASON_MAX_CHARACTERS},
    idempotency::Key,
    product::Product,
    reservation::Refusal,
    schema::WITHOUT_NUL,
    whole_number,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    Problem,
    answer::Answer,
    auth::Admin,
    bulkhead::{About, Bulkhead},
    code::ProblemCode,
    extract::{Id, Json},
    idempotency::{Keyed, Rendered},
    openapi::Operation,
    sale::Sale,
};

pub(crate) fn operation() -> Operation {
    Operation::new("adjustStock", "Add units to the stock, or remove free units")
        .explained(
            "Each change is stored with its reason. This request is not idempotent: send an `Idempotency-Key` to \
            make a repeat safe.",
        )
        .refuses(&[ProblemCode::InsufficientStock])
}

/// A change of a product's stock.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdjustStock {
    /// Number of units to add. A negative number removes free units.
    #[serde(deserialize_with = "any_i32")]
    #[schemars(range(min = i32::MIN, max = i32::MAX), extend("not" = { "const": 0 }), example = -5)]
    delta: i32,
    #[schemars(
        length(min = 1, max = REASON_MAX_CHARACTERS),
        regex(pattern = WITHOUT_NUL),
        example = &"damaged"
    )]
    reason: String,
}

fn any_i32<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let number = whole_number(deserializer, i32::MIN.into(), i32::MAX.into())?;
    number.try_into().map_err(D::Error::custom)
}

pub(crate) async fn adjust_stock(
    _: Admin,
    Id(id): Id<ProductId>,
    State(bulkhead): State<&'static Bulkhead>,
    State(sale): State<&'static Sale>,
    Keyed(key, Json(body)): Keyed<Json<AdjustStock>>,
) -> Result<Rendered<Answer<Product>>, Problem> {
    let adjustment = Adjustment::new(body.delta, body.reason)?;
    let changed = change_stock(
        bulkhead,
        "adjust_stock",
        id,
        key,
        Problem::from,
        move |executor| {
            async move { adjust_stock::adjust_stock(executor, id, &adjustment, &sale.events).await }
                .boxed()
        },
    );
    changed.await
}

/// Runs a verb that changes a product's stock, and answers with the product.
pub(crate) async fn change_stock<W>(
    bulkhead: &Bulkhead,
    verb: &'static str,
    id: ProductId,
    key: Option<Key>,
    refused: fn(Refusal) -> Problem,
    work: W,
) -> Result<Rendered<Answer<Product>>, Problem>
where
    W: for<'a> FnOnce(Executor<'a>) -> BoxFuture<'a, Result<Adjusted, Error>> + Send + 'static,
{
    let once = bulkhead.execute_once(
        verb,
        About::Products(vec![id]),
        key,
        work,
        |after_commit, adjusted| after_commit.tell(adjusted.transitions()),
        move |adjusted| adjusted.answer.clone().map(Answer).map_err(refused),
    );
    once.await
}
