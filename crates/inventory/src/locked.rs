//! locked: products whose row is locked by another transaction. Finds those that are locked for long, for example by a
//! transaction that an operator forgot to end. Nothing is changed here, so every failure is [`Error::NotDone`].

use std::collections::HashMap;

use sqlx::{FromRow, PgPool};

use crate::{Error, ProductId, ReservationId, database::read_only, reservation::raw};

/// The rollback releases the locks at once, and no lock wait is longer than 300 ms. Rows are found by id even when
/// the statistics date from before the sale.
const BEGIN: &str = "begin; set local lock_timeout = '300ms'; set local enable_seqscan = off";

/// For reads, which wait for no row. A migration may keep them waiting for its change of a table, as long as a reserve.
const BEGIN_READ: &str = "begin; set local lock_timeout = '5s'; set local enable_seqscan = off";

/// What a transaction does if another one has locked its product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum IfLocked {
    /// Waits for the lock, up to the lock timeout of 5 s.
    Wait,
    /// Nothing.
    Skip,
}

/// The products of these reservations, in order. `None`: no such reservation.
pub async fn products_of(
    pool: &PgPool,
    ids: &[ReservationId],
) -> Result<Vec<Option<ProductId>>, Error> {
    #[derive(FromRow)]
    struct Found {
        id: ReservationId,
        product_id: ProductId,
    }
    let products = "-- locked: products of
        select r.id, r.product_id from reservations r where r.id = any($1)";
    let found: Vec<Found> =
        read_only(pool, BEGIN_READ, sqlx::query(products).bind(raw(ids))).await?;
    let products: HashMap<_, _> = found.iter().map(|r| (r.id, r.product_id)).collect();
    Ok(ids.iter().map(|id| products.get(id).copied()).collect())
}

/// The products that any other transaction has locked right now, including transactions of this service.
pub async fn now(pool: &PgPool, products: &[ProductId]) -> Result<Vec<ProductId>, Error> {
    let locked = "-- locked: now
        with free as materialized (
            select p.id from products p where p.id = any($1) for no key update skip locked
        )
        select p.id from products p where p.id = any($1) and p.id not in (select f.id from free f)";
    let products: Vec<i64> = products.iter().map(|product| product.get()).collect();
    let rows: Vec<(ProductId,)> =
        read_only(pool, BEGIN, sqlx::query(locked).bind(products)).await?;
    Ok(rows.into_iter().map(|(product,)| product).collect())
}

/// Who keeps a product locked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Holder {
    /// A transaction that is not finished.
    Session,
    /// A transaction that is done, but whose commit waits for a synchronous standby. It may be one of this service.
    /// To end its session would commit it without its copy on the standby.
    WaitingCommit,
}

/// Who keeps a product locked for longer than 300 ms. Transactions of this service take milliseconds. `None`: nobody.
pub async fn for_long(pool: &PgPool, product: ProductId) -> Result<Option<Holder>, Error> {
    let lock = "-- locked: for long\nselect id from products where id = $1 for no key update";
    let lock = sqlx::query(lock).bind(product.get());
    match read_only::<(ProductId,)>(pool, BEGIN, lock).await {
        Err(error) if error.is_lock_timeout() => holder(pool, product).await.map(Some),
        other => other.map(|_| None),
    }
}

/// The transaction that has changed or locked the row is in its `xmax`. A transaction that waits for a standby still
/// counts as running. What a role may not see of other roles' sessions counts as [`Holder::Session`].
async fn holder(pool: &PgPool, product: ProductId) -> Result<Holder, Error> {
    let waiting = "-- locked: holder
        select a.pid from products p join pg_stat_activity a on a.backend_xid = p.xmax
        where p.id = $1 and a.wait_event = 'SyncRep'";
    let waiting = sqlx::query(waiting).bind(product.get());
    let waiting: Vec<(i32,)> = read_only(pool, BEGIN, waiting).await?;
    Ok(match waiting.is_empty() {
        true => Holder::Session,
        false => Holder::WaitingCommit,
    })
}
