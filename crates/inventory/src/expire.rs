//! expire: ends holds past their deadline and frees their units.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use sqlx::Row;
use tokio::time::sleep;

use crate::{
    Error, Executor, ProductId,
    database::{Connections, execute},
    event::Events,
    locked::IfLocked,
    transition::{self, Transition},
    waitlist,
};

/// After a search for due holds, this many times its duration should pass until the next one. With 10,000 products that have
/// holds, one search takes 65 ms of PostgreSQL's CPU time.
pub const PAUSE_PER_LOOK: u32 = 10;

/// Maximum pause after a search: a hold must end within a second of its deadline. With 50,000 products that have holds,
/// two searches of 325 ms fit beside it. A sweep that is not done always waits for so long, because a search walks over the
/// index entries of all the holds that the sweep has ended.
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(350);

/// Maximum number of holds in the first transaction of a product. Each further one of a sweep expires twice as many, up to
/// the sweep's maximum. When many holds fall due at once, they are often those of a sale, and its users want the product at
/// this very moment: the first to wait must not wait for a long transaction.
const FIRST_ROWS: i32 = 50;

/// Maximum pause before the next transaction of a product whose lock others want.
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(100);

/// The due holds and waitlists, by the database's clock.
#[derive(Debug, Clone)]
pub struct Due {
    /// Products with due holds, those of the longest overdue hold first. Empty if nothing is due.
    pub products: Vec<ProductId>,
    /// How long the oldest hold has been due, in seconds; 0 if none is due.
    pub lag_seconds: f64,
    /// Products whose waitlist is due, at most 100: the sale began or ended, or a call stopped at its limit.
    pub waitlists: Vec<ProductId>,
    /// Time until the next hold or waitlist falls due; `None` if there is none.
    pub next_due: Option<Duration>,
}

/// Finds the products with due holds, and the waitlists that are due.
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
    /// Whether another transaction waited for it. Only known of a transaction that expired as many as it was allowed.
    pub wanted: bool,
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
/// there are any. `None`: the product was locked, and was skipped.
pub async fn expire(
    executor: impl Into<Executor<'_>>,
    product_id: ProductId,
    max_rows: i32,
    commit: Commit,
    if_locked: IfLocked,
    events: &Events,
) -> Result<Option<Expired>, Error> {
    let query = sqlx::query(
        "-- expire\nselect expired, offered, locked, wanted from expire_v6($1, $2, $3, $4, $5)",
    )
    .bind(product_id)
    .bind(max_rows)
    .bind(events.types())
    .bind(commit == Commit::Synchronous)
    .bind(if_locked == IfLocked::Wait);
    let rows = execute(executor, query).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let expired: i32 = row.try_get("expired")?;
    let offered: i32 = row.try_get("offered")?;
    let locked: bool = row.try_get("locked")?;
    Ok((!locked).then_some(Expired {
        expired: expired.unsigned_abs().into(),
        offered: offered.unsigned_abs().into(),
        wanted: row.try_get("wanted")?,
    }))
}

/// Result of a sweep.
#[derive(Debug, Default)]
pub struct Swept {
    /// Number of expired holds.
    pub expired: u64,
    /// Time until the next hold or waitlist falls due; `None` if there is none.
    pub next_due: Option<Duration>,
    /// Total time of the calls of [`due`]. One call takes some microseconds per product with holds.
    pub looks: Duration,
    /// The last refusal of PostgreSQL. The sweep has skipped each refused product and swept all others.
    pub refused: Option<Error>,
}

/// How long to wait after a search for due holds that took so long, until the next one.
pub fn pause_after(look: Duration) -> Duration {
    (look * PAUSE_PER_LOOK).min(LOOK_PAUSE_MAX)
}

/// One transaction of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turn {
    /// Expires due holds of a product.
    Holds(ProductId),
    /// Does what is due in a product's waitlist. It can be due without any due hold.
    Waitlist(ProductId),
}

