//! move: takes a product, with all that belongs to it, from one cell to another during its sale.
//!
//! The row of the product decides: the cell that has it sells. Without it, nothing changes the product's reservations.
//! The two databases have no common transaction. Therefore the old cell keeps the product as a *parcel* in
//! `product_moves` from its commit until the new cell has committed.
//!
//! | step | old cell | new cell | requests | after a crash here |
//! |---|---|---|---|---|
//! | 1 | sells | a transaction begins, and takes the ended reservations | are served | nothing was done |
//! | 2 | locks the product, packs the parcel | the transaction takes the parcel, and what has ended meanwhile | wait for the lock | nothing was done |
//! | 3 | commits: DEPARTED | | are refused, and tried again | on sale nowhere: `resume`, or [`undo`] |
//! | 4 | | commits: ARRIVED, and sells | are refused, and tried again | `resume` only finishes |
//! | 5 | FINISHED, the parcel is deleted | | the old cell says where the product is | `resume` only finishes |
//! | 6 | deletes the ended reservations, keeps their ids | | as above | `resume` only finishes |
//!
//! - A crash ends both transactions. PostgreSQL ends them itself if this process freezes: the old cell's after 5 s. It also
//!   gives up a statement of the old cell's transaction after 5 s. The
//!   commit of step 4 is not sent before the answer to that of step 3.
//! - Between 3 and 4 only the parcel exists, once. Whoever takes it out, [`move_product`] or [`undo`], first settles the
//!   end of the move in the new cell (`settle_move_v1`), and only one of the two can.
//! - If the answer to a commit is lost, the outcome is read again by the next call: the row of `product_moves` says what
//!   was committed.
//!
//! Keys of idempotency are copied: a repeat gets its answer in both cells.

mod copy;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use sqlx::{FromRow, PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error, ProductId, cell, compatibility,
    database::{execute, fetch},
    moved::{Subject, Whereabouts, moved},
};

/// The old and the new cell of a product.
pub struct Cells {
    source: PgPool,
    target: PgPool,
    to_cell: i32,
}

/// What a move has done.
#[derive(Debug, PartialEq)]
pub struct Moved {
    /// The number of the new cell.
    pub to_cell: i32,
    /// How long requests waited for the product, or were refused. `None`: the product had arrived before.
    pub pause: Option<Duration>,
    /// Number of ended reservations that this call deleted in the old cell.
    pub forgotten: i64,
}

/// How long a server that does not answer is asked again.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How far the clocks of two cells may be apart. The clocks of servers that NTP sets differ by milliseconds.
const CLOCKS_APART: Duration = Duration::from_secs(1);

/// Ended reservations that are deleted in one transaction.
const FORGET_ROWS: i32 = 5_000;

/// A product that has left the old cell, and has not arrived for what that cell knows.
#[derive(FromRow)]
struct Departure {
    id: Uuid,
    to_cell: i32,
    parcel: String,
}

impl Cells {
    /// Checks that a product can move from `source` to `target`.
    ///
    /// # Errors
    ///
    /// One of the databases cannot be used, their schemas differ, or they could give out the same ids.
    pub async fn check(source: PgPool, target: PgPool) -> anyhow::Result<Self> {
        let [from_version, to_version] = [
            usable(&source).await.context("the old cell")?,
            usable(&target).await.context("the new cell")?,
        ];
        ensure!(
            from_version == to_version,
            "the old cell has schema {from_version}, and the new cell {to_version}: run flashsale-api migrate"
        );
        let from_cell = cell::of(&source).await.context("the old cell")?;
        let to_cell = cell::of(&target).await.context("the new cell")?;
        ensure!(
            from_cell != to_cell,
            "both databases are cell {to_cell}, so they could give out the same ids"
        );
        Ok(Self {
            source,
            target,
            to_cell,
        })
    }
}

