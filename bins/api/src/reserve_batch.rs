//! `POST /reservations/batch`

use std::{collections::HashSet, sync::Arc};

use axum::extract::State;
use futures_util::FutureExt as _;
use inventory::{
    ProductId, Quantity, UserId,
    reservation::{Reference, Reservation},
    reserve::Reserve,
    reserve_batch,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::{
    Problem,
    answer::AllCreated,
    auth::ActingClient,
    bulkhead::Bulkhead,
    extract::Json,
    faults::Fault,
    idempotency::{Keyed, Rendered},
    json::Object,
    openapi::Operation,
    problem::Part,
    reserve::{REFUSALS, one},
    sale::Sale,
};

/// Most products in one batch.
const MAX_ITEMS: usize = 100;

pub(crate) fn operation() -> Operation {
    let summary = "Hold units of several products for a user: all or none";
    Operation::new("reserveBatch", summary)
        .explained(
            "The reservations in the answer are in the order of the items. All have the same deadline: it follows the \
            shortest `hold_seconds` of their products. A refusal is about the first item that \
            cannot be reserved: `product_id` names the product.",
        )
        .refuses(&REFUSALS)
}

/// Units of different products, to hold for a user.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateBatch {
    #[schemars(example = 42)]
    user_id: UserId,
    /// Each has another product.
    #[schemars(with = "Vec<Item>", length(min = 1, max = MAX_ITEMS), example = json!([{ "product_id": 1, "quantity": 2 }]))]
    items: Vec<Object<Item>>,
    /// Your own name for the reservations, for example an order number. It is stored, shown, and can be searched for.
    reference: Option<Reference>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Item {
    product_id: ProductId,
    #[serde(default = "one")]
    quantity: Quantity,
}

/// Runs without a lane: a request that waits for several products must not delay the lane of each product.
pub(crate) async fn reserve_batch(
    _: ActingClient,
    State(bulkhead): State<Arc<Bulkhead>>,
    State(sale): State<Arc<Sale>>,
    Keyed(key, Json(body)): Keyed<Json<CreateBatch>>,
) -> Result<Rendered<AllCreated<Reservation>>, Problem> {
    let requests = body.requests()?;
    let once = bulkhead.execute_once(
        "reserve_together",
        key,
        move |executor| {
            async move {
                let Sale {
                    hold_seconds,
                    ref events,
                    ..
                } = *sale;
                reserve_batch::reserve_batch(executor, &requests, hold_seconds, events).await
            }
            .boxed()
        },
        |after_commit, batch| after_commit.tell(batch.transitions()),
        |batch| match &batch.answer {
            Ok(holds) => Ok(AllCreated(holds.clone())),
            Err((product_id, refusal)) => {
                let part = Part::Product(*product_id);
                Err(Problem::RefusedOf(part, refusal.clone()))
            }
        },
    );
    once.await
}

impl CreateBatch {
    fn requests(self) -> Result<Vec<Reserve>, Problem> {
        let mut products = HashSet::new();
        let mut items = self.items.iter().enumerate();
        if let Some((position, twice)) = items.find(|(_, item)| !products.insert(item.0.product_id))
        {
            let detail = format!("items name product {} twice", twice.0.product_id);
            return Err(Fault::of(&format!("/items/{position}/product_id"), &detail).into());
        }
        if !(1..=MAX_ITEMS).contains(&self.items.len()) {
            let detail = format!("items must be 1 to {MAX_ITEMS}");
            return Err(Fault::of("/items", &detail).into());
        }
        let requests = self.items.into_iter().map(|Object(item)| Reserve {
            product_id: item.product_id,
            user_id: self.user_id,
            quantity: item.quantity,
            reference: self.reference.clone(),
        });
        Ok(requests.collect())
    }
}
