//! Products: name, rules of the sale, and the numbers of free, held and sold units.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use sqlx::{Encode, FromRow, PgConnection, PgPool, Postgres, QueryBuilder, Type};
use time::OffsetDateTime;

use crate::{
    Error, ProductId, Quantity, Seconds, Timestamp,
    database::{End, Executor, fetch, transact},
    event::Events,
    locked::IfLocked,
    reservation::Refusal,
    schema::Utc,
    sku::{InvalidSku, Sku},
    transition::{Transition, offered},
    waitlist,
};

/// A product. `total = stock + held + sold` at every commit.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema, FromRow)]
#[schemars(example = json!({
    "id": 1, "name": "iPhone 15", "stock": 7, "held": 2, "sold": 1, "total": 10, "created_at": "2026-02-14T12:00:00Z",
}))]
pub struct Product {
    /// The product's id.
    pub id: ProductId,
    /// Its name, 1 to 200 characters.
    pub name: String,
    /// Free units.
    #[schemars(range(min = 0))]
    pub stock: i32,
    /// Units of ACTIVE holds, including holds past their deadline that were not reclaimed yet.
    #[schemars(range(min = 0))]
    pub held: i32,
    /// Units of confirmed reservations.
    #[schemars(range(min = 0))]
    pub sold: i32,
    /// All units.
    #[schemars(range(min = 0))]
    pub total: i32,
    /// Number of entries that wait in the product's line. While there are any, no other user gets a unit.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(with = "i32", range(min = 1))]
    pub waiting: i32,
    /// When the product was created.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "Utc")]
    pub created_at: OffsetDateTime,
    /// The shop's own key of the product, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Sku")]
    pub sku: Option<Sku>,
    /// Duration of a hold, in seconds, if it differs from the API's setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Seconds")]
    pub hold_seconds: Option<Seconds>,
    /// Maximum duration of an extended hold since its creation, in seconds, if it differs from the API's setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Seconds")]
    pub max_hold_seconds: Option<Seconds>,
    /// Maximum number of units that a user may hold and have bought together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Quantity")]
    pub max_per_user: Option<Quantity>,
    /// Start of the sale: earlier requests are refused.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Utc")]
    pub sale_starts_at: Option<OffsetDateTime>,
    /// End of the sale: later requests are refused.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Utc")]
    pub sale_ends_at: Option<OffsetDateTime>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// The columns of a [`Product`].
macro_rules! columns {
    () => {
        "id, name, stock, held, sold, total, waiting, created_at, sku,
        hold_seconds, max_hold_seconds, max_per_user, sale_starts_at, sale_ends_at"
    };
}
pub(crate) use columns;

/// Maximum length of a name, in characters.
pub const NAME_MAX_CHARACTERS: usize = 200;

/// Maximum duration of a product's holds, in seconds: one year.
pub const HOLD_MAX_SECONDS: i64 = 31_536_000;

/// A validated name: 1 to [`NAME_MAX_CHARACTERS`] characters without NUL, which PostgreSQL cannot store.
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidProduct;

    fn try_from(name: String) -> Result<Self, InvalidProduct> {
        match name.chars().count() {
            1..=NAME_MAX_CHARACTERS if !name.contains('\0') => Ok(Self(name)),
            _ => Err(InvalidProduct::Name),
        }
    }
}

/// A validated product to create.
pub struct NewProduct {
    sku: Option<Sku>,
    name: Name,
    stock: i32,
    policy: Policy,
}

/// The rules of a product's sale. `None` leaves a rule unchanged, and `Some(None)` removes it.
#[derive(Default)]
pub struct Policy {
    /// Duration of a hold.
    pub hold_seconds: Option<Option<Seconds>>,
    /// Maximum duration of an extended hold since its creation.
    pub max_hold_seconds: Option<Option<Seconds>>,
    /// Maximum number of units per user, held and bought.
    pub max_per_user: Option<Option<Quantity>>,
    /// Start of the sale.
    pub sale_starts_at: Option<Option<OffsetDateTime>>,
    /// End of the sale, later than its start.
    pub sale_ends_at: Option<Option<OffsetDateTime>>,
}

