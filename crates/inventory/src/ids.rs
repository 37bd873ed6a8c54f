//! Validated positive numbers: parsed once at the edge, and not checked again inside.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// The number is not in the range from 1 to the given maximum.
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
    /// Id of a product.
    ProductId(i64)
);
positive!(
    /// Id of a reservation.
    ReservationId(i64)
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
