//! join waitlist: adds a user to the line of a product.

use sqlx::{FromRow as _, Row as _, postgres::PgRow};

use crate::{
    Error, ProductId, Quantity, ReservationId, UserId, WaitlistEntryId,
    database::{Executor, execute, no_such_outcome},
    event::Events,
    reservation::{Reference, Refusal},
    transition::{Transition, expired, offered},
    waitlist::{Entry, POSITION_MAX},
};

/// A request to wait for units.
#[derive(Clone, Debug)]
pub struct Join {
    /// The product.
    pub product_id: ProductId,
    /// The user, who may have one waiting entry per product.
    pub user_id: UserId,
    /// Number of units, which the user gets all at once.
    pub quantity: Quantity,
    /// The shop's own name of the entry, and of the hold that is offered.
    pub reference: Option<Reference>,
}

/// Result of [`join_waitlist`].
#[derive(Debug)]
pub struct Joined {
    /// The new entry, or the refusal.
    pub answer: Result<Entry, Refusal>,
    /// Number of due holds that the call expired.
    pub expired: u64,
    /// Number of holds that the call offered, to this user and to others in line.
    pub offered: u64,
}

impl Joined {
    /// The transitions that this call made.
    pub fn transitions(&self) -> impl Iterator<Item = Transition<'_>> + Clone {
        expired(self.expired)
            .into_iter()
            .chain(offered(self.offered))
    }
}

/// Adds a user to the end of the line. If units are free for the new entry, it is offered a hold at once. Units of due
/// holds count as free. `hold_seconds` is the duration of the offered hold, whenever that is, if the product has none of
/// its own by then.
///
/// Refuses, in this order: [`Refusal::ProductNotFound`], [`Refusal::AlreadyWaiting`], [`Refusal::AlreadyReserved`],
/// [`Refusal::SaleNotOpen`], [`Refusal::SaleClosed`], [`Refusal::MaxPerUserReached`].
pub async fn join_waitlist(
    executor: impl Into<Executor<'_>>,
    request: &Join,
    hold_seconds: i32,
    events: &Events,
) -> Result<Joined, Error> {
    let query = sqlx::query(
        "-- join waitlist
        select outcome, number, place, expired, offered, (entry).id, (entry).product_id, (entry).user_id,
            (entry).quantity, (entry).status, (entry).reservation_id, (entry).reference, (entry).created_at,
            (entry).ended_at, case when place <= $7 then place end::bigint as position
        from join_waitlist_v1($1, $2, $3, $4, $5, $6)",
    )
    .bind(request.product_id)
    .bind(request.user_id)
    .bind(request.quantity)
    .bind(request.reference.as_ref().map(Reference::as_str))
    .bind(hold_seconds)
    .bind(events.types())
    .bind(POSITION_MAX);
    let rows = execute(executor, query).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let (expired, offered): (i64, i64) = (row.try_get("expired")?, row.try_get("offered")?);
    Ok(Joined {
        answer: answer(row)?,
        expired: expired.unsigned_abs(),
        offered: offered.unsigned_abs(),
    })
}

fn answer(row: &PgRow) -> Result<Result<Entry, Refusal>, sqlx::Error> {
    let outcome: &str = row.try_get("outcome")?;
    Ok(Err(match outcome {
        "joined" => return Ok(Ok(Entry::from_row(row)?)),
        "product_not_found" => Refusal::ProductNotFound,
        "already_waiting" => Refusal::AlreadyWaiting {
            entry_id: row.try_get::<WaitlistEntryId, _>("number")?,
        },
        "already_reserved" => Refusal::AlreadyReserved {
            reservation_id: row.try_get::<ReservationId, _>("number")?,
        },
        "sale_not_open" => Refusal::SaleNotOpen,
        "sale_closed" => Refusal::SaleClosed,
        "max_per_user_reached" => {
            let remaining: i64 = row.try_get("number")?;
            Refusal::MaxPerUserReached {
                remaining: i32::try_from(remaining).unwrap_or(i32::MAX),
            }
        }
        _ => return Err(no_such_outcome(outcome)),
    }))
}
