//! adjust stock: adds units to a product, or takes free ones away, and keeps the books.

use sqlx::{FromRow, Row};

use crate::{
    Error, ProductId,
    database::{Via, call},
    event::Events,
    product::{Product, columns},
    reservation::Refusal,
    transition::Transition,
};

/// The longest reason.
pub const REASON_MAX_CHARACTERS: usize = 200;

/// A change of a product's stock, checked.
pub struct Adjustment {
    delta: i32,
    reason: String,
}

#[derive(Debug, thiserror::Error)]
pub enum InvalidAdjustment {
    #[error("delta must not be 0")]
    Delta,
    #[error("reason must have 1 to {REASON_MAX_CHARACTERS} characters, and no NUL")]
    Reason,
}

impl Adjustment {
    /// `delta`: units to add, or below 0 to take away; `reason`: 1 to [`REASON_MAX_CHARACTERS`], without NUL.
    pub fn new(delta: i32, reason: String) -> Result<Self, InvalidAdjustment> {
        if delta == 0 {
            return Err(InvalidAdjustment::Delta);
        }
        if reason.is_empty()
            || reason.chars().count() > REASON_MAX_CHARACTERS
            || reason.contains('\0')
        {
            return Err(InvalidAdjustment::Reason);
        }
        Ok(Self { delta, reason })
    }
}

/// What became of an adjustment.
pub struct Adjusted {
    pub answer: Result<Product, Refusal>,
    /// Due holds that the call ended on its way.
    pub expired: u64,
}

impl Adjusted {
    /// The transitions that this call made.
    pub fn transitions(&self) -> impl Iterator<Item = Transition<'_>> + Clone {
        let expired = (self.expired > 0).then_some(Transition::Expired(self.expired));
        expired.into_iter()
    }
}

/// Adjusts a product's stock and total; a unit of a due hold is a free one.
///
/// Refuses with [`Refusal::ProductNotFound`], [`Refusal::InsufficientStock`] and [`Refusal::TotalTooLarge`].
pub async fn adjust_stock(
    via: impl Into<Via<'_>>,
    product_id: ProductId,
    adjustment: &Adjustment,
    events: &Events,
) -> Result<Adjusted, Error> {
    let query = sqlx::query(concat!(
        "-- adjust stock
        select a.adjusted, a.expired, ",
        columns!(),
        " from adjust_stock_v1($1, $2, $3, $4) a cross join lateral (select (a.product).*) p
        where a.adjusted is not null"
    ))
    .bind(product_id)
    .bind(adjustment.delta)
    .bind(&adjustment.reason)
    .bind(events.types());
    let rows = call(via, query).await?;
    let Some(row) = rows.first() else {
        return Ok(Adjusted {
            answer: Err(Refusal::ProductNotFound),
            expired: 0,
        });
    };
    let expired: i64 = row.try_get("expired")?;
    Ok(Adjusted {
        answer: match row.try_get("adjusted")? {
            true => Ok(Product::from_row(row)?),
            false if adjustment.delta > 0 => Err(Refusal::TotalTooLarge),
            false => Err(Refusal::InsufficientStock {
                free: row.try_get("stock")?,
            }),
        },
        expired: expired.unsigned_abs(),
    })
}
