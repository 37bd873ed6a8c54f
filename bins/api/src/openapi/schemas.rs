//! The named schemas of the document, in a form that code generators understand.

use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::{Contract, SchemaSettings},
    transform::RecursiveTransform,
};
use serde_json::{Map, Value};

/// Writes a default into the description, for example "`1` if absent". With the keyword `default`, generated types take
/// the field for one that is always there, and then it must be sent.
fn defaults_in_words(schema: &mut Schema) {
    // A default of null only means that the field is optional.
    let Some(default) = schema.remove("default").filter(|value| !value.is_null()) else {
        return;
    };
    let description = schema.get("description").and_then(Value::as_str);
    let words = description.map_or_else(String::new, |text| format!("{text} "));
    let description = format!("{words}`{default}` if absent.");
    schema.insert("description".into(), description.into());
}

/// Any value has the schema `{}`: some generators refuse the shorter `true`.
fn any_value_as_object(schema: &mut Schema) {
    if schema.as_bool() == Some(true) {
        schema.ensure_object();
    }
}

/// The named schemas of the document.
pub(crate) struct Schemas {
    requests: SchemaGenerator,
    responses: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let generator = |contract| {
            let mut settings = SchemaSettings::draft2020_12();
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
            settings.contract = contract;
            settings
                .transforms
                .push(Box::new(RecursiveTransform(defaults_in_words)));
            settings
                .transforms
                .push(Box::new(RecursiveTransform(any_value_as_object)));
            SchemaGenerator::new(settings)
        };
        Self {
            requests: generator(Contract::Deserialize),
            responses: generator(Contract::Serialize),
        }
    }

    /// The request schema of `T`: what clients may send.
    pub(crate) fn request_schema<T: JsonSchema>(&mut self) -> Value {
        self.requests.subschema_for::<T>().into()
    }

    /// The response schema of `T`: what clients get.
    pub(crate) fn response_schema<T: JsonSchema>(&mut self) -> Value {
        self.responses.subschema_for::<T>().into()
    }

    /// All of them, by name.
    pub(super) fn take(mut self) -> Map<String, Value> {
        let mut schemas = self.responses.take_definitions(true);
        schemas.append(&mut self.requests.take_definitions(true));
        schemas.sort_keys();
        schemas
    }
}