/// Deadlines of holds are times of the old cell's clock. By another clock they would be earlier or later.
async fn same_time(source: &PgPool, target: &PgPool) -> anyhow::Result<()> {
    let before = clock(source).await?;
    let there = clock(target).await?;
    let after = clock(source).await?;
    // The new cell's clock was read between the two others, whatever time the answers took.
    ensure!(
        there > before - CLOCKS_APART && there < after + CLOCKS_APART,
        "the clocks of the two databases differ: {there} in the new cell, {after} in the old one. Holds would end at \
         another time than was promised"
    );
    Ok(())
}

async fn clock(pool: &PgPool) -> anyhow::Result<OffsetDateTime> {
    let query = sqlx::query("-- move: clock\nselect clock_timestamp()");
    let times: Vec<(OffsetDateTime,)> = fetch(pool, query).await?;
    Ok(times.first().context("no time")?.0)
}

/// Returns the version of the schema.
async fn usable(pool: &PgPool) -> anyhow::Result<i32> {
    compatibility::check_within(pool, ANSWER_LIMIT).await?;
    let query = sqlx::query("-- move: version of the schema\nselect version from schema_version");
    let versions: Vec<(i32,)> = fetch(pool, query).await?;
    Ok(versions.first().context("there is no schema")?.0)
}

/// Moves a product, or goes on with a move that was interrupted.
///
/// # Errors
///
/// The error says whether nothing was done, or whether the call must be repeated.
pub async fn move_product(cells: &Cells, product: ProductId) -> anyhow::Result<Moved> {
    let is_here = has_product(&cells.source, product).await?;
    let (id, pause) = match departure(cells, product).await? {
        Some(departure) => {
            let pause = resume(cells, product, &departure).await?;
            (Some(departure.id), pause)
        }
        None if is_here => {
            let (id, pause) = start(cells, product).await?;
            (Some(id), Some(pause))
        }
        None => {
            ensure!(
                moved(&cells.source, &[Subject::Product(product)]).await?
                    == [Some(Whereabouts::Cell(cells.to_cell))],
                "there is no product {product} in the old cell, and it has not moved to cell {}",
                cells.to_cell
            );
            (None, None)
        }
    };
    let forgotten = finish(cells, product, id).await.context(
        "the product is on sale in the new cell, but the old cell does not say so yet: run the same command again",
    )?;
    Ok(Moved {
        to_cell: cells.to_cell,
        pause,
        forgotten,
    })
}

/// Puts a product that is on its way back on sale in the old cell.
///
/// # Errors
///
/// The product is not on its way, or has arrived; or one of the databases does not answer.
pub async fn undo(cells: &Cells, product: ProductId) -> anyhow::Result<()> {
    let departure = departure(cells, product).await?;
    let departure =
        departure.context("the product is not on its way, so there is nothing to undo")?;
    let mut target = cells.target.acquire().await.context("the new cell")?;
    let settled = settle(&mut target, product, &departure, "UNDONE").await?;
    ensure!(
        settled.status == "UNDONE",
        "the product has arrived in cell {}: run the command without --undo, which finishes the move",
        departure.to_cell
    );
    let mut source = cells.source.begin().await?;
    let undone = sqlx::query(
        "-- move: undo
        update product_moves set status = 'UNDONE', parcel = null where id = $1 and status = 'DEPARTED'",
    )
    .bind(departure.id)
    .execute(&mut *source)
    .await?;
    if undone.rows_affected() == 1 {
        arrive(&mut source, &departure.parcel).await?;
    }
    source.commit().await?;
    Ok(())
}

const NOTHING: &str = "nothing was done: the product is on sale where it was";

