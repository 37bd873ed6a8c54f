//! locked: finds products whose row is locked by another transaction for long, such as one that an operator forgot to
//! end. Nothing is changed here, so every failure is [`Error::NotDone`].

use std::collections::HashMap;

use sqlx::{FromRow, PgPool};

use crate::{Error, ProductId, ReservationId, database::read_only, reservation::raw};

/// The rollback releases the locks at once, and no lock wait is longer than 300 ms. Rows are found by id even when
/// the statistics date from before the sale.
const BEGIN: &str = "begin; set local lock_timeout = '300ms'; set local enable_seqscan = off";

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
    let found: Vec<Found> = read_only(pool, BEGIN, sqlx::query(products).bind(raw(ids))).await?;
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

/// Whether a product is locked for longer than 300 ms. Transactions of this service take milliseconds.
pub async fn for_long(pool: &PgPool, product: ProductId) -> Result<bool, Error> {
    let lock = "-- locked: for long\nselect id from products where id = $1 for no key update";
    let lock = sqlx::query(lock).bind(product.get());
    match read_only::<(ProductId,)>(pool, BEGIN, lock).await {
        Err(error) if error.is_lock_timeout() => Ok(true),
        other => other.map(|_| false),
    }
}
