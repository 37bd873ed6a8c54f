//! `POST /reservations/batch`

use std::collections::HashSet;

use axum::extract::State;
use futures_util::FutureExt as _;
use inventory::{
    ProductId, Quantity, UserId,
    moved::Subject,
    reservation::{Reference, Refusal, Reservation},
    reserve::Reserve,
    reserve_batch,
    sku::Sku,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use trace::Span;

use crate::{
    Problem,
    answer::AllCreated,
    auth::ActingClient,
    bulkhead::{About, Bulkhead},
    extract::{Json, given},
    faults::Fault,
    idempotency::{Keyed, Rendered},
    json::Object,
    openapi::Operation,
    reserve::{REFUSALS, one},
    sale::Sale,
    skus::{Named, Skus, one_name},
};

/// Most products in one batch.
const MAX_ITEMS: usize = 100;

pub(crate) fn operation() -> Operation {
    let summary = "Hold units of several products for a user: all or none";
    Operation::new("reserveBatch", summary)
        .explained(
            "An item names its product by `product_id` or by `sku`. The reservations in the answer are in the order of the items. All have the same deadline: it follows the \
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
#[schemars(transform = one_name)]
struct Item {
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "ProductId")]
    product_id: Option<ProductId>,
    /// The product's SKU, in place of `product_id`. Exactly one of the two must be given.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Sku")]
    sku: Option<Sku>,
    #[serde(default = "one")]
    quantity: Quantity,
}

/// Runs without a lane: a request that waits for several products must not delay the lane of each product.
pub(crate) async fn reserve_batch(
    _: ActingClient,
    State(bulkhead): State<&'static Bulkhead>,
    State(sale): State<&'static Sale>,
    State(skus): State<&'static Skus>,
    Keyed(key, Json(mut body)): Keyed<Json<CreateBatch>>,
) -> Result<Rendered<AllCreated<Reservation>>, Problem> {
    let named = body.named()?;
    let requests = body.requests(&named, skus).await?;
    let products = requests.iter().map(|request| request.product_id).collect();
    let once = bulkhead.execute_once(
        "reserve_batch",
        About::Products(products),
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
                let part = Subject::Product(*product_id);
                Err(Problem::RefusedOf(part, refusal.clone()))
            }
        },
    );
    let answer = once.await;
    for named in &named {
        skus.forget_unknown(named, &answer);
    }
    answer
}

impl CreateBatch {
    /// The product of each item.
    fn named(&mut self) -> Result<Vec<Named>, Problem> {
        if !(1..=MAX_ITEMS).contains(&self.items.len()) {
            let detail = format!("items must be 1 to {MAX_ITEMS}");
            return Err(Fault::of("/items", &detail).into());
        }
        let items = self.items.iter_mut().enumerate();
        let named = items.map(|(position, Object(item))| {
            let place = format!("/items/{position}");
            Named::of(&place, item.product_id, item.sku.take())
        });
        Ok(named.collect::<Result<_, Fault>>()?)
    }

    async fn requests(self, named: &[Named], skus: &Skus) -> Result<Vec<Reserve>, Problem> {
        let mut requests = Vec::with_capacity(named.len());
        let mut products = HashSet::new();
        for (position, (Object(item), named)) in self.items.into_iter().zip(named).enumerate() {
            let (product_id, field) = match named {
                Named::Id(id) => (*id, "product_id"),
                Named::Sku(sku) => match skus.find(sku).await? {
                    Some(id) => (id, "sku"),
                    None => {
                        let part = Subject::Sku(sku.clone());
                        return Err(Problem::RefusedOf(part, Refusal::ProductNotFound));
                    }
                },
            };
            if !products.insert(product_id) {
                let detail = format!("items name product {product_id} twice");
                return Err(Fault::of(&format!("/items/{position}/{field}"), &detail).into());
            }
            requests.push(Reserve {
                product_id,
                user_id: self.user_id,
                quantity: item.quantity,
                reference: self.reference.clone(),
                span: Span::current(),
            });
        }
        Ok(requests)
    }
}