/// Why a product is invalid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidProduct {
    /// The name is empty, too long, or contains a NUL character.
    #[error("name must have 1 to {NAME_MAX_CHARACTERS} characters, and no NUL")]
    Name,
    /// The SKU is empty, too long, or not visible ASCII.
    #[error("sku {0}")]
    Sku(#[from] InvalidSku),
    /// The stock is out of range.
    #[error("stock must be a whole number from 0 to 2147483647")]
    Stock,
    /// The field of this name is not a valid duration.
    #[error("{0} must be a whole number from 1 to {HOLD_MAX_SECONDS}")]
    Seconds(&'static str),
    /// `max_per_user` is out of range.
    #[error("max_per_user must be a whole number from 1 to 2147483647")]
    MaxPerUser,
    /// The field of this name is not a valid time.
    #[error("{0} must be a time as RFC 3339 writes it")]
    Time(&'static str),
    /// The sale ends before it starts.
    #[error("sale_ends_at must be later than sale_starts_at")]
    Window,
}

impl InvalidProduct {
    /// The name of the field that has the fault.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Sku(_) => "sku",
            Self::Stock => "stock",
            Self::Seconds(field) | Self::Time(field) => field,
            Self::MaxPerUser => "max_per_user",
            Self::Window => "sale_ends_at",
        }
    }
}

impl NewProduct {
    /// `stock` is the number of units, 0 to 2³¹−1.
    pub fn new(name: String, stock: i64, policy: Policy) -> Result<Self, InvalidProduct> {
        let name = name.try_into()?;
        match i32::try_from(stock) {
            Ok(stock) if stock >= 0 => Ok(Self {
                sku: None,
                name,
                stock,
                policy,
            }),
            _ => Err(InvalidProduct::Stock),
        }
    }

    /// The same product with a SKU.
    #[must_use]
    pub fn with_sku(mut self, sku: Option<Sku>) -> Self {
        self.sku = sku;
        self
    }
}

/// Why a product was not created or changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Rejected {
    /// The product would be invalid.
    Invalid(InvalidProduct),
    /// [`Refusal::SkuTaken`], [`Refusal::SkuMoved`] or [`Refusal::SkuFixed`].
    Refused(Refusal),
}

/// Validates the duration of a product's holds: 1 to [`HOLD_MAX_SECONDS`] seconds. `field` is named in the error.
pub fn hold_seconds(field: &'static str, seconds: i64) -> Result<Seconds, InvalidProduct> {
    Some(seconds)
        .filter(|seconds| *seconds <= HOLD_MAX_SECONDS)
        .and_then(|seconds| seconds.try_into().ok())
        .ok_or(InvalidProduct::Seconds(field))
}

/// Parses the start or end of a sale, a [`Timestamp`]. `field` is named in the error.
pub fn sale_time(field: &'static str, text: &str) -> Result<OffsetDateTime, InvalidProduct> {
    let time: Timestamp = text.parse().map_err(|_| InvalidProduct::Time(field))?;
    Ok(time.get())
}