/// Steps 1 to 4. Returns the id of the move, and how long requests waited.
async fn start(cells: &Cells, product: ProductId) -> anyhow::Result<(Uuid, Duration)> {
    same_time(&cells.source, &cells.target)
        .await
        .context(NOTHING)?;
    let ids: Vec<(Uuid,)> = fetch(
        &cells.source,
        sqlx::query("-- move: id\nselect gen_random_uuid()"),
    )
    .await?;
    let departure = Departure {
        id: ids.first().context("no id")?.0,
        to_cell: cells.to_cell,
        parcel: String::new(),
    };
    let mut target = cells.target.begin_with(OF_TARGET).await.context(NOTHING)?;
    let began = prepare(cells, &mut target, product, &departure)
        .await
        .context(NOTHING)?;
    let mut source = cells.source.begin_with(OF_SOURCE).await.context(NOTHING)?;
    let paused = Instant::now();
    hand_over(&mut source, &mut target, product, &departure, &began)
        .await
        .context(NOTHING)?;
    source.commit().await.context(
        "the old cell has not confirmed that the product departs: run the same command again, which finds out whether it has",
    )?;
    target.commit().await.context(
        "THE PRODUCT IS ON SALE NOWHERE, and is safe in the old cell's table product_moves. Run the same command again, \
         or with --undo",
    )?;
    Ok((departure.id, paused.elapsed()))
}

/// Step 1. Returns a time from which the answers under keys must be looked at again.
async fn prepare(
    cells: &Cells,
    target: &mut PgConnection,
    product: ProductId,
    departure: &Departure,
) -> anyhow::Result<String> {
    let mut source = cells.source.acquire().await?;
    // No call takes a minute.
    let when = "-- move: when\nselect (clock_timestamp() - interval '1 minute')::text";
    let began: Vec<(String,)> = fetch(&mut *source, sqlx::query(when)).await?;
    settle(target, product, departure, "ARRIVED").await?;
    copy::ended(&mut source, target, product).await?;
    copy::keys(&mut source, target, product, "-infinity").await?;
    let hurry =
        sqlx::query("-- move: time limit\nset local idle_in_transaction_session_timeout = '30s'");
    execute(target, hurry).await?;
    let began = began.into_iter().next();
    Ok(began.context("no time")?.0)
}

/// Step 2. Requests wait for it.
async fn hand_over(
    source: &mut PgConnection,
    target: &mut PgConnection,
    product: ProductId,
    departure: &Departure,
    began: &str,
) -> anyhow::Result<()> {
    let parcel = depart(source, product, departure).await?;
    copy::ended(source, target, product).await?;
    copy::keys(source, target, product, began).await?;
    arrive(target, &parcel).await?;
    is_line_kept(target, product).await?;
    // Not for the commit: PostgreSQL would end its wait for a standby, and confirm it all the same. After a failover, both
    // cells would have the product.
    let unlimited = sqlx::query("-- move: no time limit\nset local statement_timeout = 0");
    execute(source, unlimited).await?;
    Ok(())
}

/// PostgreSQL ends the transaction of a frozen process, so that its locks do not stay. Requests of the product wait for
/// the old cell's transaction. The new cell's one is idle while the old cell looks for the first row to copy.
const OF_SOURCE: &str = "begin; set local statement_timeout = '5s'; set local idle_in_transaction_session_timeout = '5s'";
const OF_TARGET: &str = "begin; set local idle_in_transaction_session_timeout = '10min'";

/// Step 4, after an interruption. `None`: the product had arrived.
async fn resume(
    cells: &Cells,
    product: ProductId,
    departure: &Departure,
) -> anyhow::Result<Option<Duration>> {
    let paused = Instant::now();
    let mut target = cells.target.begin_with(OF_TARGET).await?;
    let settled = settle(&mut target, product, departure, "ARRIVED").await?;
    if !settled.is_new {
        ensure!(
            settled.status == "ARRIVED",
            "this move was undone in the new cell: run the command with --undo"
        );
        return Ok(None);
    }
    let mut source = cells.source.acquire().await?;
    copy::ended(&mut source, &mut target, product).await?;
    copy::keys(&mut source, &mut target, product, "-infinity").await?;
    arrive(&mut target, &departure.parcel).await?;
    is_line_kept(&mut target, product).await?;
    target
        .commit()
        .await
        .context("run the same command again")?;
    Ok(Some(paused.elapsed()))
}

