//! Reservations: their fields, their states, how they are read, and the refusals of the verbs.
//!
//! | verb | from | guard | to |
//! |---|---|---|---|
//! | [`reserve`](crate::reserve) | – | product exists, no unexpired hold of this user, its sale is on, nobody waits in line, stock, `max_per_user` | ACTIVE |
//! | [offer](crate::waitlist) | – | first in line, its sale is on, stock, `max_per_user` | ACTIVE |
//! | [`extend`](crate::extend) | ACTIVE | `expires_at > t` | ACTIVE |
//! | [`confirm`](crate::confirm) | ACTIVE | `expires_at > t` | CONFIRMED |
//! | [`cancel`](crate::cancel) | ACTIVE | `expires_at > t` | CANCELED |
//! | [`expire`](crate::expire) | ACTIVE | `expires_at <= t` | EXPIRED |
//! | [`return`](crate::return_sold) | CONFIRMED | | RETURNED |
//! | [`reacquire`](crate::reacquire) | – | another is EXPIRED, nobody waits in line, stock, `max_per_user` | CONFIRMED |

use std::{borrow::Cow, collections::HashMap, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;

use crate::{
    Error, ProductId, Quantity, ReservationId, UserId, WaitlistEntryId, database::fetch, schema,
};

/// A reservation with its effective status: from the deadline on, a hold is EXPIRED.
#[derive(Clone, Debug, Serialize, JsonSchema, FromRow)]
#[schemars(example = Reservation::example())]
pub struct Reservation {
    /// Id of the reservation.
    pub id: ReservationId,
    /// Product of the reservation.
    pub product_id: ProductId,
    /// User of the reservation.
    pub user_id: UserId,
    /// Number of units.
    pub quantity: Quantity,
    /// Effective status.
    pub status: Status,
    /// Deadline of the hold.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "schema::Utc")]
    pub expires_at: OffsetDateTime,
    /// Time of the reserve.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "schema::Utc")]
    pub created_at: OffsetDateTime,
    /// Time of the confirm. A reservation has at most one of `confirmed_at`, `canceled_at` and `expired_at`.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "schema::Utc")]
    pub confirmed_at: Option<OffsetDateTime>,
    /// Time of the cancel.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "schema::Utc")]
    pub canceled_at: Option<OffsetDateTime>,
    /// Time of the expiry. It equals `expires_at`, whatever the time of the sweep.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "schema::Utc")]
    pub expired_at: Option<OffsetDateTime>,
    /// Time of the return, after `confirmed_at`.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "schema::Utc")]
    pub returned_at: Option<OffsetDateTime>,
    /// The shop's own name for the reservation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Reference")]
    pub reference: Option<Reference>,
    /// The expired reservation whose units this reservation sold after a late payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ReservationId")]
    pub reacquired_from: Option<ReservationId>,
}

impl Reservation {
    /// A hold, as an example for the API's document.
    pub fn example() -> Value {
        json!({
            "id": 1, "product_id": 1, "user_id": 42, "quantity": 1, "status": "ACTIVE",
            "expires_at": "2026-02-14T12:05:00Z", "created_at": "2026-02-14T12:00:00Z",
        })
    }
}

/// The shop's own name for a reservation, for example an order number: 1 to 128 characters without NUL, which
/// PostgreSQL cannot store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(try_from = "String")]
#[sqlx(transparent)]
pub struct Reference(String);

/// Longest reference, in characters.
pub const REFERENCE_MAX_CHARACTERS: usize = 128;

/// The text is not a valid [`Reference`].
#[derive(Debug, thiserror::Error)]
#[error("must have 1 to {REFERENCE_MAX_CHARACTERS} characters, and no NUL")]
pub struct InvalidReference;

impl Reference {
    /// The reference as text.
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

/// The status of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "UPPERCASE")]
#[sqlx(type_name = "text", rename_all = "UPPERCASE")]
#[allow(
    missing_docs,
    reason = "documented variants would turn the schema's enum into oneOf"
)]
pub enum Status {
    Active,
    Confirmed,
    Canceled,
    Expired,
    Returned,
}

/// The text is not the name of a [`Status`].
#[derive(Debug, thiserror::Error)]
#[error("must be ACTIVE, CONFIRMED, CANCELED, EXPIRED or RETURNED")]
pub struct InvalidStatus;

impl FromStr for Status {
    type Err = InvalidStatus;

    fn from_str(text: &str) -> Result<Self, InvalidStatus> {
        match text {
            "ACTIVE" => Ok(Self::Active),
            "CONFIRMED" => Ok(Self::Confirmed),
            "CANCELED" => Ok(Self::Canceled),
            "EXPIRED" => Ok(Self::Expired),
            "RETURNED" => Ok(Self::Returned),
            _ => Err(InvalidStatus),
        }
    }
}

