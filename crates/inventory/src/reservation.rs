//! Reservations: what they are, how they are read, and why a verb refuses.
//!
//! | verb | from | guard | to |
//! |---|---|---|---|
//! | [`reserve`](crate::reserve) | – | product exists, its sale is on, no unexpired hold of this user, stock, `max_per_user` | ACTIVE |
//! | [`extend`](crate::extend) | ACTIVE | `expires_at > t` | ACTIVE |
//! | [`confirm`](crate::confirm) | ACTIVE | `expires_at > t` | CONFIRMED |
//! | [`cancel`](crate::cancel) | ACTIVE | `expires_at > t` | CANCELED |
//! | [`expire`](crate::expire) | ACTIVE | `expires_at <= t` | EXPIRED |
//! | [`return`](crate::return_sold) | CONFIRMED | | RETURNED |
//! | [`reacquire`](crate::reacquire) | – | another is EXPIRED, stock, `max_per_user` | CONFIRMED |

use std::{borrow::Cow, collections::HashMap, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;

use crate::{Error, ProductId, Quantity, ReservationId, UserId, database::fetch, schema};

/// A reservation as it is now: its status is the effective one, EXPIRED from the deadline on.
#[derive(Clone, Debug, Serialize, JsonSchema, FromRow)]
pub struct Reservation {
    pub id: ReservationId,
    pub product_id: ProductId,
    pub user_id: UserId,
    pub quantity: Quantity,
    pub status: Status,
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "schema::Utc")]
    pub expires_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "schema::Utc")]
    pub created_at: OffsetDateTime,
    /// The end that it came to, if any: at most one of the three.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "schema::Utc")]
    pub confirmed_at: Option<OffsetDateTime>,
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "schema::Utc")]
    pub canceled_at: Option<OffsetDateTime>,
    /// Equals `expires_at`, whenever the sweep came by.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "schema::Utc")]
    pub expired_at: Option<OffsetDateTime>,
    /// After `confirmed_at`.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "schema::Utc")]
    pub returned_at: Option<OffsetDateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Reference")]
    pub reference: Option<Reference>,
    /// The expired reservation whose units this one took again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ReservationId")]
    pub reacquired_from: Option<ReservationId>,
}

/// The order or cart, as the shop names it: 1–128 characters without NUL (which PostgreSQL cannot store).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(try_from = "String")]
#[sqlx(transparent)]
pub struct Reference(String);

/// The longest reference.
pub const REFERENCE_MAX_CHARACTERS: usize = 128;

#[derive(Debug, thiserror::Error)]
#[error("a reference must have 1 to {REFERENCE_MAX_CHARACTERS} characters, and no NUL")]
pub struct InvalidReference;

impl Reference {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl JsonSchema for Reference {
    fn schema_name() -> Cow<'static, str> {
        "Reference".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": REFERENCE_MAX_CHARACTERS,
            "pattern": schema::WITHOUT_NUL,
        })
    }
}

impl TryFrom<String> for Reference {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, InvalidReference> {
        match text.chars().count() {
            1..=REFERENCE_MAX_CHARACTERS if !text.contains('\0') => Ok(Self(text)),
            _ => Err(InvalidReference),
        }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        text.to_owned().try_into()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "UPPERCASE")]
#[sqlx(type_name = "text", rename_all = "UPPERCASE")]
pub enum Status {
    Active,
    Confirmed,
    Canceled,
    Expired,
    Returned,
}

impl FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "ACTIVE" => Ok(Self::Active),
            "CONFIRMED" => Ok(Self::Confirmed),
            "CANCELED" => Ok(Self::Canceled),
            "EXPIRED" => Ok(Self::Expired),
            "RETURNED" => Ok(Self::Returned),
            _ => Err(()),
        }
    }
}

/// Why a verb did not do what it was asked: the state says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such product")]
    ProductNotFound,
    #[error("the sale has not begun")]
    SaleNotOpen,
    #[error("the sale is over")]
    SaleClosed,
    #[error("only {free} units are free")]
    SoldOut { free: i32 },
    #[error("the user may have only {remaining} more units")]
    MaxPerUserReached { remaining: i32 },
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
    #[error("the reservation was returned")]
    ReservationReturned,
    #[error("the reservation was not confirmed")]
    ReservationNotConfirmed,
    #[error("the reservation's deadline has passed, and too few units are free to reserve again")]
    ExpiredSoldOut,
    #[error("only {free} units are free")]
    InsufficientStock { free: i32 },
    #[error("the total would be more than 2147483647")]
    TotalTooLarge,
}

/// The columns of a [`Reservation`] with its effective status, judged by the statement's start.
macro_rules! effective {
    () => {
        "select r.id, r.product_id, r.user_id, r.quantity, r.expires_at, r.created_at,
        case when r.status = 'ACTIVE' and r.expires_at <= now() then 'EXPIRED' else r.status end as status,
        r.confirmed_at, r.canceled_at,
        case when r.status = 'ACTIVE' and r.expires_at <= now() then r.expires_at else r.expired_at end
            as expired_at,
        r.returned_at, r.reference, r.reacquired_from"
    };
}
pub(crate) use effective;

/// The columns of a [`Reservation`] out of a function's result. Named one by one: with `.*`, a prepared statement fails
/// once the table has got another column.
macro_rules! of_result {
    () => {
        "(reservation).id, (reservation).product_id, (reservation).user_id, (reservation).quantity,
        (reservation).expires_at, (reservation).created_at, (reservation).status, (reservation).confirmed_at,
        (reservation).canceled_at, (reservation).expired_at, (reservation).returned_at, (reservation).reference,
        (reservation).reacquired_from"
    };
}
pub(crate) use of_result;

/// One answer for each id, in order.
pub async fn get(pool: &PgPool, ids: &[ReservationId]) -> Result<Vec<Option<Reservation>>, Error> {
    let query = sqlx::query(concat!(
        "-- reservation: get\n",
        effective!(),
        " from get_reservations_v1($1) r"
    ))
    .bind(raw(ids));
    let found: Vec<Reservation> = fetch(pool, query).await?;
    let by_id: HashMap<_, _> = found.into_iter().map(|found| (found.id, found)).collect();
    Ok(ids.iter().map(|id| by_id.get(id).cloned()).collect())
}

/// What a verb says of a reservation that it leaves like this.
pub(crate) fn answer(wanted: Status, found: Option<&Reservation>) -> Result<Reservation, Refusal> {
    let reservation = found.ok_or(Refusal::ReservationNotFound)?;
    match reservation.status {
        status if status == wanted => Ok(reservation.clone()),
        Status::Confirmed => Err(Refusal::ReservationConfirmed),
        Status::Canceled => Err(Refusal::ReservationCanceled),
        Status::Returned => Err(Refusal::ReservationReturned),
        Status::Expired => Err(Refusal::ReservationExpired),
        // The functions judge the deadline by the time of their update: only return leaves what is still
        // ACTIVE and unexpired as it is.
        Status::Active => Err(Refusal::ReservationNotConfirmed),
    }
}

pub(crate) fn raw(ids: &[ReservationId]) -> Vec<i64> {
    ids.iter().map(|id| id.get()).collect()
}
