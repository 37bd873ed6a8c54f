//! Examples of bodies, made of the examples of their types and fields.

use serde_json::{Map, Value, json};

/// The time of every example, and five minutes later: the date of the README's examples.
const TIME: &str = "2026-02-14T12:00:00Z";

/// Adds an example to each body of a request or of an answer that has none.
pub(super) fn add(paths: &mut Map<String, Value>, schemas: &Map<String, Value>) {
    let items = paths.values_mut().filter_map(Value::as_object_mut);
    for operation in items.flat_map(Map::values_mut) {
        if let Some(body) = operation.get_mut("requestBody") {
            add_to(body, schemas);
        }
        let answers = operation["responses"].as_object_mut();
        for answer in answers.into_iter().flat_map(Map::values_mut) {
            add_to(answer, schemas);
        }
    }
}

fn add_to(body: &mut Value, schemas: &Map<String, Value>) {
    let contents = body.get_mut("content").and_then(Value::as_object_mut);
    for content in contents.into_iter().flat_map(Map::values_mut) {
        let is_there = content.get("example").or(content.get("examples")).is_some();
        if let Some(example) = of(&content["schema"], schemas).filter(|_| !is_there) {
            content["example"] = example;
        }
    }
}

/// An example of a schema: its own, or one that is made of its parts. `None` if a required part has none.
fn of(schema: &Value, schemas: &Map<String, Value>) -> Option<Value> {
    let own = schema.pointer("/examples/0").or(schema.get("const"));
    if let Some(example) = own.or(schema.pointer("/enum/0")) {
        return Some(example.clone());
    }
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return of(schemas.get(name.rsplit('/').next()?)?, schemas);
    }
    if let Some(items) = schema.get("items") {
        return Some(json!([of(items, schemas)?]));
    }
    if schema
        .get("format")
        .is_some_and(|format| format == "date-time")
    {
        return Some(TIME.into());
    }
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|names| names.contains(&name.into()));
    let mut object = Map::new();
    for (name, field) in schema.get("properties")?.as_object()? {
        // An optional field is shown only if its type or its field has an example for it.
        match field.pointer("/examples/0") {
            Some(example) => _ = object.insert(name.clone(), example.clone()),
            None if is_required(name) => _ = object.insert(name.clone(), of(field, schemas)?),
            None => {}
        }
    }
    // Without any field it would show nothing.
    (!object.is_empty()).then(|| object.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_one(schema: Value) -> Option<Value> {
        let named = json!({ "Named": { "examples": [7] } });
        of(&schema, named.as_object()?)
    }

    #[test]
    fn it_is_made_of_the_examples_of_the_parts() {
        let schema = json!({
            "properties": {
                "a": { "type": "integer", "examples": [1] },
                "b": { "type": "array", "items": { "$ref": "#/components/schemas/Named" } },
                "c": { "type": "string", "format": "date-time" },
                "d": { "enum": ["x", "y"] },
                "e": { "type": "integer" },
            },
            "required": ["a", "b", "c", "d"],
        });
        let example = json!({ "a": 1, "b": [7], "c": TIME, "d": "x" });
        assert_eq!(of_one(schema), Some(example));
    }

    #[test]
    fn a_required_field_without_an_example_is_not_invented() {
        let schema = json!({ "properties": { "a": { "type": "integer" } }, "required": ["a"] });
        assert_eq!(of_one(schema), None);
        assert_eq!(of_one(json!({ "type": "object" })), None);
    }
}
