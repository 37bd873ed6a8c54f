//! audit: compares each product's counters with its reservations and its waitlist, and counts all reservations.

use std::{borrow::Cow, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{
    FromRow, PgConnection, PgPool, Postgres,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use time::OffsetDateTime;

use crate::{
    Error, ProductId,
    database::{fetch, with_timeout},
};

/// Time limit for reading all reservations: enough for some 5 billion rows (10 million take 1.3 s).
const READ_ALL_LIMIT: Duration = Duration::from_secs(600);

/// A product's counters, and the sums of its reservations.
#[derive(Debug, Serialize, JsonSchema, FromRow)]
pub struct ProductAudit {
    /// The product.
    pub product_id: ProductId,
    /// Free units, by the product's row.
    pub stock: i32,
    /// Held units, by the product's row.
    pub held: i32,
    /// Sold units, by the product's row.
    pub sold: i32,
    /// All units, by the product's row.
    pub total: i32,
    /// Units of ACTIVE reservations.
    pub reservations_held: i64,
    /// Units of CONFIRMED reservations.
    pub reservations_sold: i64,
    /// Waiting entries, by the product's row.
    pub waiting: i32,
    /// WAITING entries of the waitlist.
    pub entries_waiting: i64,
    /// Whether free units should have been offered to the first in line.
    #[serde(skip)]
    pub is_unoffered: bool,
    /// Initial units plus all stock adjustments.
    #[serde(skip)]
    pub adjusted_total: i64,
}

/// A counter that does not match the reservations (for the total: the stock adjustments).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// The product.
    pub product_id: ProductId,
    /// Name of the counter: `stock`, `held`, `sold`, `total` or `waiting`; or `unoffered`, the number of free units that
    /// are enough for the first in line, who should have them.
    pub counter: Cow<'static, str>,
    /// Value in the product's row.
    pub counted: i64,
    /// Value computed from the reservations or adjustments.
    pub expected: i64,
}

/// Result of an audit.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(example = json!({
    "clean": true,
    "products": [{
        "product_id": 1, "stock": 7, "held": 2, "sold": 1, "total": 10, "waiting": 0,
        "reservations_held": 2, "reservations_sold": 1, "entries_waiting": 0,
    }],
    "differences": [],
}))]
pub struct Audit {
    /// Start of the audit, by PostgreSQL's clock.
    #[serde(skip)]
    pub at: OffsetDateTime,
    /// Whether there are no differences.
    pub clean: bool,
    /// Every product, by id.
    pub products: Vec<ProductAudit>,
    /// Every counter that does not match.
    pub differences: Vec<Difference>,
}

/// Number of reservations, by how they ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema, FromRow)]
#[schemars(example = json!({ "created": 10, "confirmed": 6, "canceled": 1, "expired": 2 }))]
pub struct Tally {
    /// All reservations.
    pub created: i64,
    /// Confirmed reservations, including those returned later.
    pub confirmed: i64,
    /// Canceled reservations.
    pub canceled: i64,
    /// Expired reservations. A hold past its deadline counts once it is swept or reclaimed.
    pub expired: i64,
}

impl Tally {
    /// `[created, confirmed, canceled, expired]`.
    pub fn counts(self) -> [i64; 4] {
        [self.created, self.confirmed, self.canceled, self.expired]
    }
}

/// Counts all reservations in one snapshot.
pub async fn tally(pool: &PgPool) -> Result<Tally, Error> {
    let query = sqlx::query(
        "-- tally
        select count(*) as created,
            count(*) filter (where status in ('CONFIRMED', 'RETURNED')) as confirmed,
            count(*) filter (where status = 'CANCELED') as canceled,
            count(*) filter (where status = 'EXPIRED') as expired
        from reservations",
    );
    let tallies: Vec<Tally> = read_all(pool, query).await?;
    Ok(tallies.first().copied().ok_or(sqlx::Error::RowNotFound)?)
}

