//! reserve: takes free units of a product and holds them for a user.

use sqlx::{PgPool, Row};

use crate::{
    Error, ProductId, Quantity, ReservationId, UserId,
    database::call,
    reservation::{Batch, Refusal, Reservation, Status},
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
        select outcomes, ids, free, reserved_at, expires_at, expired
        from reserve_v1($1, $2, $3, $4)",
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
    let [row] = &call(pool, query).await?[..] else {
        return Err(sqlx::Error::RowNotFound.into());
    };
    let outcomes: Vec<String> = row.try_get(0)?;
    let ids: Vec<Option<ReservationId>> = row.try_get(1)?;
    let free: Vec<Option<i32>> = row.try_get(2)?;
    let times = Option::zip(row.try_get(3)?, row.try_get(4)?);

    let mut changed = 0;
    let mut answers = Vec::with_capacity(requests.len());
    for (((request, outcome), id), free) in requests.iter().zip(&outcomes).zip(ids).zip(free) {
        answers.push(match (outcome.as_str(), id, times) {
            ("reserved", Some(id), Some((created_at, expires_at))) => {
                changed += 1;
                Ok(Reservation {
                    id,
                    product_id: request.product_id,
                    user_id: request.user_id,
                    quantity: request.quantity,
                    status: Status::Active,
                    created_at,
                    expires_at,
                    confirmed_at: None,
                    canceled_at: None,
                    expired_at: None,
                })
            }
            ("already_reserved", Some(reservation_id), _) => {
                Err(Refusal::AlreadyReserved { reservation_id })
            }
            ("sold_out", ..) => Err(Refusal::SoldOut {
                free: free.unwrap_or(0),
            }),
            ("product_not_found", ..) => Err(Refusal::ProductNotFound),
            _ => {
                return Err(
                    sqlx::Error::Decode(format!("no such outcome: {outcome}").into()).into(),
                );
            }
        });
    }
    let expired: i64 = row.try_get(5)?;
    Ok(Batch {
        answers,
        changed,
        expired: expired.unsigned_abs(),
    })
}
