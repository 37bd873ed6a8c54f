//! Validated positive numbers: parsed once at the edge, and not checked again inside.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, Unexpected, Visitor},
};

/// 2⁵³−1. Up to this number, no other whole number has the same `f64`.
const EXACT_MAX: i64 = 9_007_199_254_740_991;

/// What a schema of numbers above [`EXACT_MAX`] says in words, because JSON Schema cannot.
const EXACT_FORM: &str = "From 2^53 (9007199254740992) on, written with digits only: without a fraction and without an exponent.";

/// Reads a whole number in this range. `1.0` and `1e2` are whole numbers, too, as JSON Schema defines them, but only
/// below 2⁵³: beyond that, a number with a fraction or an exponent may not be the one that the client means.
pub fn whole_number<'de, D: Deserializer<'de>>(
    deserializer: D,
    least: i64,
    most: i64,
) -> Result<i64, D::Error> {
    deserializer.deserialize_i64(WholeNumber { least, most })
}

struct WholeNumber {
    least: i64,
    most: i64,
}

impl WholeNumber {
    fn within<E: serde::de::Error>(
        &self,
        number: Option<i64>,
        given: Unexpected<'_>,
    ) -> Result<i64, E> {
        number
            .filter(|number| (self.least..=self.most).contains(number))
            .ok_or_else(|| E::invalid_value(given, self))
    }
}

impl Visitor<'_> for WholeNumber {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {} to {}", self.least, self.most)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<i64, E> {
        self.within(Some(number), Unexpected::Signed(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<i64, E> {
        self.within(i64::try_from(number).ok(), Unexpected::Unsigned(number))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<i64, E> {
        let is_whole = number.fract() == 0.0 && number.abs() <= EXACT_MAX as f64;
        // Exact, because of the check above.
        self.within(is_whole.then_some(number as i64), Unexpected::Float(number))
    }
}

/// The number is not in the range from 1 to the given maximum.
#[derive(Debug, thiserror::Error)]
#[error("must be a whole number from 1 to {0}")]
pub struct NotPositive(i64);

macro_rules! positive {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, sqlx::Type)]
        #[sqlx(transparent)]
        pub struct $name($repr);

        impl $name {
            /// The number 1.
            pub const ONE: Self = Self(1);

            /// The number itself.
            pub fn get(self) -> $repr {
                self.0
            }
        }

        impl TryFrom<i64> for $name {
            type Error = NotPositive;

            fn try_from(value: i64) -> Result<Self, NotPositive> {
                match <$repr>::try_from(value) {
                    Ok(value) if value > 0 => Ok(Self(value)),
                    _ => Err(NotPositive(<$repr>::MAX.into())),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = whole_number(deserializer, 1, <$repr>::MAX.into())?;
                Self::try_from(number).map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let mut schema = <$repr>::json_schema(generator);
                schema.insert("minimum".into(), 1.into());
                schema.insert("maximum".into(), <$repr>::MAX.into());
                if i64::from(<$repr>::MAX) > EXACT_MAX {
                    schema.insert("description".into(), EXACT_FORM.into());
                }
                schema
            }
        }

        impl From<$name> for $repr {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

positive!(
    /// Id of a product.
    ProductId(i64)
);
positive!(
    /// Id of a reservation.
    ReservationId(i64)
);
positive!(
    /// Id of an entry of a waitlist. The entries of a product are in line in the order of their ids.
    WaitlistEntryId(i64)
);
positive!(
    /// Id of a change of a product's stock.
    StockChangeId(i64)
);
positive!(
    /// Id of a user, assigned by the shop.
    UserId(i64)
);
positive!(
    /// Number of units of a product in one reservation.
    Quantity(i32)
);

positive!(
    /// A duration in whole seconds.
    Seconds(i32)
);
