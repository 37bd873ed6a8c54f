//! import: creates and changes products by SKU.

use serde_json::{Map, Value, json};
use sqlx::{Row as _, types::Json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    Error, ProductId,
    database::{Executor, execute, no_such_outcome},
    event::Events,
    product::{Name, Policy},
    sku::Sku,
    transition::{Transition, offered},
};

/// Most rows in one call. Their products stay locked for some 50 ms.
pub const MAX_ROWS: usize = 1_000;

/// The reason in the ledger for a changed stock.
const REASON: &str = "import";

/// The wanted state of a product.
pub struct Row {
    /// The product.
    pub sku: Sku,
    /// Its name. `None` leaves it unchanged.
    pub name: Option<Name>,
    /// All its units, held and sold ones, too. `None` leaves the number unchanged.
    pub stock: Option<i32>,
    /// The rules of its sale.
    pub policy: Policy,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Imported {
    /// The product was created. `None`: it would be.
    Created(Option<ProductId>),
    /// These fields of the product were changed.
    Changed(ProductId, Vec<String>),
    /// The product was so already.
    Unchanged(ProductId),
    /// Nothing was done for this row.
    Refused(RefusedRow),
}

/// Result of [`import`].
#[derive(Debug)]
pub struct Outcome {
    /// What became of each row, in order.
    pub rows: Vec<Imported>,
    /// Number of holds that the call offered to users who waited for units.
    pub offered: u64,
}

impl Outcome {
    /// The transitions that a call that wrote made.
    pub fn transitions(&self) -> impl Iterator<Item = Transition<'_>> + Clone {
        let is_adjusted = |row: &Imported| matches!(row, Imported::Changed(_, fields) if fields.iter().any(|name| name == "stock"));
        let adjusted = self.rows.iter().any(is_adjusted);
        let adjusted = adjusted.then_some(Transition::StockAdjusted);
        adjusted.into_iter().chain(offered(self.offered))
    }
}

/// Why nothing was done for a row.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RefusedRow {
    /// The product is in another cell, or on its way there.
    #[error("the product has moved to cell {to_cell}: import the row there")]
    Moved {
        /// The number of that cell.
        to_cell: i32,
    },
    /// The product is new, and the row has no name or no stock.
    #[error("the product is new, so it needs a name and a stock")]
    Incomplete,
    /// The sale would end before it starts.
    #[error("sale_ends_at must be later than sale_starts_at")]
    Window,
    /// More units are held and sold than the row says that there are.
    #[error("stock is lower than the number of held and sold units: only {free} units are free")]
    InsufficientStock {
        /// Number of free units.
        free: i32,
    },
}

/// Whether to write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Only say what would be done.
    Check,
    /// Do it.
    Write,
}

/// Imports up to [`MAX_ROWS`] rows with different SKUs, in one transaction. A row that is refused does not stop the
/// others.
///
/// # Errors
///
/// The call was not done, or its outcome is unknown. A repeat does what is left.
pub async fn import(
    executor: impl Into<Executor<'_>>,
    rows: &[&Row],
    mode: Mode,
    events: &Events,
) -> Result<Outcome, Error> {
    let wanted: Vec<Value> = rows.iter().map(|row| row.to_json()).collect();
    let query = sqlx::query(
        "-- import products
        select id, outcome, changes, free, to_cell from import_products_v2($1, $2, $3, $4) order by n",
    )
    .bind(Json(wanted))
    .bind(REASON)
    .bind(mode == Mode::Check)
    .bind(events.types());
    let (mut imported, mut offered) = (Vec::with_capacity(rows.len()), 0);
    for row in execute(executor, query).await? {
        let id: Option<ProductId> = row.try_get("id")?;
        let outcome: &str = row.try_get("outcome")?;
        imported.push(match (outcome, id) {
            ("offered", _) => {
                let holds: i32 = row.try_get("free")?;
                offered = holds.unsigned_abs().into();
                continue;
            }
            ("created", id) => Imported::Created(id),
            ("changed", Some(id)) => Imported::Changed(id, row.try_get("changes")?),
            ("unchanged", Some(id)) => Imported::Unchanged(id),
            ("moved", _) => Imported::Refused(RefusedRow::Moved {
                to_cell: row.try_get("to_cell")?,
            }),
            ("incomplete", _) => Imported::Refused(RefusedRow::Incomplete),
            ("window", _) => Imported::Refused(RefusedRow::Window),
            ("insufficient_stock", _) => Imported::Refused(RefusedRow::InsufficientStock {
                free: row.try_get("free")?,
            }),
            (other, _) => return Err(no_such_outcome(other).into()),
        });
    }
    Ok(Outcome {
        rows: imported,
        offered,
    })
}

impl Row {
    /// As `import_products_v2` reads it: absent fields stay unchanged.
    fn to_json(&self) -> Value {
        let policy = &self.policy;
        let time = |time: Option<Option<OffsetDateTime>>| {
            // Every time that was parsed can be written.
            time.map(|time| json!(time.and_then(|time| time.format(&Rfc3339).ok())))
        };
        let seconds = |seconds: Option<Option<crate::Seconds>>| seconds.map(|own| json!(own));
        let fields = [
            ("sku", Some(json!(self.sku))),
            ("name", self.name.as_ref().map(|name| json!(name.as_str()))),
            ("stock", self.stock.map(|stock| json!(stock))),
            ("hold_seconds", seconds(policy.hold_seconds)),
            ("max_hold_seconds", seconds(policy.max_hold_seconds)),
            (
                "max_per_user",
                policy.max_per_user.map(|units| json!(units)),
            ),
            ("sale_starts_at", time(policy.sale_starts_at)),
            ("sale_ends_at", time(policy.sale_ends_at)),
        ];
        let given = fields.into_iter();
        let given = given.filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(given.collect::<Map<_, _>>())
    }
}