/// Steps 5 and 6. `id` is that of the move whose product has arrived. The product may have come back since, and be on its way
/// once more: its new parcel must stay. `None`: the move is finished.
async fn finish(cells: &Cells, product: ProductId, id: Option<Uuid>) -> anyhow::Result<i64> {
    let query = sqlx::query(
        "-- move: finish
        update product_moves set status = 'FINISHED', parcel = null where id = $1 and status = 'DEPARTED'",
    );
    if let Some(id) = id {
        execute(&cells.source, query.bind(id)).await?;
    }
    let mut forgotten = 0;
    loop {
        let query = sqlx::query("-- move: forget\nselect forget_moved_v1($1, $2)");
        let rows: Vec<(i64,)> = fetch(&cells.source, query.bind(product).bind(FORGET_ROWS)).await?;
        match rows.first() {
            Some((rows,)) if *rows > 0 => forgotten += rows,
            _ => return Ok(forgotten),
        }
    }
}

async fn has_product(pool: &PgPool, product: ProductId) -> Result<bool, Error> {
    let query = sqlx::query("-- move: is it here\nselect p.id from products p where p.id = $1");
    let found: Vec<(ProductId,)> = fetch(pool, query.bind(product)).await?;
    Ok(!found.is_empty())
}

async fn departure(cells: &Cells, product: ProductId) -> anyhow::Result<Option<Departure>> {
    let query = sqlx::query(
        "-- move: is it on its way
        select m.id, m.to_cell, m.parcel::text from product_moves m where m.product_id = $1 and m.status = 'DEPARTED'",
    );
    let found: Vec<Departure> = fetch(&cells.source, query.bind(product)).await?;
    let departure = found.into_iter().next();
    // No other cell can say whether it has arrived.
    if let Some(Departure { to_cell, .. }) = departure {
        ensure!(
            to_cell == cells.to_cell,
            "the product is on its way to cell {to_cell}: go on with that, or undo it"
        );
    }
    Ok(departure)
}

/// How a move ends.
#[derive(FromRow)]
struct Settled {
    status: String,
    is_new: bool,
}

async fn settle(
    target: &mut PgConnection,
    product: ProductId,
    departure: &Departure,
    wanted: &str,
) -> anyhow::Result<Settled> {
    let query =
        sqlx::query("-- move: settle\nselect status, is_new from settle_move_v1($1, $2, $3, $4)")
            .bind(departure.id)
            .bind(product)
            .bind(departure.to_cell)
            .bind(wanted);
    let settled = fetch(target, query).await?;
    settled.into_iter().next().context("no answer")
}

async fn depart(
    source: &mut PgConnection,
    product: ProductId,
    departure: &Departure,
) -> anyhow::Result<String> {
    let query = sqlx::query("-- move: depart\nselect depart_v1($1, $2, $3)::text")
        .bind(product)
        .bind(departure.id)
        .bind(departure.to_cell);
    let parcels: Vec<(Option<String>,)> = fetch(source, query).await?;
    let parcel = parcels.into_iter().next().and_then(|(parcel,)| parcel);
    parcel.context("there is no such product any more")
}

async fn arrive(cell: &mut PgConnection, parcel: &str) -> anyhow::Result<()> {
    let query = sqlx::query("-- move: arrive\nselect arrive_v1($1::jsonb)").bind(parcel);
    execute(cell, query).await?;
    Ok(())
}

/// A line is in the order of its ids. New entries of the new cell must come after those that have moved.
async fn is_line_kept(target: &mut PgConnection, product: ProductId) -> anyhow::Result<()> {
    let query = sqlx::query(
        "-- move: last in line
        select w.id from waitlist_entries w
        where w.product_id = $1 and w.status = 'WAITING'
            and w.id > (
                select coalesce(pg_sequence_last_value(s.seqrelid), s.seqstart - 1) from pg_sequence s
                where s.seqrelid = pg_get_serial_sequence('waitlist_entries', 'id')::regclass
            )
        limit 1",
    )
    .bind(product);
    let ahead: Vec<(i64,)> = fetch(target, query).await?;
    if !ahead.is_empty() {
        bail!(
            "users wait for the product, and new users of the new cell would get in line before them, because its ids \
             are lower: move the product to a cell with a higher number, or when nobody waits"
        );
    }
    Ok(())
}
