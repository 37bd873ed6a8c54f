//! Parts of the OpenAPI schema that Rust types cannot express.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// A time in answers and events: RFC 3339, in UTC.
pub struct Utc;

impl JsonSchema for Utc {
    fn schema_name() -> Cow<'static, str> {
        "Utc".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // No pattern for the Z at the end: generated clients check patterns against the whole text, or not at all.
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// Pattern of text that PostgreSQL can store: without NUL.
pub const WITHOUT_NUL: &str = "^[^\\u0000]*$";
