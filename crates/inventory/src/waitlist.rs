//! Waitlists: the entries of users who wait for units of a product, how they are read, and what the expirer does.
//!
//! A product has one line, in the order of the entries' ids. Units that come free go to the first in line, in the
//! transaction that frees them: each entry that its units reach gets an ACTIVE hold. The line is strict: an entry that
//! wants more units than are free stops it. While anybody waits, nobody else gets a unit.
//!
//! | verb | from | to |
//! |---|---|---|
//! | [`join`](crate::join_waitlist) | – | WAITING, or OFFERED if units are free |
//! | offer (`sql/offer_units.sql`) | WAITING | OFFERED; CLOSED if the sale is over, or if the user may not have so many units |
//! | [`leave`](crate::leave_waitlist) | WAITING | LEFT |

use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder, Row as _};
use time::OffsetDateTime;

use crate::{
    Error, ProductId, Quantity, ReservationId, UserId, WaitlistEntryId,
    database::{Executor, execute, fetch, read_only},
    event::Events,
    locked::IfLocked,
    reservation::Reference,
    schema,
};

/// An entry of a product's waitlist.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema, FromRow)]
#[schemars(rename = "WaitlistEntry", example = json!({
    "id": 7, "product_id": 1, "user_id": 42, "quantity": 1, "status": "WAITING", "position": 3,
    "created_at": "2026-11-27T09:00:00.123456Z",
}))]
pub struct Entry {
    /// Id of the entry.
    pub id: WaitlistEntryId,
    /// Product that the user waits for.
    pub product_id: ProductId,
    /// User who waits.
    pub user_id: UserId,
    /// Number of units.
    pub quantity: Quantity,
    /// Whether the user waits, and how the waiting ended.
    pub status: EntryStatus,
    /// Place in the line: 1 is the first. Only while the user waits, and only up to 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 1, max = POSITION_MAX))]
    pub position: Option<i64>,
    /// The hold that was offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ReservationId")]
    pub reservation_id: Option<ReservationId>,
    /// The shop's own name for the entry. The offered hold has the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Reference")]
    pub reference: Option<Reference>,
    /// Time of the join.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "schema::Utc")]
    pub created_at: OffsetDateTime,
    /// When a hold was offered, the user left, or the entry was closed.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "schema::Utc")]
    pub ended_at: Option<OffsetDateTime>,
}

/// The status of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "UPPERCASE")]
#[sqlx(type_name = "text", rename_all = "UPPERCASE")]
#[allow(
    missing_docs,
    reason = "documented variants would turn the schema's enum into oneOf"
)]
pub enum EntryStatus {
    Waiting,
    Offered,
    Left,
    Closed,
}

/// This is not a status of an entry.
#[derive(Debug, thiserror::Error)]
#[error("must be WAITING, OFFERED, LEFT or CLOSED")]
pub struct InvalidEntryStatus;

impl FromStr for EntryStatus {
    type Err = InvalidEntryStatus;

    fn from_str(text: &str) -> Result<Self, InvalidEntryStatus> {
        match text {
            "WAITING" => Ok(Self::Waiting),
            "OFFERED" => Ok(Self::Offered),
            "LEFT" => Ok(Self::Left),
            "CLOSED" => Ok(Self::Closed),
            _ => Err(InvalidEntryStatus),
        }
    }
}

/// Last position that is counted: a count of so many entries takes some milliseconds.
pub const POSITION_MAX: i64 = 10_000;

/// The columns of an [`Entry`], whose row is `e`. The position counts up to [`POSITION_MAX`] entries.
macro_rules! columns {
    () => {
        "e.id, e.product_id, e.user_id, e.quantity, e.status, e.reservation_id, e.reference, e.created_at, e.ended_at,
        case when e.status = 'WAITING' then (
            select nullif(count(*), 10000) + 1
            from (
                select from waitlist_entries w
                where w.product_id = e.product_id and w.status = 'WAITING' and w.id < e.id
                limit 10000
            ) w
        ) end as position"
    };
}

/// Which entries to list. `None` matches all.
#[derive(Clone, Copy, Default)]
pub struct Filter {
    /// Only entries of this user.
    pub user_id: Option<UserId>,
    /// Only entries of this product.
    pub product_id: Option<ProductId>,
    /// Only entries with this status.
    pub status: Option<EntryStatus>,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
#[allow(
    missing_docs,
    reason = "documented variants would turn the schema's enum into oneOf"
)]
pub enum Order {
    #[default]
    Oldest,
    Newest,
}

/// This is not an order.
#[derive(Debug, thiserror::Error)]
#[error("must be oldest or newest")]
pub struct InvalidOrder;

impl FromStr for Order {
    type Err = InvalidOrder;

    fn from_str(text: &str) -> Result<Self, InvalidOrder> {
        match text {
            "oldest" => Ok(Self::Oldest),
            "newest" => Ok(Self::Newest),
            _ => Err(InvalidOrder),
        }
    }
}

/// Which part of the list to return.
#[derive(Clone, Copy)]
pub struct Page {
    /// Whether the oldest or the newest entries come first.
    pub order: Order,
    /// Starts after this entry. Neither it nor those before it in this order are read.
    pub after: Option<WaitlistEntryId>,
    /// Maximum number of entries.
    pub limit: i64,
}

