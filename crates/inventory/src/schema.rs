//! What the contract says of values whose Rust type does not show it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// A time as every answer and event writes it: RFC 3339, in UTC.
pub struct Utc;

impl JsonSchema for Utc {
    fn schema_name() -> Cow<'static, str> {
        "Utc".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time", "pattern": "Z$" })
    }
}

/// What text must look like that PostgreSQL can store.
pub const WITHOUT_NUL: &str = "^[^\\u0000]*$";