/// The reason why a verb refuses a request. A refusal changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No product has this id.
    #[error("there is no such product")]
    ProductNotFound,
    /// Another product has this SKU.
    #[error("another product has this SKU")]
    SkuTaken,
    /// A product that has moved to another cell, or is on its way there, has this SKU.
    #[error("another product has this SKU: it has moved to cell {to_cell}")]
    SkuMoved {
        /// The number of that cell.
        to_cell: i32,
    },
    /// The product has another SKU, which never changes.
    #[error("the product has another SKU")]
    SkuFixed,
    /// The product's `sale_starts_at` is in the future.
    #[error("the sale has not begun")]
    SaleNotOpen,
    /// The product's `sale_ends_at` is in the past.
    #[error("the sale is over")]
    SaleClosed,
    /// Fewer units are free than the request asks for.
    #[error("only {free} units are free")]
    SoldOut {
        /// Number of free units.
        free: i32,
    },
    /// Other users wait for the product: all free units are theirs.
    #[error("other users wait for the product")]
    SoldOutToWaitlist {
        /// Number of free units. The first in line waits for more.
        free: i32,
    },
    /// The user would have more units than the product's `max_per_user`.
    #[error("the user may have only {remaining} more units")]
    MaxPerUserReached {
        /// Number of units that the user may still reserve.
        remaining: i32,
    },
    /// The user already has an unexpired hold of the product.
    #[error("the user already holds this product with reservation {reservation_id}")]
    AlreadyReserved {
        /// That hold.
        reservation_id: ReservationId,
    },
    /// The user already waits for the product.
    #[error("the user already waits for this product with entry {entry_id}")]
    AlreadyWaiting {
        /// The user's entry.
        entry_id: WaitlistEntryId,
    },
    /// No entry of a waitlist has this id.
    #[error("there is no such entry")]
    WaitlistEntryNotFound,
    /// The entry does not wait any more: a hold was offered.
    #[error("the user was offered reservation {reservation_id}")]
    WaitlistEntryOffered {
        /// The offered hold.
        reservation_id: ReservationId,
    },
    /// The entry does not wait any more: it was closed.
    #[error("the entry was closed")]
    WaitlistEntryClosed,
    /// No reservation has this id.
    #[error("there is no such reservation")]
    ReservationNotFound,
    /// The deadline of the hold has passed.
    #[error("the reservation's deadline has passed")]
    ReservationExpired,
    /// The hold was canceled earlier.
    #[error("the reservation was canceled")]
    ReservationCanceled,
    /// The units are already sold.
    #[error("the reservation was confirmed")]
    ReservationConfirmed,
    /// The sale was returned earlier.
    #[error("the reservation was returned")]
    ReservationReturned,
    /// The reservation is still a hold, and only a sale can be returned.
    #[error("the reservation was not confirmed")]
    ReservationNotConfirmed,
    /// The hold expired, and too few units are free to reacquire it.
    #[error("the reservation's deadline has passed, and too few units are free to reserve again")]
    ExpiredSoldOut,
    /// The adjustment removes more units than are free.
    #[error("only {free} units are free")]
    InsufficientStock {
        /// Number of free units.
        free: i32,
    },
    /// Another number of units is free than the request expects.
    #[error("{free} units are free")]
    StockChanged {
        /// Number of free units.
        free: i32,
    },
    /// The adjustment makes the total larger than an `i32`.
    #[error("the total would be more than 2147483647")]
    TotalTooLarge,
}

/// The columns of a [`Reservation`] with its effective status as of the start of the transaction (`now()`).
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

/// The columns of a [`Reservation`] in a function's result. They are named one by one, because a prepared statement
/// with `.*` fails after a migration adds a column.
macro_rules! of_result {
    () => {
        "(reservation).id, (reservation).product_id, (reservation).user_id, (reservation).quantity,
        (reservation).expires_at, (reservation).created_at, (reservation).status, (reservation).confirmed_at,
        (reservation).canceled_at, (reservation).expired_at, (reservation).returned_at, (reservation).reference,
        (reservation).reacquired_from"
    };
}
pub(crate) use of_result;

/// Reads reservations. The result has one entry for each id, in the order of `ids`. `None` if no reservation has the
/// id.
///
/// # Errors
///
/// PostgreSQL cannot be read.
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

/// The answer of a verb whose reservation is now in the state `found`. `wanted` is the status that the verb sets.
pub(crate) fn answer(wanted: Status, found: Option<&Reservation>) -> Result<Reservation, Refusal> {
    let reservation = found.ok_or(Refusal::ReservationNotFound)?;
    match reservation.status {
        status if status == wanted => Ok(reservation.clone()),
        Status::Confirmed => Err(Refusal::ReservationConfirmed),
        Status::Canceled => Err(Refusal::ReservationCanceled),
        Status::Returned => Err(Refusal::ReservationReturned),
        Status::Expired => Err(Refusal::ReservationExpired),
        // confirm and cancel change every hold before its deadline. Only return leaves such a hold ACTIVE.
        Status::Active => Err(Refusal::ReservationNotConfirmed),
    }
}

pub(crate) fn raw(ids: &[ReservationId]) -> Vec<i64> {
    ids.iter().map(|id| id.get()).collect()
}
