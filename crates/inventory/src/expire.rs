//! expire: ends holds past their deadline and frees their units.

use std::time::{Duration, Instant};

use sqlx::{PgPool, Row};

use crate::{Error, Executor, ProductId, database::execute, event::Events};

/// The due holds, by the database's clock.
#[derive(Debug, Clone)]
pub struct Due {
    /// Products of the longest overdue holds. Empty if nothing is due.
    pub products: Vec<ProductId>,
    /// How long the oldest hold has been due, in seconds; 0 if none is due.
    pub lag_seconds: f64,
    /// Time until the next hold falls due; `None` if nothing is held.
    pub next_due: Option<Duration>,
}

/// Finds the products of the 1,000 longest overdue holds. The next call finds the rest.
pub async fn due(executor: impl Into<Executor<'_>>) -> Result<Due, Error> {
    due_beside(executor, &[]).await
}

/// The same without the holds of some products.
async fn due_beside(
    executor: impl Into<Executor<'_>>,
    left_out: &[ProductId],
) -> Result<Due, Error> {
    let left_out: Vec<i64> = left_out.iter().map(|id| id.get()).collect();
    let query = sqlx::query(
        "-- due
        select products, lag_seconds, next_due_seconds from due_v2($1)",
    )
    .bind(left_out);
    let rows = execute(executor, query).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(Due {
        products: row.try_get("products")?,
        lag_seconds: row.try_get("lag_seconds")?,
        next_due: row
            .try_get::<Option<f64>, _>("next_due_seconds")?
            .map(|seconds| Duration::from_secs_f64(seconds.max(0.0))),
    })
}

/// Expires up to `max_rows` due holds of one product in one transaction. Returns the number of holds.
pub async fn expire(
    pool: &PgPool,
    product_id: ProductId,
    max_rows: i32,
    events: &Events,
) -> Result<u64, Error> {
    let query = sqlx::query("-- expire\nselect expire_v2($1, $2, $3) as expired")
        .bind(product_id)
        .bind(max_rows)
        .bind(events.types());
    let rows = execute(pool, query).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let expired: i32 = row.try_get("expired")?;
    Ok(expired.unsigned_abs().into())
}

/// Result of a sweep.
#[derive(Debug)]
pub struct Swept {
    /// Number of expired holds.
    pub expired: u64,
    /// Time until the next hold falls due; `None` if nothing is held.
    pub next_due: Option<Duration>,
    /// Total time of the calls of [`due`]. One call takes some microseconds per product with holds.
    pub looks: Duration,
}

/// Expires everything that is due, product by product, at most `max_rows` holds per transaction. Calls `after` with
/// the size of each batch, and stops between two transactions when `after` returns `false`.
///
/// If PostgreSQL refuses a product, because another transaction keeps it locked, the sweep skips that product, sweeps
/// all others, and then returns the error.
///
/// After an error, everything that was expired before is committed and was reported to `after`.
pub async fn sweep(
    pool: &PgPool,
    max_rows: i32,
    events: &Events,
    mut after: impl FnMut(u64) -> bool,
) -> Result<Swept, Error> {
    let mut total = 0;
    let (mut left_out, mut refusal) = (Vec::new(), None);
    let mut looks = Duration::ZERO;
    loop {
        let began = Instant::now();
        // Skipped products are excluded in SQL: the 1,000 holds of one call could all be theirs.
        let found = due_beside(pool, &left_out).await?;
        looks += began.elapsed();
        if found.products.is_empty() {
            return refusal.map_or(Ok(Swept::new(total, &found, looks)), Err);
        }
        for &product_id in &found.products {
            loop {
                let expired = match expire(pool, product_id, max_rows, events).await {
                    Ok(expired) => expired,
                    Err(error) if error.is_refusal() => {
                        left_out.push(product_id);
                        refusal = Some(error);
                        break;
                    }
                    Err(error) => return Err(error),
                };
                total += expired;
                if !after(expired) {
                    return Ok(Swept::new(total, &found, looks));
                }
                if expired < max_rows.unsigned_abs().into() {
                    break;
                }
            }
        }
    }
}

impl Swept {
    fn new(expired: u64, found: &Due, looks: Duration) -> Self {
        Self {
            looks,
            expired,
            next_due: found.next_due,
        }
    }
}