/// Compares the counters of every product with its reservations, and looks for free units beside an entry of the waitlist
/// that they are enough for. Uses one statement, and so one snapshot: concurrent
/// changes cannot cause a false difference.
pub async fn audit(pool: &PgPool) -> Result<Audit, Error> {
    let now = sqlx::query("-- audit: when\nselect statement_timestamp()");
    let rows: Vec<(OffsetDateTime,)> = fetch(pool, now).await?;
    let (at,) = *rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let query = sqlx::query(
        "-- audit
        select coalesce(p.id, r.product_id) as product_id, coalesce(p.stock, 0) as stock,
            coalesce(p.held, 0) as held, coalesce(p.sold, 0) as sold, coalesce(p.total, 0) as total,
            coalesce(p.waiting, 0) as waiting, coalesce(w.entries, 0) as entries_waiting,
            -- Not while the line is due: then the expirer goes on with what one transaction has left.
            coalesce(p.stock >= w.wanted and (p.sale_starts_at <= statement_timestamp()) is not false
                and (p.sale_ends_at > statement_timestamp()) is not false
                and (l.due_at <= statement_timestamp()) is not true, false) as is_unoffered,
            coalesce(r.held, 0)::bigint as reservations_held,
            coalesce(r.sold, 0)::bigint as reservations_sold,
            -- Where initial is unknown, as for a product inserted by hand without triggers, the total is not
            -- compared.
            coalesce(p.initial + coalesce(
                (select sum(a.delta) from stock_adjustments a where a.product_id = p.id), 0
            ), p.total, 0)::bigint as adjusted_total
        from products p
        -- Reservations of a deleted product are a difference, too.
        full join (
            select product_id,
                sum(quantity) filter (where status = 'ACTIVE') as held,
                sum(quantity) filter (where status = 'CONFIRMED') as sold
            from reservations
            group by product_id
        ) r on r.product_id = p.id
        left join (
            select product_id, count(*) as entries, (array_agg(quantity::integer order by id))[1] as wanted
            from waitlist_entries
            where status = 'WAITING'
            group by product_id
        ) w on w.product_id = p.id
        left join waitlists l on l.product_id = p.id
        -- What a product that has moved to another cell leaves for a moment: reservations that hold nothing.
        where p.id is not null or r.held is not null
            or r.product_id not in (select m.product_id from product_moves m where m.status in ('DEPARTED', 'FINISHED'))
        order by 1",
    );
    let products: Vec<ProductAudit> = read_all(pool, query).await?;
    let differences: Vec<Difference> = products.iter().flat_map(differences).collect();
    Ok(Audit {
        at,
        clean: differences.is_empty(),
        products,
        differences,
    })
}

/// Reads every reservation without locks. The usual limit of a call would be too short for a large table.
async fn read_all<T>(
    pool: &PgPool,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Vec<T>, Error>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let read = async |connection: &mut PgConnection| fetch(connection, query).await;
    with_timeout(READ_ALL_LIMIT, pool, read).await
}

fn differences(product: &ProductAudit) -> Vec<Difference> {
    let difference = |counter: &'static str, counted: i64, expected: i64| {
        (counted != expected).then_some(Difference {
            product_id: product.product_id,
            counter: Cow::Borrowed(counter),
            counted,
            expected,
        })
    };
    let (stock, held, sold) = (
        product.stock.into(),
        product.held.into(),
        product.sold.into(),
    );
    let free = i64::from(product.total) - product.reservations_held - product.reservations_sold;
    [
        difference("stock", stock, free),
        difference("held", held, product.reservations_held),
        difference("sold", sold, product.reservations_sold),
        difference("total", product.total.into(), product.adjusted_total),
        difference("waiting", product.waiting.into(), product.entries_waiting),
        product
            .is_unoffered
            .then(|| difference("unoffered", stock, 0))
            .flatten(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
