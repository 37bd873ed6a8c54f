//! Numbers with a meaning: parsed once at the edge, not checked again inside.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error)]
#[error("must be a whole number from 1 to {0}")]
pub struct NotPositive(i64);

macro_rules! positive {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
        #[serde(try_from = "i64")]
        #[sqlx(transparent)]
        pub struct $name($repr);

        impl $name {
            pub const ONE: Self = Self(1);

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
    /// A row of `products`.
    ProductId(i64)
);
positive!(
    /// A row of `reservations`.
    ReservationId(i64)
);
positive!(
    /// A user, as the shop numbers them.
    UserId(i64)
);
positive!(
    /// How many units of a product one reservation holds.
    Quantity(i32)
);

positive!(
    /// How many seconds something lasts.
    Seconds(i32)
);
