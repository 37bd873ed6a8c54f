//! adjust stock: adds units to a product or removes free units, and records the change.

use sqlx::{FromRow, Row};

use crate::{
    Error, ProductId,
    database::{Executor, execute},
    event::Events,
    product::{Product, columns},
    reservation::Refusal,
    transition::{Transition, expired, offered},
};

/// Maximum length of a reason, in characters.
pub const REASON_MAX_CHARACTERS: usize = 200;

/// A validated change of a product's stock.
pub struct Adjustment {
    delta: i32,
    reason: Reason,
}

/// A validated reason: 1 to [`REASON_MAX_CHARACTERS`] characters without NUL, which PostgreSQL cannot store.
pub struct Reason(String);

impl Reason {
    /// The reason as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Reason {
    type Error = InvalidAdjustment;

    fn try_from(reason: String) -> Result<Self, InvalidAdjustment> {
        match reason.chars().count() {
            1..=REASON_MAX_CHARACTERS if !reason.contains('\0') => Ok(Self(reason)),
            _ => Err(InvalidAdjustment::Reason),
        }
    }
}

/// Why an [`Adjustment`] is invalid.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAdjustment {
    /// `delta` is 0.
    #[error("delta must not be 0")]
    Delta,
    /// The reason is empty, too long, or contains a NUL character.
    #[error("reason must have 1 to {REASON_MAX_CHARACTERS} characters, and no NUL")]
    Reason,
}

impl Adjustment {
    /// `delta` is the number of units to add (negative: to remove). `reason` has 1 to [`REASON_MAX_CHARACTERS`]
    /// characters without NUL.
    pub fn new(delta: i32, reason: String) -> Result<Self, InvalidAdjustment> {
        if delta == 0 {
            return Err(InvalidAdjustment::Delta);
        }
        let reason = reason.try_into()?;
        Ok(Self { delta, reason })
    }
}

/// Result of [`adjust_stock`].
pub struct Adjusted {
    /// The product after the change, or the refusal.
    pub answer: Result<Product, Refusal>,
    /// Number of due holds that the call expired to free units.
    pub expired: u64,
    /// Number of holds that the call offered to users who waited for units.
    pub offered: u64,
}

impl Adjusted {
    pub(crate) fn no_product() -> Self {
        Self {
            answer: Err(Refusal::ProductNotFound),
            expired: 0,
            offered: 0,
        }
    }

    /// The transitions that this call made.
    pub fn transitions(&self) -> impl Iterator<Item = Transition<'_>> + Clone {
        let adjusted = self.answer.is_ok().then_some(Transition::StockAdjusted);
        adjusted
            .into_iter()
            .chain(expired(self.expired))
            .chain(offered(self.offered))
    }
}

/// Changes a product's stock and total by `delta` units. Units of due holds count as free, except for those that users in
/// the product's waitlist get. Added units go to these users first.
///
/// Refuses with [`Refusal::ProductNotFound`], [`Refusal::InsufficientStock`] and [`Refusal::TotalTooLarge`].
pub async fn adjust_stock(
    executor: impl Into<Executor<'_>>,
    product_id: ProductId,
    adjustment: &Adjustment,
    events: &Events,
) -> Result<Adjusted, Error> {
    let query = sqlx::query(concat!(
        "-- adjust stock
        select a.adjusted, a.expired, a.offered, ",
        columns!(),
        " from adjust_stock_v2($1, $2, $3, $4) a cross join lateral (select (a.product).*) p
        where a.adjusted is not null"
    ))
    .bind(product_id)
    .bind(adjustment.delta)
    .bind(adjustment.reason.as_str())
    .bind(events.types());
    let rows = execute(executor, query).await?;
    let Some(row) = rows.first() else {
        return Ok(Adjusted::no_product());
    };
    let expired: i64 = row.try_get("expired")?;
    let offered: i64 = row.try_get("offered")?;
    Ok(Adjusted {
        answer: match row.try_get("adjusted")? {
            true => Ok(Product::from_row(row)?),
            false if adjustment.delta > 0 => Err(Refusal::TotalTooLarge),
            false => Err(Refusal::InsufficientStock {
                free: row.try_get("stock")?,
            }),
        },
        expired: expired.unsigned_abs(),
        offered: offered.unsigned_abs(),
    })
}
