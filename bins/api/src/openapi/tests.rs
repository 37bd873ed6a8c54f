//! Rules that every operation and every schema of the document keeps, so that code generators understand it.

use serde_json::{Map, Value};

use crate::openapi;

fn map(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}

/// Every operation: its name and itself.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let items = map(&document["paths"]).values();
    let operations = items.flat_map(|item| map(item).values());
    operations.map(|operation| {
        let id = operation["operationId"].as_str();
        (id.expect("an operationId"), operation)
    })
}

#[test]
fn every_body_has_an_example() {
    let document = openapi();
    for (id, operation) in operations(&document) {
        let answers = map(&operation["responses"]).iter();
        let bodies = answers
            .map(|(status, answer)| (status.as_str(), answer))
            .chain([("request", &operation["requestBody"])]);
        for (name, body) in bodies {
            let contents = body["content"].as_object().into_iter().flatten();
            for (media_type, content) in contents {
                let example = content.get("example").or(content.get("examples"));
                // All fields of the body of `confirmReservation` are optional, and most clients send none.
                let is_optional = name == "request" && body["required"] == false;
                assert!(
                    example.is_some() || is_optional,
                    "{id} {name} {media_type}: a field or a type of this body needs #[schemars(example = …)], or the \
                    operation an .example(…)"
                );
            }
        }
    }
}

#[test]
fn every_operation_says_what_secret_it_needs() {
    let document = openapi();
    let schemes = map(&document["components"]["securitySchemes"]);
    for (id, operation) in operations(&document) {
        let security = operation["security"].as_array();
        let security = security.unwrap_or_else(|| {
            panic!("{id}: its handler takes no Admin, Client or ActingClient: then say .open()")
        });
        for scheme in security.iter().flat_map(|scheme| map(scheme).keys()) {
            assert!(schemes.contains_key(scheme), "{id}: {scheme}");
        }
        let refuses = operation["responses"].get("401").is_some();
        assert_eq!(refuses, !security.is_empty(), "{id}");
    }
}

#[test]
fn operations_are_named_as_methods() {
    let document = openapi();
    for (id, _) in operations(&document) {
        let is_method = id.starts_with(|first: char| first.is_ascii_lowercase())
            && id
                .chars()
                .all(|character| character.is_ascii_alphanumeric())
            && id.contains(|character: char| character.is_ascii_uppercase());
        assert!(is_method, "{id} is not a verb and what it acts on");
    }
}

#[test]
fn no_schema_has_what_generators_misread() {
    fn check(at: &str, value: &Value) {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(fields) => fields
                .iter()
                .map(|(name, field)| (format!("{at}/{name}"), field))
                .collect(),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(number, item)| (format!("{at}/{number}"), item))
                .collect(),
            _ => return,
        };
        let is_schema = !at.ends_with("/properties");
        if is_schema && value.get("$ref").is_some() {
            let beside = map(value)
                .keys()
                .find(|name| !["$ref", "description"].contains(&name.as_str()));
            assert_eq!(beside, None, "{at}: a reference stands alone");
        }
        if is_schema && let Some(default) = value.get("default") {
            panic!("{at}: default {default}: generated types take the field for required");
        }
        if let Some(pattern) = value.get("pattern").and_then(Value::as_str) {
            let is_anchored =
                pattern.starts_with('^') && (pattern.ends_with('$') || at.ends_with("/not"));
            assert!(
                is_anchored,
                "{at}: {pattern}: some generators anchor patterns, others do not"
            );
        }
        if at.ends_with("/properties") {
            let boolean = map(value).iter().find(|(_, schema)| schema.is_boolean());
            assert_eq!(
                boolean, None,
                "{at}: some generators know no boolean schemas"
            );
        }
        for (at, child) in children
            .iter()
            .filter(|(at, _)| !at.ends_with("/example") && !at.ends_with("/examples"))
        {
            check(at, child);
        }
    }
    check("", &openapi());
}