/// Creates a product whose units are all free. Refuses with [`Refusal::SkuTaken`] and [`Refusal::SkuMoved`].
pub async fn create(
    executor: impl Into<Executor<'_>>,
    new: &NewProduct,
) -> Result<Result<Product, Rejected>, Error> {
    let mut executor = executor.into();
    let policy = &new.policy;
    let query = sqlx::query(concat!(
        "-- product: create\nselect ",
        columns!(),
        " from create_product_v1($1, $2, $3, $4, $5, $6, $7, $8)"
    ))
    .bind(&new.name.0)
    .bind(new.stock)
    .bind(&new.sku)
    .bind(policy.hold_seconds.flatten())
    .bind(policy.max_hold_seconds.flatten())
    .bind(policy.max_per_user.flatten())
    .bind(policy.sale_starts_at.flatten())
    .bind(policy.sale_ends_at.flatten());
    let created: Vec<Product> = match checked(fetch(executor.reborrow(), query).await)? {
        Ok(created) => created,
        Err(rejected) => return Ok(Err(rejected)),
    };
    match (created.into_iter().next(), &new.sku) {
        (Some(product), _) => Ok(Ok(product)),
        (None, Some(sku)) => {
            let moved = moved_sku(executor, sku).await?;
            Ok(Err(Rejected::Refused(moved.unwrap_or(Refusal::SkuTaken))))
        }
        (None, None) => Err(sqlx::Error::RowNotFound.into()),
    }
}

/// The refusal of a SKU whose product is in another cell, or on its way there.
async fn moved_sku(executor: impl Into<Executor<'_>>, sku: &Sku) -> Result<Option<Refusal>, Error> {
    let query =
        sqlx::query("-- product: a moved SKU\nselect to_cell from moved_skus_v1(array[$1])");
    let moved: Vec<(i32,)> = fetch(executor, query.bind(sku)).await?;
    let refusal = |(to_cell,)| Refusal::SkuMoved { to_cell };
    Ok(moved.into_iter().next().map(refusal))
}

/// Result of [`change`].
#[derive(Debug)]
pub struct Changed {
    /// The product after the change, `None` if it does not exist; or why it was not changed.
    pub answer: Result<Option<Product>, Rejected>,
    /// Number of holds that the call offered to users who waited for units.
    pub offered: u64,
}

impl Changed {
    /// The transitions that this call made.
    pub fn transitions(&self) -> impl Iterator<Item = Transition<'_>> + Clone {
        offered(self.offered).into_iter()
    }

    fn rejected(why: Rejected) -> Self {
        Self {
            answer: Err(why),
            offered: 0,
        }
    }
}

/// Changes a product's name and gives it a SKU, unless these are `None`, and changes the rules of its sale. Refuses with
/// [`Refusal::SkuTaken`], [`Refusal::SkuMoved`] and [`Refusal::SkuFixed`].
///
/// The rules decide who is offered units, and when the line of the product is closed. So the line is looked at in the same
/// transaction.
pub async fn change(
    pool: &PgPool,
    id: ProductId,
    name: Option<&Name>,
    sku: Option<&Sku>,
    policy: &Policy,
    events: &Events,
) -> Result<Changed, Error> {
    let work = async |transaction: &mut PgConnection| {
        let changed = checked(update(&mut *transaction, id, name, sku, policy).await)?;
        let mut changed = match changed {
            Ok(rows) => rows,
            Err(rejected) => return Ok((End::Rollback, Changed::rejected(rejected))),
        };
        let mut offered = 0;
        // After the update, which waits for the end of a departure of the product with this SKU.
        if let Some(sku) = sku
            && let Some(moved) = moved_sku(&mut *transaction, sku).await?
        {
            return Ok((End::Rollback, Changed::rejected(Rejected::Refused(moved))));
        }
        if changed.iter().any(|product| product.waiting > 0) {
            // The update has locked the product.
            let settled = waitlist::settle(&mut *transaction, id, IfLocked::Wait, events).await?;
            offered = settled.unwrap_or(0);
            changed = read(&mut *transaction, &[id]).await?;
        }
        // With a SKU, either there is no such product, or it has another SKU.
        if changed.is_empty() && sku.is_some() && !read(transaction, &[id]).await?.is_empty() {
            let fixed = Rejected::Refused(Refusal::SkuFixed);
            return Ok((End::Rollback, Changed::rejected(fixed)));
        }
        let answer = Ok(changed.pop());
        Ok((End::Commit, Changed { answer, offered }))
    };
    transact(pool, work).await
}

