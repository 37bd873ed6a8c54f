//! Renders JSON Schemas for people.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::prose::line;

/// The type of values that a schema allows. A named schema becomes a link.
pub(super) fn kind(schema: &Value) -> Markup {
    if let Some(name) = name(schema) {
        return html! { a href={ "#schema-" (name) } { (name) } };
    }
    if let Some(items) = schema.get("items") {
        return html! { "array of " (kind(items)) };
    }
    if let Some(constant) = schema.get("const") {
        return html! { code { (constant) } };
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => vec!["any value"],
    };
    let format = schema.get("format").and_then(Value::as_str);
    html! {
        @if schema.get("enum").is_some() { "one of" } @else { (types.join(" or ")) }
        @if let Some(format) = format { " " span.format { (format) } }
    }
}

/// The name that a schema refers to.
pub(super) fn name(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.rsplit('/').next()
}

/// The limits of a value in words: range, length and what it may not be.
pub(super) fn limits_in_words(schema: &Value) -> String {
    let limit = |name: &str| schema.get(name).map(ToString::to_string);
    let mut limits = Vec::new();
    for (least, most, of) in [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
    ] {
        match (limit(least), limit(most)) {
            (Some(least), Some(most)) => limits.push(format!("{least} to {most}{of}")),
            (Some(least), None) => limits.push(format!("at least {least}{of}")),
            (None, Some(most)) => limits.push(format!("at most {most}{of}")),
            (None, None) => {}
        }
    }
    if let Some(not) = schema.pointer("/not/const") {
        limits.push(format!("not {not}"));
    }
    limits.join("; ")
}

/// The limits of a value, and its allowed values.
pub(super) fn limits(schema: &Value) -> Markup {
    let limits = limits_in_words(schema);
    html! {
        @if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            div.values { @for value in values { code { (value.as_str().unwrap_or_default()) } " " } }
        }
        @if !limits.is_empty() { div.limits { (limits) } }
    }
}

/// The fields of an object.
pub(super) fn fields(schema: &Value) -> Markup {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object);
    html! {
        dl.fields {
            @for (name, field) in properties.unwrap_or(&none) {
                dt {
                    code { (name) }
                    @if !required.contains(&name.as_str()) { span.optional { "optional" } }
                }
                dd {
                    div { (kind(field)) }
                    (limits(field))
                    @if let Some(description) = field.get("description").and_then(Value::as_str) {
                        div.prose { (line(description)) }
                    }
                }
            }
        }
    }
}
