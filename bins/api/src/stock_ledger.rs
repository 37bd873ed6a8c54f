//! `GET /products/{id}/stock`

use axum::{
    extract::{FromRequestParts, State},
    http::{Uri, request::Parts},
};
use inventory::{
    ProductId, StockChangeId, product,
    reservation::Refusal,
    stock_ledger::{self, StockChange},
};

use crate::{
    Problem,
    auth::Admin,
    bulkhead::Bulkhead,
    extract::{Id, query_pairs},
    openapi::{Describe, Operation, Schemas},
    paging::{self, Paged},
};

pub(crate) fn operation() -> Operation {
    Operation::new("listStockChanges", "Changes of the stock, newest first").explained(
        "Each change has its reason. The units of the product when it was created are not a change.",
    )
}

pub(crate) async fn list(
    _: Admin,
    Id(id): Id<ProductId>,
    Listed { after, limit }: Listed,
    uri: Uri,
    State(bulkhead): State<&'static Bulkhead>,
) -> Result<Paged<StockChange>, Problem> {
    let pool = bulkhead.pool();
    let listed = bulkhead.execute("list_stock_changes", async move {
        // One row more shows whether there is a next page.
        let changes = stock_ledger::list(&pool, id, after, limit + 1).await?;
        if changes.is_empty() && product::get(&pool, &[id]).await? == [None] {
            return Ok(None);
        }
        Ok(Some(changes))
    });
    let changes = listed.await?.ok_or(Refusal::ProductNotFound)?;
    Ok(Paged::new(&uri, changes, limit, |last| last.id.get()))
}

/// The query of the list: its page.
pub(crate) struct Listed {
    after: Option<StockChangeId>,
    limit: i64,
}

impl<S: Send + Sync> FromRequestParts<S> for Listed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut listed = Self {
            after: None,
            limit: paging::DEFAULT_LIMIT,
        };
        for (name, value) in query_pairs(parts)? {
            match name.as_str() {
                "limit" => listed.limit = paging::limit(&name, &value)?,
                "after_id" => listed.after = Some(paging::id(&name, &value)?),
                _ => return Err(paging::unknown(&name)),
            }
        }
        Ok(listed)
    }
}

impl Describe for Listed {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        paging::describe::<StockChangeId>(operation, schemas);
    }
}