/// Reads an entry. `None` if there is none with this id.
pub async fn get(pool: &PgPool, id: WaitlistEntryId) -> Result<Option<Entry>, Error> {
    let query = sqlx::query(concat!(
        "-- waitlist: get\nselect ",
        columns!(),
        " from waitlist_entries e where e.id = $1"
    ));
    let mut found: Vec<Entry> = read_only(pool, BEGIN, query.bind(id)).await?;
    Ok(found.pop())
}

/// The time limit is for filters that match too few of many entries. Without sequential scans and sorts, the entries are
/// read in the order of an index, also if the statistics are from a day without entries.
const BEGIN: &str = "begin read only; set local statement_timeout = '2s'; set local enable_seqscan = off; \
    set local enable_sort = off";

/// One page, in the order of the ids: the order of each line, or the reverse.
pub async fn list(pool: &PgPool, filter: &Filter, page: Page) -> Result<Vec<Entry>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(concat!(
        "-- waitlist: list\nselect ",
        columns!(),
        " from waitlist_entries e where "
    ));
    // A range over the columns of one index. With an equality, the planner may scan all ids instead.
    let order = match filter {
        Filter {
            user_id: Some(user_id),
            ..
        } => push_range(&mut query, "user_id", user_id.get(), page),
        Filter {
            product_id: Some(product_id),
            ..
        } => push_range(&mut query, "product_id", product_id.get(), page),
        Filter {
            status: Some(status),
            ..
        } => push_range(&mut query, "status", *status, page),
        _ => {
            query.push(format!("e.id {} ", page.order.after()));
            query.push_bind(page.after_id());
            format!("e.id{}", page.order.direction())
        }
    };
    if let (Some(product_id), Some(_)) = (filter.product_id, filter.user_id) {
        query.push(" and e.product_id = ").push_bind(product_id);
    }
    match filter.status {
        // Selects the index of those who wait.
        Some(EntryStatus::Waiting) => query.push(" and e.status = 'WAITING'"),
        // No index has this condition. With a plain equality, the planner may read all entries of the status and all of the
        // product, and then compare them.
        Some(status) => query
            .push(" and (e.status = ")
            .push_bind(status)
            .push(") is true"),
        None => &mut query,
    };
    query.push(format!(" order by {order} limit "));
    query.push_bind(page.limit);
    read_only(pool, BEGIN, query.build()).await
}

/// Conditions for the rows with this value after this id. Returns their order.
fn push_range<'a, T>(
    query: &mut QueryBuilder<Postgres>,
    column: &str,
    value: T,
    page: Page,
) -> String
where
    T: Copy + sqlx::Encode<'a, Postgres> + sqlx::Type<Postgres> + 'a,
{
    let (order, direction) = (page.order, page.order.direction());
    query.push(format!("e.{column} {} ", order.up_to()));
    query.push_bind(value);
    query.push(format!(" and (e.{column}, e.id) {} (", order.after()));
    query.push_bind(value);
    query.push(", ").push_bind(page.after_id()).push(")");
    format!("e.{column}{direction}, e.id{direction}")
}

impl Order {
    fn after(self) -> &'static str {
        match self {
            Self::Oldest => ">",
            Self::Newest => "<",
        }
    }

    /// The other end of the range.
    fn up_to(self) -> &'static str {
        match self {
            Self::Oldest => "<=",
            Self::Newest => ">=",
        }
    }

    fn direction(self) -> &'static str {
        match self {
            Self::Oldest => "",
            Self::Newest => " desc",
        }
    }
}

impl Page {
    fn after_id(self) -> i64 {
        let beginning = match self.order {
            Order::Oldest => 0,
            Order::Newest => i64::MAX,
        };
        self.after.map_or(beginning, WaitlistEntryId::get)
    }
}

/// The number of holds that were ever offered to a product's waitlist.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema, FromRow)]
pub struct Offers {
    /// The product.
    pub product_id: ProductId,
    /// Number of holds.
    #[schemars(range(min = 1))]
    pub holds: i64,
}

/// The offers of up to `limit` products: those with the highest ids that ever had an offer.
pub async fn offers(executor: impl Into<Executor<'_>>, limit: i64) -> Result<Vec<Offers>, Error> {
    let query = sqlx::query(
        "-- waitlist: offers
        select product_id, offered as holds from waitlists where offered > 0 order by product_id desc limit $1",
    );
    fetch(executor, query.bind(limit)).await
}

/// Does what is due in the line of a product: offers free units, or closes the line after the end of the sale. Ends at
/// most 1,000 entries. Returns the number of offered holds. `None`: the product was locked, and was skipped.
pub(crate) async fn settle(
    executor: impl Into<Executor<'_>>,
    product_id: ProductId,
    if_locked: IfLocked,
    events: &Events,
) -> Result<Option<u64>, Error> {
    let query = sqlx::query(
        "-- waitlist: settle\nselect offered, locked from settle_waitlist_v2($1, $2, $3)",
    )
    .bind(product_id)
    .bind(events.types())
    .bind(if_locked == IfLocked::Wait);
    let rows = execute(executor, query).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let offered: i64 = row.try_get("offered")?;
    let locked: bool = row.try_get("locked")?;
    Ok((!locked).then_some(offered.unsigned_abs()))
}