impl Turn {
    /// The product that the transaction locks.
    pub fn product_id(self) -> ProductId {
        match self {
            Self::Holds(product_id) | Self::Waitlist(product_id) => product_id,
        }
    }
}

/// What a turn reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// The transaction is committed.
    Done(Expired),
    /// Others use the product, and there is more to do than was done: another transaction has locked it, or waits for it.
    /// [`sweep_locked`] does it in turn with them.
    Locked(Turn),
}

/// Expires everything that is due, at most `max_rows` holds per transaction, and does what is due in waitlists. Calls `after`
/// with the result of each transaction, and stops between two transactions when `after` returns `false`.
///
/// Products that other transactions have locked come last, one after the other.
///
/// If PostgreSQL refuses a product, for example because it stays locked, the sweep skips that product, sweeps all others, and
/// then returns the error. After an error, everything that was expired before is committed and was reported to `after`.
pub async fn sweep(
    connections: impl Into<Connections<'_>>,
    max_rows: i32,
    commit: Commit,
    events: &Events,
    mut after: impl FnMut(Expired) -> bool,
) -> Result<Swept, Error> {
    let connections = connections.into();
    let (mut locked, mut goes_on) = (Vec::new(), true);
    let unlocked = sweep_unlocked(connections, max_rows, commit, events, |step| {
        match step {
            Step::Done(done) => goes_on = after(done),
            // A long sweep finds it locked several times.
            Step::Locked(turn) if locked.contains(&turn) => {}
            Step::Locked(turn) => locked.push(turn),
        }
        goes_on
    });
    let mut swept = unlocked.await?;
    for turn in locked {
        if !goes_on {
            break;
        }
        let expired = &mut swept.expired;
        let waited = sweep_locked(connections, turn, max_rows, commit, events, |done| {
            *expired += done.expired;
            goes_on = after(done);
            goes_on
        });
        match waited.await {
            Err(error) if error.is_refusal() => swept.refused = Some(error),
            done => done?,
        }
    }
    match swept.refused.take() {
        Some(error) if goes_on => Err(error),
        _ => Ok(swept),
    }
}

