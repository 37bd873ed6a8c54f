//! set stock: sets a product's free units to a number, and records the change.

use sqlx::{FromRow as _, Row as _};

use crate::{
    Error, ProductId,
    adjust_stock::{Adjusted, Reason},
    database::{Executor, execute},
    event::Events,
    product::{Product, columns},
    reservation::Refusal,
};

/// A number of free units to set.
pub struct SetStock {
    /// The free units.
    pub stock: i32,
    /// The free units that there must be before. `None`: any number.
    pub expected: Option<i32>,
    /// Why.
    pub reason: Reason,
}

/// Sets a product's free units. Nothing is recorded if it has that many already. Users in the product's waitlist get them
/// first.
///
/// Refuses with [`Refusal::ProductNotFound`], [`Refusal::StockChanged`] and [`Refusal::TotalTooLarge`].
pub async fn set_stock(
    executor: impl Into<Executor<'_>>,
    product_id: ProductId,
    wanted: &SetStock,
    events: &Events,
) -> Result<Adjusted, Error> {
    let query = sqlx::query(concat!(
        "-- set stock
        select s.outcome, s.offered, ",
        columns!(),
        " from set_stock_v1($1, $2, $3, $4, $5) s cross join lateral (select (s.product).*) p
        where s.outcome is not null"
    ))
    .bind(product_id)
    .bind(wanted.stock)
    .bind(wanted.expected)
    .bind(wanted.reason.as_str())
    .bind(events.types());
    let rows = execute(executor, query).await?;
    let Some(row) = rows.first() else {
        return Ok(Adjusted::no_product());
    };
    let offered: i64 = row.try_get("offered")?;
    Ok(Adjusted {
        answer: match row.try_get("outcome")? {
            "set" => Ok(Product::from_row(row)?),
            "stock_changed" => Err(Refusal::StockChanged {
                free: row.try_get("stock")?,
            }),
            _ => Err(Refusal::TotalTooLarge),
        },
        expired: 0,
        offered: offered.unsigned_abs(),
    })
}
