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

/// Where the products are that are not here, or the products of the reservations that are not here, in order of `subjects`.
/// `None`: it was never here.
///
/// # Errors
///
/// PostgreSQL does not answer.
pub async fn moved(pool: &PgPool, subjects: &[Subject]) -> Result<Vec<Option<Whereabouts>>, Error> {
    #[derive(FromRow)]
    struct Found {
        n: i64,
        to_cell: i32,
        is_finished: bool,
    }
    let (mut products, mut reservations, mut skus) = (Vec::new(), Vec::new(), Vec::new());
    for subject in subjects {
        let (product, reservation, sku) = match subject {
            Subject::Product(id) => (Some(id.get()), None, None),
            Subject::Reservation(id) => (None, Some(id.get()), None),
            Subject::Sku(sku) => (None, None, Some(sku.as_str())),
        };
        products.push(product);
        reservations.push(reservation);
        skus.push(sku);
    }
    // Most installations have never moved a product. There, this reads one empty table.
    let query = sqlx::query(
        "-- moved
        select q.n, m.to_cell, m.is_finished
        from unnest($1::bigint[], $2::bigint[], $3::text[]) with ordinality as q (product_id, reservation_id, sku, n)
        cross join lateral moved_v1(q.product_id, q.reservation_id, q.sku) m
        where m.to_cell is not null and (select exists (select from product_moves))",
    )
    .bind(products)
    .bind(reservations)
    .bind(skus);
    let found: Vec<Found> = fetch(pool, query).await?;
    let mut all = vec![None; subjects.len()];
    for Found {
        n,
        to_cell,
        is_finished,
    } in found
    {
        let place = usize::try_from(n - 1).ok().and_then(|n| all.get_mut(n));
        if let Some(place) = place {
            *place = Some(match is_finished {
                true => Whereabouts::Cell(to_cell),
                false => Whereabouts::OnItsWay,
            });
        }
    }
    Ok(all)
}
