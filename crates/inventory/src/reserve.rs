//! reserve: takes free units of a product and holds them for a user.

use sqlx::{PgPool, Row};

use crate::{
    Error, ProductId, Quantity, UserId,
    database::call,
    reservation::{Batch, Refusal, Reservation, Status, counter},
};

/// A request for a hold.
#[derive(Clone, Copy, Debug)]
pub struct Reserve {
    pub product_id: ProductId,
    pub user_id: UserId,
    pub quantity: Quantity,
}

/// Reserves as if the requests came one after the other, each for `hold_seconds`.
///
/// Refuses, in this order: [`Refusal::ProductNotFound`], [`Refusal::AlreadyReserved`],
/// [`Refusal::SoldOut`]. Holds past their deadline do not stand in the way: the user's own is ended,
/// and others' are reclaimed as far as the batch lacks units.
pub async fn reserve(
    pool: &PgPool,
    requests: &[Reserve],
    hold_seconds: i32,
) -> Result<Batch, Error> {
    let query = sqlx::query(
        "-- reserve
        select outcome, reservation_id, created_at, expires_at, free, expired
        from reserve_v1($1, $2, $3, $4) order by n",
    )
    .bind(
        requests
            .iter()
            .map(|request| request.product_id.get())
            .collect::<Vec<_>>(),
    )
    .bind(
        requests
            .iter()
            .map(|request| request.user_id.get())
            .collect::<Vec<_>>(),
    )
    .bind(
        requests
            .iter()
            .map(|request| request.quantity.get())
            .collect::<Vec<_>>(),
    )
    .bind(hold_seconds);
    let rows = call(pool, query).await?;

    let mut changed = 0;
    let mut answers = Vec::with_capacity(rows.len());
    for (request, row) in requests.iter().zip(&rows) {
        answers.push(match row.try_get(0)? {
            "reserved" => {
                changed += 1;
                Ok(Reservation {
                    id: row.try_get(1)?,
                    product_id: request.product_id,
                    user_id: request.user_id,
                    quantity: request.quantity,
                    status: Status::Active,
                    created_at: row.try_get(2)?,
                    expires_at: row.try_get(3)?,
                    confirmed_at: None,
                    canceled_at: None,
                    expired_at: None,
                })
            }
            "already_reserved" => Err(Refusal::AlreadyReserved {
                reservation_id: row.try_get(1)?,
            }),
            "sold_out" => Err(Refusal::SoldOut {
                free: row.try_get(4)?,
            }),
            _ => Err(Refusal::ProductNotFound),
        });
    }
    Ok(Batch {
        answers,
        changed,
        expired: counter(&rows, "expired")?,
    })
}
