//! audit: each product's counters against the reservations themselves; and what these add up to.

use std::{borrow::Cow, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::{
    FromRow, PgConnection, PgPool, Postgres,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use time::OffsetDateTime;

use crate::{
    Error, ProductId,
    database::{fetch, within},
};

/// Some 5 billion reservations can be read in that time (1.3 s for 10 million).
const READ_ALL_LIMIT: Duration = Duration::from_secs(600);

/// What the reservations of a product add up to, beside its counters.
#[derive(Debug, Serialize, JsonSchema, FromRow)]
pub struct ProductAudit {
    pub product_id: ProductId,
    pub stock: i32,
    pub held: i32,
    pub sold: i32,
    pub total: i32,
    /// Units of its ACTIVE reservations.
    pub reservations_held: i64,
    /// Units of its CONFIRMED reservations.
    pub reservations_sold: i64,
    /// Units that it was created with, and what adjustments made of them.
    #[serde(skip)]
    pub adjusted_total: i64,
}

/// A counter that its reservations, or for the total its adjustments, do not bear out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    pub product_id: ProductId,
    pub counter: Cow<'static, str>,
    /// What the product's row says.
    pub counted: i64,
    /// What it should be, by the reservations.
    pub expected: i64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Audit {
    /// By PostgreSQL's clock, when it began.
    #[serde(skip)]
    pub at: OffsetDateTime,
    pub clean: bool,
    pub products: Vec<ProductAudit>,
    pub differences: Vec<Difference>,
}

/// How many reservations there are, and how they ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema, FromRow)]
pub struct Tally {
    pub created: i64,
    /// Also of those that were returned later.
    pub confirmed: i64,
    pub canceled: i64,
    /// Those that were expired: a hold past its deadline counts once it was swept or reclaimed.
    pub expired: i64,
}

/// Counts every reservation, in one snapshot.
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

/// One statement, so one snapshot: no false alarm while the sale goes on.
pub async fn audit(pool: &PgPool) -> Result<Audit, Error> {
    let now = sqlx::query("-- audit: when\nselect statement_timestamp()");
    let rows: Vec<(OffsetDateTime,)> = fetch(pool, now).await?;
    let (at,) = *rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let query = sqlx::query(
        "-- audit
        select coalesce(p.id, r.product_id) as product_id, coalesce(p.stock, 0) as stock,
            coalesce(p.held, 0) as held, coalesce(p.sold, 0) as sold, coalesce(p.total, 0) as total,
            coalesce(r.held, 0)::bigint as reservations_held,
            coalesce(r.sold, 0)::bigint as reservations_sold,
            -- Where nobody noted it, as for a product made by hand without triggers, there is nothing to compare.
            coalesce(p.initial + coalesce(
                (select sum(a.delta) from stock_adjustments a where a.product_id = p.id), 0
            ), p.total, 0)::bigint as adjusted_total
        from products p
        -- Reservations of a product that is gone are a difference, too.
        full join (
            select product_id,
                sum(quantity) filter (where status = 'ACTIVE') as held,
                sum(quantity) filter (where status = 'CONFIRMED') as sold
            from reservations
            group by product_id
        ) r on r.product_id = p.id
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

/// Reads every reservation, and holds no lock: it may take as long as that takes.
async fn read_all<T>(
    pool: &PgPool,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Vec<T>, Error>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let read = async |connection: &mut PgConnection| fetch(connection, query).await;
    within(READ_ALL_LIMIT, pool, read).await
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
    ]
    .into_iter()
    .flatten()
    .collect()
}
