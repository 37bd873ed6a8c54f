//! Reservations: what they are, how they are read, and why a verb refuses.
//!
//! | verb | from | guard | to |
//! |---|---|---|---|
//! | [`reserve`](crate::reserve) | – | product exists, no unexpired hold of this user, stock | ACTIVE |
//! | [`confirm`](crate::confirm) | ACTIVE | `expires_at > t` | CONFIRMED |
//! | [`cancel`](crate::cancel) | ACTIVE | `expires_at > t` | CANCELED |
//! | [`expire`](crate::expire) | ACTIVE | `expires_at <= t` | EXPIRED |

use std::{collections::HashMap, str::FromStr};

use serde::Serialize;
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder, Row, postgres::PgRow};
use time::OffsetDateTime;

use crate::{Error, ProductId, Quantity, ReservationId, UserId, database::fetch};

/// A reservation as it is now: its status is the effective one, EXPIRED from the deadline on.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct Reservation {
    pub id: ReservationId,
    pub product_id: ProductId,
    pub user_id: UserId,
    pub quantity: Quantity,
    pub status: Status,
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// The end that it came to, if any: at most one of the three.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub confirmed_at: Option<OffsetDateTime>,
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub canceled_at: Option<OffsetDateTime>,
    /// Equals `expires_at`, whenever the sweep came by.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub expired_at: Option<OffsetDateTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "UPPERCASE")]
#[sqlx(type_name = "text", rename_all = "UPPERCASE")]
pub enum Status {
    Active,
    Confirmed,
    Canceled,
    Expired,
}

impl FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "ACTIVE" => Ok(Self::Active),
            "CONFIRMED" => Ok(Self::Confirmed),
            "CANCELED" => Ok(Self::Canceled),
            "EXPIRED" => Ok(Self::Expired),
            _ => Err(()),
        }
    }
}

/// Why a verb did not do what it was asked: the state says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such product")]
    ProductNotFound,
    #[error("only {free} units are free")]
    SoldOut { free: i32 },
    #[error("the user already holds this product with reservation {reservation_id}")]
    AlreadyReserved { reservation_id: ReservationId },
    #[error("there is no such reservation")]
    ReservationNotFound,
    #[error("the reservation's deadline has passed")]
    ReservationExpired,
    #[error("the reservation was canceled")]
    ReservationCanceled,
    #[error("the reservation was confirmed")]
    ReservationConfirmed,
}

/// What a batch of requests came to.
#[derive(Debug)]
pub struct Batch {
    /// One answer for each request, in order.
    pub answers: Vec<Result<Reservation, Refusal>>,
    /// Transitions that this call made. Less than the successful answers where some were repeats.
    pub changed: u64,
    /// Due holds that this call ended on its way.
    pub expired: u64,
}

/// The columns of a [`Reservation`] with its effective status, judged by the statement's start.
macro_rules! effective {
    () => {
        "select r.id, r.product_id, r.user_id, r.quantity, r.expires_at, r.created_at,
        case when r.status = 'ACTIVE' and r.expires_at <= now() then 'EXPIRED' else r.status end as status,
        r.confirmed_at, r.canceled_at,
        case when r.status = 'ACTIVE' and r.expires_at <= now() then r.expires_at else r.expired_at end
            as expired_at"
    };
}

/// One answer for each id, in order.
pub async fn get(pool: &PgPool, ids: &[ReservationId]) -> Result<Vec<Option<Reservation>>, Error> {
    let query = sqlx::query(concat!(
        "-- reservation: get\n",
        effective!(),
        " from reservations r where r.id = any($1)"
    ))
    .bind(raw(ids));
    let found: Vec<Reservation> = fetch(pool, query).await?;
    let by_id: HashMap<_, _> = found.into_iter().map(|found| (found.id, found)).collect();
    Ok(ids.iter().map(|id| by_id.get(id).cloned()).collect())
}

/// Which reservations to list; `None` means all.
#[derive(Clone, Copy, Default)]
pub struct Filter {
    pub user_id: Option<UserId>,
    pub product_id: Option<ProductId>,
    /// The effective status.
    pub status: Option<Status>,
}

/// A page of reservations, newest first.
pub async fn list(
    pool: &PgPool,
    filter: Filter,
    limit: i64,
    offset: i64,
) -> Result<Vec<Reservation>, Error> {
    // A union of two ordered indexes stays cheap where an OR over them would sort everything:
    // what reads as EXPIRED is either swept, or ACTIVE and past its deadline.
    let branches: &[&str] = match filter.status {
        None => &[""],
        Some(Status::Active) => &[" and r.status = 'ACTIVE' and r.expires_at > now()"],
        Some(Status::Confirmed) => &[" and r.status = 'CONFIRMED'"],
        Some(Status::Canceled) => &[" and r.status = 'CANCELED'"],
        Some(Status::Expired) => &[
            " and r.status = 'EXPIRED'",
            " and r.status = 'ACTIVE' and r.expires_at <= now() and r.created_at < 'infinity'",
        ],
    };
    let mut query = QueryBuilder::<Postgres>::new("-- reservation: list\nselect * from (");
    for (position, condition) in branches.iter().enumerate() {
        if position > 0 {
            query.push(" union all ");
        }
        query.push(concat!(
            "(",
            effective!(),
            " from reservations r where r.created_at > '-infinity'"
        ));
        query.push(condition);
        if let Some(user_id) = filter.user_id {
            query.push(" and r.user_id = ").push_bind(user_id.get());
        }
        if let Some(product_id) = filter.product_id {
            query
                .push(" and r.product_id = ")
                .push_bind(product_id.get());
        }
        query
            .push(" order by r.id desc limit ")
            .push_bind(limit.saturating_add(offset));
        query.push(")");
    }
    query.push(") r order by id desc limit ").push_bind(limit);
    query.push(" offset ").push_bind(offset);
    fetch(pool, query.build()).await
}

/// The rows of `confirm_v1` and `cancel_v1`, as answers to `wanted`.
pub(crate) fn batch_ended_as(wanted: Status, rows: &[PgRow]) -> Result<Batch, sqlx::Error> {
    let mut answers = Vec::with_capacity(rows.len());
    for row in rows {
        answers.push(match row.try_get::<Option<Status>, _>("status")? {
            None => Err(Refusal::ReservationNotFound),
            Some(status) if status == wanted => Ok(Reservation::from_row(row)?),
            Some(Status::Confirmed) => Err(Refusal::ReservationConfirmed),
            Some(Status::Canceled) => Err(Refusal::ReservationCanceled),
            // The functions judge the deadline after their update: what was still ACTIVE and
            // unexpired then has changed, so an ACTIVE row cannot be left.
            Some(Status::Expired | Status::Active) => Err(Refusal::ReservationExpired),
        });
    }
    Ok(Batch {
        answers,
        changed: counter(rows, "changed")?,
        expired: 0,
    })
}

/// A count that a function repeats on every row.
pub(crate) fn counter(rows: &[PgRow], column: &str) -> Result<u64, sqlx::Error> {
    let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(column))?;
    Ok(count.unsigned_abs())
}

pub(crate) fn raw(ids: &[ReservationId]) -> Vec<i64> {
    ids.iter().map(|id| id.get()).collect()
}
