//! SKUs: the shop's own keys of its products.

use std::{borrow::Cow, collections::HashMap, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool};

use crate::{Error, ProductId, database::fetch};

/// Longest SKU, in characters.
pub const SKU_MAX_CHARACTERS: usize = 64;

/// The shop's own key of a product: 1 to [`SKU_MAX_CHARACTERS`] visible ASCII characters. It is unique, and never
/// changes once the product has it.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type,
)]
#[serde(try_from = "String")]
#[sqlx(transparent)]
pub struct Sku(String);

/// The text is not a valid [`Sku`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("must have 1 to {SKU_MAX_CHARACTERS} visible ASCII characters")]
pub struct InvalidSku;

impl Sku {
    /// The SKU as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Sku {
    type Error = InvalidSku;

    fn try_from(text: String) -> Result<Self, InvalidSku> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        match text.len() {
            1..=SKU_MAX_CHARACTERS if visible => Ok(Self(text)),
            _ => Err(InvalidSku),
        }
    }
}

impl FromStr for Sku {
    type Err = InvalidSku;

    fn from_str(text: &str) -> Result<Self, InvalidSku> {
        text.to_owned().try_into()
    }
}

impl JsonSchema for Sku {
    fn schema_name() -> Cow<'static, str> {
        "Sku".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": SKU_MAX_CHARACTERS,
            "pattern": "^[!-~]*$",
        })
    }
}

/// The products with these SKUs, in order of `skus`. `None`: no such product.
///
/// # Errors
///
/// PostgreSQL cannot be read.
pub async fn products(pool: &PgPool, skus: &[Sku]) -> Result<Vec<Option<ProductId>>, Error> {
    #[derive(FromRow)]
    struct Found {
        id: ProductId,
        sku: Sku,
    }
    let query = sqlx::query("-- sku: products\nselect id, sku from products where sku = any($1)")
        .bind(skus.iter().map(Sku::as_str).collect::<Vec<_>>());
    let found: Vec<Found> = fetch(pool, query).await?;
    let found: HashMap<Sku, ProductId> = found.into_iter().map(|it| (it.sku, it.id)).collect();
    Ok(skus.iter().map(|sku| found.get(sku).copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::Sku;

    #[test]
    fn a_sku_is_short_visible_ascii() {
        for sku in [
            "1",
            "IPH-15/256 GB".replace(' ', "_").as_str(),
            "!~",
            &"x".repeat(64),
        ] {
            assert_eq!(
                sku.parse::<Sku>().map(|sku| sku.to_string()),
                Ok(sku.to_owned())
            );
        }
        for wrong in [
            "",
            " ",
            "a b",
            "é",
            "\t",
            "a\0",
            "a\n",
            "\u{7f}",
            &"x".repeat(65),
        ] {
            assert!(wrong.parse::<Sku>().is_err(), "{wrong:?}");
        }
    }
}