async fn update(
    transaction: &mut PgConnection,
    id: ProductId,
    name: Option<&Name>,
    sku: Option<&Sku>,
    policy: &Policy,
) -> Result<Vec<Product>, Error> {
    let mut query = QueryBuilder::new("-- product: change\nupdate products set name = coalesce(");
    query.push_bind(name.map(|name| name.0.as_str()));
    query.push(", name)");
    set(&mut query, ", hold_seconds = ", policy.hold_seconds);
    set(&mut query, ", max_hold_seconds = ", policy.max_hold_seconds);
    set(&mut query, ", max_per_user = ", policy.max_per_user);
    set(&mut query, ", sale_starts_at = ", policy.sale_starts_at);
    set(&mut query, ", sale_ends_at = ", policy.sale_ends_at);
    if let Some(sku) = sku {
        query.push(", sku = ").push_bind(sku.as_str());
    }
    query.push(" where id = ").push_bind(id.get());
    if let Some(sku) = sku {
        query.push(" and coalesce(sku = ");
        query.push_bind(sku.as_str()).push(", true)");
    }
    query.push(concat!(" returning ", columns!()));
    fetch(transaction, query.build()).await
}

fn set<'a, T>(query: &mut QueryBuilder<Postgres>, column: &str, value: Option<Option<T>>)
where
    Option<T>: Encode<'a, Postgres> + Type<Postgres> + 'a,
{
    if let Some(value) = value {
        query.push(column).push_bind(value);
    }
}

/// Converts a violated constraint to its error. When only one end of the sale is given, only the database knows the
/// other.
fn checked<T>(answer: Result<T, Error>) -> Result<Result<T, Rejected>, Error> {
    let constraint = match &answer {
        Err(Error::NotDone(sqlx::Error::Database(refusal))) => refusal.constraint(),
        _ => None,
    };
    match constraint {
        Some("products_sale_window") => Ok(Err(Rejected::Invalid(InvalidProduct::Window))),
        Some("products_by_sku") => Ok(Err(Rejected::Refused(Refusal::SkuTaken))),
        _ => answer.map(Ok),
    }
}

/// All products, by id.
pub async fn list(pool: &PgPool) -> Result<Vec<Product>, Error> {
    page(pool, None, i64::MAX).await
}

/// Up to `limit` products with ids above `after`, by id.
pub async fn page(
    pool: &PgPool,
    after: Option<ProductId>,
    limit: i64,
) -> Result<Vec<Product>, Error> {
    let query = sqlx::query(concat!(
        "-- product: list\nselect ",
        columns!(),
        " from products where id > $1 order by id limit $2"
    ))
    .bind(after.map_or(0, |id| id.get()))
    .bind(limit);
    fetch(pool, query).await
}

/// The newest `limit` products, by id.
pub async fn newest(executor: impl Into<Executor<'_>>, limit: i64) -> Result<Vec<Product>, Error> {
    let query = sqlx::query(concat!(
        "-- product: newest\nselect ",
        columns!(),
        " from products order by id desc limit $1"
    ));
    let mut products: Vec<Product> = fetch(executor, query.bind(limit)).await?;
    products.reverse();
    Ok(products)
}

/// The products with these ids, in order of `ids`. `None`: no such product.
pub async fn get(pool: &PgPool, ids: &[ProductId]) -> Result<Vec<Option<Product>>, Error> {
    let found = read(pool, ids).await?;
    Ok(ids
        .iter()
        .map(|id| found.iter().find(|product| product.id == *id).cloned())
        .collect())
}

async fn read(executor: impl Into<Executor<'_>>, ids: &[ProductId]) -> Result<Vec<Product>, Error> {
    let query = sqlx::query(concat!(
        "-- product: get\nselect ",
        columns!(),
        " from products where id = any($1)"
    ))
    .bind(ids.iter().map(|id| id.get()).collect::<Vec<_>>());
    fetch(executor, query).await
}
