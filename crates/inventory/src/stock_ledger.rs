//! stock ledger: every change of a product's stock by an administrator, with its reason.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;

use crate::{Error, ProductId, StockChangeId, database::read_only, schema::Utc};

/// A change of a product's stock.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema, FromRow)]
#[schemars(example = json!({
    "id": 7, "delta": -5, "reason": "damaged", "created_at": "2026-02-14T12:00:00Z",
}))]
pub struct StockChange {
    /// Id of the change.
    pub id: StockChangeId,
    /// Number of added units. A negative number of units was removed.
    pub delta: i32,
    /// The administrator's reason.
    pub reason: String,
    /// Time of the change.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "Utc")]
    pub created_at: OffsetDateTime,
}

/// The time limit is for a product with very many changes: all of them are read and sorted.
const BEGIN: &str = "begin read only; set local statement_timeout = '2s'";

/// Up to `limit` changes with ids below `after`, newest first.
pub async fn list(
    pool: &PgPool,
    product_id: ProductId,
    after: Option<StockChangeId>,
    limit: i64,
) -> Result<Vec<StockChange>, Error> {
    // OFFSET 0 makes the planner find the product's changes by index. Otherwise it may scan the changes of all products
    // by id.
    let query = sqlx::query(
        "-- stock ledger: list
        select a.id, a.delta, a.reason, a.created_at
        from (select * from stock_adjustments where product_id = $1 and id < $2 offset 0) a
        order by a.id desc limit $3",
    )
    .bind(product_id)
    .bind(after.map_or(i64::MAX, StockChangeId::get))
    .bind(limit);
    read_only(pool, BEGIN, query).await
}
