//! Products: what is on sale, and how many units are free, held and sold.

use serde::Serialize;
use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;

use crate::{Error, ProductId, database::fetch};

/// `total = stock + held + sold`, at every commit.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct Product {
    pub id: ProductId,
    pub name: String,
    /// Free units.
    pub stock: i32,
    /// Units of ACTIVE holds, also of those past their deadline that were not reclaimed yet.
    pub held: i32,
    /// Units of confirmed reservations.
    pub sold: i32,
    pub total: i32,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A product to create, checked.
pub struct NewProduct {
    name: String,
    stock: i32,
}

/// Why something is no product.
#[derive(Debug, thiserror::Error)]
pub enum InvalidProduct {
    #[error("name must have 1 to 200 characters, and no NUL")]
    Name,
    #[error("stock must be a whole number from 0 to 2147483647")]
    Stock,
}

impl NewProduct {
    /// `name`: 1–200 characters without NUL (which PostgreSQL cannot store); `stock`: units, 0 to 2³¹−1.
    pub fn new(name: String, stock: i64) -> Result<Self, InvalidProduct> {
        if name.is_empty() || name.chars().count() > 200 || name.contains('\0') {
            return Err(InvalidProduct::Name);
        }
        match i32::try_from(stock) {
            Ok(stock) if stock >= 0 => Ok(Self { name, stock }),
            _ => Err(InvalidProduct::Stock),
        }
    }
}

/// Creates a product whose units are all free.
pub async fn create(pool: &PgPool, new: &NewProduct) -> Result<Product, Error> {
    let query = sqlx::query(
        "-- product: create
        insert into products (name, stock, total) values ($1, $2, $2)
        returning id, name, stock, held, sold, total, created_at",
    )
    .bind(&new.name)
    .bind(new.stock);
    fetch(pool, query)
        .await?
        .into_iter()
        .next()
        .ok_or_else(|| sqlx::Error::RowNotFound.into())
}

/// All products, by id.
pub async fn list(pool: &PgPool) -> Result<Vec<Product>, Error> {
    let query = sqlx::query(
        "-- product: list
        select id, name, stock, held, sold, total, created_at from products order by id",
    );
    fetch(pool, query).await
}

/// One answer for each id, in order.
pub async fn get(pool: &PgPool, ids: &[ProductId]) -> Result<Vec<Option<Product>>, Error> {
    let query = sqlx::query(
        "-- product: get
        select id, name, stock, held, sold, total, created_at from products where id = any($1)",
    )
    .bind(ids.iter().map(|id| id.get()).collect::<Vec<_>>());
    let found: Vec<Product> = fetch(pool, query).await?;
    Ok(ids
        .iter()
        .map(|id| found.iter().find(|product| product.id == *id).cloned())
        .collect())
}
