//! expire: ends holds past their deadline and frees their units.

use std::time::{Duration, Instant};

use sqlx::{PgPool, Row};

use crate::{
    Error, Executor, ProductId,
    database::execute,
    event::Events,
    transition::{self, Transition},
    waitlist,
};

/// The due holds and waitlists, by the database's clock.
#[derive(Debug, Clone)]
pub struct Due {
    /// Products of the longest overdue holds. Empty if nothing is due.
    pub products: Vec<ProductId>,
    /// How long the oldest hold has been due, in seconds; 0 if none is due.
    pub lag_seconds: f64,
    /// Products whose waitlist is due, at most 100: the sale began or ended, or a call stopped at its limit.
    pub waitlists: Vec<ProductId>,
    /// Time until the next hold or waitlist falls due; `None` if there is none.
    pub next_due: Option<Duration>,
}

/// Finds the products of the 1,000 longest overdue holds, and the waitlists that are due. The next call finds the rest.
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
        select d.products, d.lag_seconds, w.products as waitlists,
            least(d.next_due_seconds, w.next_due_seconds) as next_due_seconds
        from due_v2($1) d, due_waitlists_v1($1) w",
    )
    .bind(left_out);
    let rows = execute(executor, query).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(Due {
        products: row.try_get("products")?,
        lag_seconds: row.try_get("lag_seconds")?,
        waitlists: row.try_get("waitlists")?,
        next_due: row
            .try_get::<Option<f64>, _>("next_due_seconds")?
            .map(|seconds| Duration::from_secs_f64(seconds.max(0.0))),
    })
}

/// Result of one transaction of a sweep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expired {
    /// Number of holds that it expired.
    pub expired: u64,
    /// Number of holds that it offered to users who waited for units.
    pub offered: u64,
}

impl Expired {
    /// The transitions that it made.
    pub fn transitions(self) -> impl Iterator<Item = Transition<'static>> + Clone {
        let expired = transition::expired(self.expired);
        expired.into_iter().chain(transition::offered(self.offered))
    }
}

/// Whether the commits of a sweep wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Commit {
    /// Always. For a caller that tells somebody that the holds have expired.
    Synchronous,
    /// Only if an event or an offered hold tells somebody. If a crash undoes another commit, its holds are due again, which
    /// they also were for everybody before.
    Asynchronous,
}

/// Expires up to `max_rows` due holds of one product in one transaction. Their units go to users who wait for them, if
/// there are any.
pub async fn expire(
    pool: &PgPool,
    product_id: ProductId,
    max_rows: i32,
    commit: Commit,
    events: &Events,
) -> Result<Expired, Error> {
    let query = sqlx::query("-- expire\nselect expired, offered from expire_v4($1, $2, $3, $4)")
        .bind(product_id)
        .bind(max_rows)
        .bind(events.types())
        .bind(commit == Commit::Synchronous);
    let rows = execute(pool, query).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let expired: i32 = row.try_get("expired")?;
    let offered: i32 = row.try_get("offered")?;
    Ok(Expired {
        expired: expired.unsigned_abs().into(),
        offered: offered.unsigned_abs().into(),
    })
}

/// Result of a sweep.
#[derive(Debug)]
pub struct Swept {
    /// Number of expired holds.
    pub expired: u64,
    /// Time until the next hold or waitlist falls due; `None` if there is none.
    pub next_due: Option<Duration>,
    /// Total time of the calls of [`due`]. One call takes some microseconds per product with holds.
    pub looks: Duration,
}

/// Expires everything that is due, product by product, at most `max_rows` holds per transaction. Then does what is due in
/// waitlists. Calls `after` with the result of each transaction, and stops between two transactions when `after` returns
/// `false`.
///
/// If PostgreSQL refuses a product, because another transaction keeps it locked, the sweep skips that product, sweeps
/// all others, and then returns the error.
///
/// After an error, everything that was expired before is committed and was reported to `after`.
pub async fn sweep(
    pool: &PgPool,
    max_rows: i32,
    commit: Commit,
    events: &Events,
    mut after: impl FnMut(Expired) -> bool,
) -> Result<Swept, Error> {
    let mut total = 0;
    let (mut left_out, mut refusal) = (Vec::new(), None);
    let mut looks = Duration::ZERO;
    loop {
        let began = Instant::now();
        // Skipped products are excluded in SQL: the 1,000 holds of one call could all be theirs.
        let found = due_beside(pool, &left_out).await?;
        looks += began.elapsed();
        let holds = found.products.iter().map(|product| (*product, max_rows));
        // A waitlist is due without any due hold, too.
        let waitlists = found.waitlists.iter().map(|product| (*product, 0));
        if found.products.is_empty() && found.waitlists.is_empty() {
            return refusal.map_or(Ok(Swept::new(total, &found, looks)), Err);
        }
        for (product_id, max_rows) in holds.chain(waitlists) {
            loop {
                let done = match max_rows {
                    0 => settle(pool, product_id, events).await,
                    _ => expire(pool, product_id, max_rows, commit, events).await,
                };
                let done = match done {
                    Ok(done) => done,
                    Err(error) if error.is_refusal() => {
                        left_out.push(product_id);
                        refusal = Some(error);
                        break;
                    }
                    Err(error) => return Err(error),
                };
                total += done.expired;
                if !after(done) {
                    return Ok(Swept::new(total, &found, looks));
                }
                if max_rows == 0 || done.expired < max_rows.unsigned_abs().into() {
                    break;
                }
            }
        }
    }
}

/// Does what is due in the waitlist of one product, in one transaction.
async fn settle(pool: &PgPool, product_id: ProductId, events: &Events) -> Result<Expired, Error> {
    let expired = 0;
    let offered = waitlist::settle(pool, product_id, events).await?;
    Ok(Expired { expired, offered })
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
