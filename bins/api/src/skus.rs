//! SKUs in requests: which product each one names.
//!
//! A product's SKU never changes, so the products are remembered. A product can still vanish: deleted by hand, or with
//! everything else in a restore of an earlier state. Ids are never given out twice, so an outdated entry leads to
//! `product_not_found`, and is then forgotten.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use inventory::{
    ProductId,
    reservation::Refusal,
    sku::{self, Sku},
};
use lanes::NoAnswer;
use schemars::Schema;
use serde_json::json;

use crate::{
    Problem,
    faults::Fault,
    idempotency::{Rendered, is_not_found},
    lane_builder::LaneBuilder,
};

/// Most SKUs that are remembered: some 15 MB.
const REMEMBERED_MAX: usize = 100_000;

/// Finds products by SKU.
pub(crate) struct Skus {
    known: RwLock<HashMap<Sku, ProductId>>,
    lanes: lanes::Lanes<Sku, Option<ProductId>>,
}

/// The schema of a body says that exactly one of `product_id` and `sku` must be given. Not by `oneOf`: code generators
/// would make a type of each alternative. They ignore `if`.
pub(crate) fn one_name(schema: &mut Schema) {
    schema.insert("if".into(), json!({ "required": ["sku"] }));
    let by_sku = json!({ "not": { "required": ["product_id"] } });
    schema.insert("then".into(), by_sku);
    schema.insert("else".into(), json!({ "required": ["product_id"] }));
}

/// The product of a request, by its id or by its SKU.
pub(crate) enum Named {
    Id(ProductId),
    Sku(Sku),
}

impl Named {
    /// Exactly one of the two must be given. `place` is the pointer to the object that has these fields.
    pub(crate) fn of(
        place: &str,
        product_id: Option<ProductId>,
        sku: Option<Sku>,
    ) -> Result<Self, Fault> {
        match (product_id, sku) {
            (Some(id), None) => Ok(Self::Id(id)),
            (None, Some(sku)) => Ok(Self::Sku(sku)),
            (Some(_), Some(_)) => Err(Fault::of(
                &format!("{place}/sku"),
                "expected either product_id or sku, not both",
            )),
            (None, None) => Err(Fault::of(
                &format!("{place}/product_id"),
                "the field is missing, and so is sku",
            )),
        }
    }
}

impl Skus {
    pub(crate) fn start(builder: &LaneBuilder) -> Self {
        let find = async |pool, skus: Vec<Sku>| sku::products(&pool, &skus).await;
        Self {
            known: RwLock::default(),
            lanes: builder.lanes("find_sku", 1, find),
        }
    }

    /// The product with this SKU. `None`: no product has it.
    pub(crate) async fn find(&self, sku: &Sku) -> Result<Option<ProductId>, NoAnswer> {
        if let Some(product) = self.remembered(sku) {
            return Ok(Some(product));
        }
        let found = self.lanes.ask(0, sku.clone()).await?;
        if let Some(product) = found {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            // Simple, and rare: the SKUs in use are soon remembered again.
            if known.len() >= REMEMBERED_MAX {
                known.clear();
            }
            known.insert(sku.clone(), product);
        }
        Ok(found)
    }

    fn remembered(&self, sku: &Sku) -> Option<ProductId> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(sku).copied()
    }

    /// The product of a request that names one product.
    pub(crate) async fn resolve(&self, named: &Named) -> Result<ProductId, Problem> {
        match named {
            Named::Id(id) => Ok(*id),
            Named::Sku(sku) => match self.find(sku).await? {
                Some(id) => Ok(id),
                None => Err(Refusal::ProductNotFound.into()),
            },
        }
    }

    /// To be called with the answer to a request. If it is that no such product exists, the SKU may have been that of a product
    /// that has vanished.
    pub(crate) fn forget_unknown<A>(&self, named: &Named, answer: &Result<Rendered<A>, Problem>) {
        if let Named::Sku(sku) = named
            && is_not_found(answer)
        {
            self.forget(sku);
        }
    }

    /// To be called when no product has the id that [`Skus::find`] returned.
    pub(crate) fn forget(&self, sku: &Sku) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(sku);
    }
}