/// As [`sweep`], but waits for no lock: a product that others use is only reported to `after`, as [`Step::Locked`]. If the
/// sweep lasts long, it tries such a product again after each search. Refusals are in the result.
///
/// Products take turns of one transaction, of 50 holds at first. So a product with many due holds delays no other, also one
/// that falls due during the sweep.
pub async fn sweep_unlocked(
    connections: impl Into<Connections<'_>>,
    max_rows: i32,
    commit: Commit,
    events: &Events,
    mut after: impl FnMut(Step) -> bool,
) -> Result<Swept, Error> {
    let connections = connections.into();
    let mut swept = Swept::default();
    let mut turns = VecDeque::new();
    let mut next_look = Instant::now();
    let (mut refused, mut locked, mut advanced) = (Vec::new(), Vec::new(), false);
    loop {
        let began = Instant::now();
        if turns.is_empty() || began >= next_look {
            if began >= next_look && advanced {
                // If only locked products are left, the sweep ends.
                (locked, advanced) = (Vec::new(), false);
            }
            // Skipped products are excluded in SQL: each search would find them again.
            let found = due_beside(connections, &[&refused[..], &locked[..]].concat()).await?;
            swept.looks += began.elapsed();
            next_look = Instant::now() + LOOK_PAUSE_MAX;
            swept.next_due = found.next_due;
            line_up(&mut turns, &found, FIRST_ROWS.min(max_rows));
        }
        let Some((turn, rows)) = turns.pop_front() else {
            return Ok(swept);
        };
        let done = match take(connections, turn, rows, commit, IfLocked::Skip, events).await {
            Ok(done) => done,
            Err(error) if error.is_refusal() => {
                turns.retain(|(other, _)| other.product_id() != turn.product_id());
                refused.push(turn.product_id());
                swept.refused = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Some(done) = done {
            advanced = true;
            swept.expired += done.expired;
            if !after(Step::Done(done)) {
                return Ok(swept);
            }
        }
        let leave = match done {
            Some(done) if !is_full(turn, done, rows) => continue,
            // The next transaction here would often have the lock before PostgreSQL has woken the session that waits. Turns of
            // other products would give it the time.
            Some(done) => done.wanted && turns.is_empty(),
            None => true,
        };
        if !leave {
            turns.push_back((turn, rows.saturating_mul(2).min(max_rows)));
            continue;
        }
        locked.push(turn.product_id());
        if !after(Step::Locked(turn)) {
            return Ok(swept);
        }
    }
}

/// Does all of a turn that was [`Step::Locked`], transaction by transaction, and waits for the product's lock before each.
/// If another transaction waited, then leaves the product to it for as long as the transaction and its wait took, at most
/// 100 ms. Calls `after` as [`sweep`] does.
pub async fn sweep_locked(
    connections: impl Into<Connections<'_>>,
    turn: Turn,
    max_rows: i32,
    commit: Commit,
    events: &Events,
    mut after: impl FnMut(Expired) -> bool,
) -> Result<(), Error> {
    let connections = connections.into();
    loop {
        let began = Instant::now();
        let done = take(connections, turn, max_rows, commit, IfLocked::Wait, events).await?;
        let Some(done) = done else {
            return Ok(());
        };
        if !after(done) || !is_full(turn, done, max_rows) {
            return Ok(());
        }
        // Without a pause, this loop often has the lock again before a session that PostgreSQL has woken gets to run.
        if done.wanted {
            sleep(began.elapsed().min(BUSY_PAUSE_MAX)).await;
        }
    }
}

/// The transaction of a turn. `None`: the product was locked, and was skipped.
async fn take(
    connections: Connections<'_>,
    turn: Turn,
    max_rows: i32,
    commit: Commit,
    if_locked: IfLocked,
    events: &Events,
) -> Result<Option<Expired>, Error> {
    match turn {
        Turn::Holds(product_id) => {
            expire(connections, product_id, max_rows, commit, if_locked, events).await
        }
        Turn::Waitlist(product_id) => {
            let offered = waitlist::settle(connections, product_id, if_locked, events).await?;
            Ok(offered.map(|offered| Expired {
                expired: 0,
                offered,
                wanted: false,
            }))
        }
    }
}

/// Whether more may be due after a transaction: its batch was full. A waitlist that has more to do is found by the next
/// search.
fn is_full(turn: Turn, done: Expired, max_rows: i32) -> bool {
    matches!(turn, Turn::Holds(_)) && done.expired >= max_rows.unsigned_abs().into()
}

/// Adds what was found to the turns, holds and waitlists alternately, with the maximum number of holds of each. What waits
/// for its turn already keeps its place.
fn line_up(turns: &mut VecDeque<(Turn, i32)>, found: &Due, rows: i32) {
    let known: HashSet<Turn> = turns.iter().map(|(turn, _)| *turn).collect();
    for place in 0..found.products.len().max(found.waitlists.len()) {
        let waitlist = found.waitlists.get(place).copied().map(Turn::Waitlist);
        let holds = found.products.get(place).copied().map(Turn::Holds);
        let both = waitlist.into_iter().chain(holds);
        let new = both.filter(|turn| !known.contains(turn));
        turns.extend(new.map(|turn| (turn, rows)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hold that falls due just after a search waits for the pause and the next search.
    #[test]
    fn with_many_products_a_pause_ends_within_a_second_of_a_deadline() {
        for (products, at_most_a_tenth) in [
            (1, true),
            (1_000, true),
            (5_000, true),
            (16_000, false),
            (50_000, false),
        ] {
            let look = Duration::from_micros(6_500) * products / 1_000;
            let pause = pause_after(look);
            assert!(2 * look + pause <= Duration::from_secs(1), "{products}");
            assert_eq!(pause >= 10 * look, at_most_a_tenth, "{products}");
        }
    }
}
