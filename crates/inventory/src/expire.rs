//! expire: ends holds past their deadline, and gives their units back.

use std::time::{Duration, Instant};

use sqlx::{PgPool, Row};

use crate::{Error, ProductId, Via, database::call, event::Events};

/// What is due, by the database's clock.
#[derive(Debug, Clone)]
pub struct Due {
    /// Products with due holds, among the holds that are longest due. Empty: nothing is due.
    pub products: Vec<ProductId>,
    /// How long the oldest hold has been due, in seconds; 0 where none is.
    pub lag_seconds: f64,
    /// Time until the next hold falls due; `None` where nothing is held.
    pub next_due: Option<Duration>,
}

/// Looks among the 1,000 holds that are longest due: a storm has more, and the next look finds them.
pub async fn due(via: impl Into<Via<'_>>) -> Result<Due, Error> {
    due_beside(via, &[]).await
}

/// The same beside the holds of some products: theirs are not among what is due.
async fn due_beside(via: impl Into<Via<'_>>, left_out: &[ProductId]) -> Result<Due, Error> {
    let left_out: Vec<i64> = left_out.iter().map(|id| id.get()).collect();
    let query = sqlx::query(
        "-- due
        select products, lag_seconds, next_due_seconds from due_v2($1)",
    )
    .bind(left_out);
    let rows = call(via, query).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(Due {
        products: row.try_get("products")?,
        lag_seconds: row.try_get("lag_seconds")?,
        next_due: row
            .try_get::<Option<f64>, _>("next_due_seconds")?
            .map(|seconds| Duration::from_secs_f64(seconds.max(0.0))),
    })
}

/// Expires up to `max_rows` due holds of one product, in one transaction; answers how many.
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
    let rows = call(pool, query).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let expired: i32 = row.try_get("expired")?;
    Ok(expired.unsigned_abs().into())
}

/// What a sweep found and did.
#[derive(Debug)]
pub struct Swept {
    pub expired: u64,
    /// Time until the next hold falls due; `None` where nothing is held.
    pub next_due: Option<Duration>,
    /// How long the looks for due holds took: each some microseconds for every product that holds anything.
    pub looks: Duration,
}

/// Expires everything that is due, product by product, at most `max_rows` holds a transaction, and calls
/// `after` with the size of each batch. Stops between two transactions once `after` answers `false`.
///
/// A product that PostgreSQL refuses, since somebody keeps it locked, is left alone until the next sweep; all others
/// are swept, and then the refusal is the answer.
///
/// An error loses nothing: what was expired until then is committed, and was told to `after`.
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
        // Not only passed over: the 1,000 holds of a look could all be theirs.
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
