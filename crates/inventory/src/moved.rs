//! Where products are that have moved to another cell. See [`move_product`](crate::move_product).

use sqlx::{FromRow, PgPool};

use crate::{Error, ProductId, ReservationId, database::fetch, sku::Sku};

/// What an answer says that it does not exist here.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A product.
    Product(ProductId),
    /// A reservation.
    Reservation(ReservationId),
    /// A product, by its SKU.
    Sku(Sku),
}

/// Where a product is that was here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Whereabouts {
    /// On its way, or it has come since the caller looked: the next look may find it.
    OnItsWay,
    /// In the cell with this number.
    Cell(i32),
}

#[derive(FromRow)]
struct Found {
    to_cell: Option<i32>,
    is_finished: Option<bool>,
}

/// Where the product is that is not here, or the product of the reservation that is not here. `None`: it was never here.
///
/// # Errors
///
/// PostgreSQL does not answer.
pub async fn moved(pool: &PgPool, subject: &Subject) -> Result<Option<Whereabouts>, Error> {
    let (product, reservation, sku) = match subject {
        Subject::Product(id) => (Some(*id), None, None),
        Subject::Reservation(id) => (None, Some(*id), None),
        Subject::Sku(sku) => (None, None, Some(sku)),
    };
    let query = sqlx::query("-- moved\nselect to_cell, is_finished from moved_v1($1, $2, $3)")
        .bind(product)
        .bind(reservation)
        .bind(sku);
    let found: Vec<Found> = fetch(pool, query).await?;
    let found = found
        .first()
        .and_then(|found| Some((found.to_cell?, found.is_finished)));
    Ok(found.map(|(cell, is_finished)| match is_finished {
        Some(true) => Whereabouts::Cell(cell),
        _ => Whereabouts::OnItsWay,
    }))
}
