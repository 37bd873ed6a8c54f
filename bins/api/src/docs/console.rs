//! The forms of the console, which sends requests. They are hidden until the page's script runs.

use maud::{Markup, html};
use serde_json::Value;

use super::{prose::text, schema::limits_in_words};

/// The form for the secret of all requests.
pub(super) fn access() -> Markup {
    html! {
        form #access hidden {
            label for="secret" { "API key or admin token" }
            input #secret type="password" autocomplete="off" spellcheck="false" aria-describedby="secret-use";
            p #secret-use .prose {
                "For the requests that you send from this page. It is kept for this tab, and sent only to this service. \
                Without API keys and without a token of the administrator, leave it empty."
            }
        }
    }
}

/// The form of one operation.
pub(super) fn form(method: &str, path: &str, operation: &Value, parameters: &[Value]) -> Markup {
    let id = text(&operation["operationId"]);
    let content = &operation["requestBody"]["content"]["application/json"];
    let example = content.get("example").unwrap_or(&Value::Null);
    html! {
        form.console data-method=(method) data-path=(path) hidden {
            @for parameter in parameters { (field(id, parameter)) }
            @if content.is_object() {
                @let field = format!("{id}-body");
                label for=(field) { "Body" }
                textarea id=(field) spellcheck="false" rows=(rows(example)) {
                    @if !example.is_null() { (format!("{example:#}")) }
                }
            }
            button type="submit" { "Send " span.method { (method) } " " code { (path) } }
            div role="status" data-answer="" {}
        }
    }
}

fn field(operation: &str, parameter: &Value) -> Markup {
    let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
    let field = format!("{operation}-{name}");
    let required = parameter["required"] == true;
    let value = required.then(|| example_of(parameter));
    html! {
        label for=(field) {
            (name) " " span.format { "in " (place) @if !required { ", optional" } }
        }
        input id=(field) name=(name) data-in=(place) required[required] value=[value]
            placeholder=(limits_in_words(&parameter["schema"])) autocomplete="off" spellcheck="false";
    }
}

/// An example of a parameter. An id is 1, which exists on a new service, if anything does.
pub(super) fn example_of(parameter: &Value) -> &str {
    let example = parameter.pointer("/schema/examples/0");
    example.map_or("1", text)
}

/// The lines of the example, and one more to type in.
fn rows(example: &Value) -> usize {
    format!("{example:#}").lines().count().max(2) + 1
}
