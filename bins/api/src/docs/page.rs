//! The page `/docs`: operations, problems, events and schemas, each with an anchor.

use std::sync::LazyLock;

use maud::{DOCTYPE, Markup, html};
use serde_json::{Map, Value, json};

use super::{
    console,
    prose::{line, prose, text},
    schema::{fields, kind, limits, name},
};
use crate::{
    Problem,
    code::{ProblemCode, ProblemSpec},
    openapi::ADMIN,
};

/// The default address of the service, for the examples.
const ADDRESS: &str = "http://127.0.0.1:8080";

pub(super) fn page(openapi: &Value, asyncapi: &Value) -> Markup {
    let info = &openapi["info"];
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (text(&info["title"])) " – API documentation" }
                link rel="stylesheet" href="/docs/style.css";
                script type="module" src="/docs/docs.js" {}
            }
            body {
                nav { (contents(openapi, asyncapi)) }
                main {
                    header {
                        h1 { (text(&info["title"])) " " span.version { (text(&info["version"])) } }
                        p.lead { (text(&info["summary"])) }
                        (prose(text(&info["description"])))
                        p {
                            "For programs: " a href="/openapi.json" { "openapi.json" }
                            " and " a href="/asyncapi.json" { "asyncapi.json" } "."
                        }
                        (console::access())
                    }
                    @for tag in list(&openapi["tags"]) {
                        section id={ "tag-" (text(&tag["name"])) } {
                            h2 { (text(&tag["name"])) }
                            (prose(text(&tag["description"])))
                            @for (path, method, operation) in tagged(openapi, tag) {
                                (operation_card(openapi, path, method, operation))
                            }
                        }
                    }
                    (problems())
                    (events(asyncapi))
                    section id="schemas" {
                        h2 { "Schemas" }
                        @for (name, schema) in map(&openapi["components"]["schemas"]) { (schema_card(name, schema)) }
                    }
                }
            }
        }
    }
}

fn contents(openapi: &Value, asyncapi: &Value) -> Markup {
    html! {
        div #search-box hidden {
            label for="search" { "Search" }
            input #search type="search" placeholder="for example sold_out" autocomplete="off" spellcheck="false";
            p #found role="status" {}
        }
        input #menu type="checkbox";
        label for="menu" { "Contents" }
        div {
            @for tag in list(&openapi["tags"]) {
                p { a href={ "#tag-" (text(&tag["name"])) } { (text(&tag["name"])) } }
                ul {
                    @for (_, method, operation) in tagged(openapi, tag) {
                        li {
                            a href={ "#" (text(&operation["operationId"])) } {
                                span class={ "method " (method) } { (method) }
                                (text(&operation["operationId"]))
                            }
                        }
                    }
                }
            }
            p { a href="#problems" { "Problems" } }
            p { a href="#events" { "Events" } }
            ul {
                @for name in map(&asyncapi["components"]["messages"]).keys() {
                    li { a href={ "#event-" (name) } { (name) } }
                }
            }
            p { a href="#schemas" { "Schemas" } }
        }
    }
}

fn operation_card(openapi: &Value, path: &str, method: &str, operation: &Value) -> Markup {
    let body = operation.pointer("/requestBody/content/application~1json/schema");
    let taken = body.map(|schema| resolved(openapi, schema));
    let example = operation.pointer("/requestBody/content/application~1json/example");
    let scheme = list(&operation["security"]).first();
    let scheme = scheme.and_then(|scheme| map(scheme).keys().next());
    let token = match scheme.map(String::as_str) {
        Some(ADMIN) => Some("ADMIN_TOKEN"),
        Some(_) => Some("API_KEY"),
        None => None,
    };
    // The page describes common parameters once, above the operations.
    let mut parameters = list(&operation["parameters"]).to_vec();
    parameters.retain(|parameter| parameter.get("$ref").is_none());
    html! {
        article id=(text(&operation["operationId"])) {
            h3 {
                span class={ "method " (method) } { (method) } " " code { (path) }
                @if scheme.is_some_and(|scheme| scheme == ADMIN) { span.admin { "admin" } }
            }
            p.summary { (text(&operation["summary"])) "." }
            @if let Some(description) = operation["description"].as_str() { (prose(description)) }
            @if !parameters.is_empty() {
                h4 { "Parameters" }
                dl.fields {
                    @for parameter in &parameters {
                        dt {
                            code { (text(&parameter["name"])) }
                            @if parameter["required"] != true { span.optional { "optional" } }
                        }
                        dd {
                            div { (kind(&parameter["schema"])) span.format { " in " (text(&parameter["in"])) } }
                            (limits(&parameter["schema"]))
                            div.prose { (line(text(&parameter["description"]))) }
                        }
                    }
                }
            }
            @if let Some(schema) = taken {
                h4 {
                    "Body"
                    @if operation["requestBody"]["required"] != true { span.optional { "optional" } }
                }
                (fields(schema))
            }
            h4 { "Try it" }
            pre tabindex="0" { code { (curl(path, method, &parameters, example, token)) } }
            (console::form(method, path, operation, &parameters))
            h4 { "Answers" }
            dl.answers {
                @for (status, answer) in map(&operation["responses"]) {
                    dt { span class={ "status s" (&status[..1]) } { (status) } }
                    dd { (answer_line(answer)) }
                }
            }
        }
    }
}

fn answer_line(answer: &Value) -> Markup {
    let problem = answer.pointer("/content/application~1problem+json/examples");
    let headers = map(&answer["headers"]);
    html! {
        @if let Some(codes) = problem.and_then(Value::as_object) {
            @for code in codes.keys() { a.code href={ "#problem-" (code) } { (code) } " " }
        } @else {
            @let schema = &answer["content"]["application/json"]["schema"];
            @if schema.get("$ref").or(schema.get("items")).is_some() {
                (kind(schema))
            } @else {
                (line(text(&answer["description"])))
            }
            @for (media_type, content) in map(&answer["content"]) {
                @if let Some(example) = content.get("example") {
                    details {
                        summary { "Example" @if media_type != "application/json" { " (" (media_type) ")" } }
                        pre tabindex="0" { code {
                            @match example.as_str() {
                                Some(text) => (text.trim_end()),
                                None => (format!("{example:#}")),
                            }
                        } }
                    }
                }
            }
        }
        // An optional header of a problem is also a header of the operation's other responses, which list it already.
        @for (name, header) in headers {
            @if header.get("$ref").is_none() && (problem.is_none() || header["required"] == true) {
                div.prose { "Header " code { (name) } ": " (line(text(&header["description"]))) }
            }
        }
    }
}

fn curl(
    path: &str,
    method: &str,
    parameters: &[Value],
    body: Option<&Value>,
    token: Option<&str>,
) -> String {
    let in_path = parameters
        .iter()
        .filter(|parameter| parameter["in"] == "path");
    let path = in_path.fold(path.to_owned(), |path, parameter| {
        let place = format!("{{{}}}", text(&parameter["name"]));
        path.replace(&place, console::example_of(parameter))
    });
    let mut command = match (method, &body) {
        ("get", _) | ("post", Some(_)) => format!("curl -s {ADDRESS}{path}"),
        _ => format!("curl -s -X {} {ADDRESS}{path}", method.to_uppercase()),
    };
    if let Some(token) = token {
        command += &format!(" \\\n  -H \"Authorization: Bearer ${token}\"");
    }
    if let Some(body) = body {
        command += &format!(" \\\n  -H 'Content-Type: application/json' \\\n  -d '{body}'");
    }
    command
}

fn problems() -> Markup {
    html! {
        section id="problems" {
            h2 { "Problems" }
            p {
                "An error is a " a href="#schema-Problem" { "Problem" } ", as " code { "application/problem+json" }
                " (RFC 9457). Programs should branch on its code. The texts are for people. For example:"
            }
            pre tabindex="0" { code { (format!("{:#}", json!(Problem::example(ProblemCode::SoldOut).body()))) } }
            div.wide {
                table {
                    thead { tr { th { "Code" } th { "Status" } th { "When" } th { "What to do" } } }
                    tbody {
                        @for code in ProblemCode::ALL {
                            @let ProblemSpec { code, status, title, when, action } = code.spec();
                            tr id={ "problem-" (code) } {
                                td { code { (code) } div.prose { (title) } }
                                td { span class={ "status s" (&status.as_str()[..1]) } { (status.as_str()) } }
                                td { (line(when)) }
                                td { (line(action)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn events(asyncapi: &Value) -> Markup {
    html! {
        section id="events" {
            h2 { "Events" }
            (prose(text(&asyncapi["info"]["description"])))
            @for (name, message) in map(&asyncapi["components"]["messages"]) {
                @let channel = &asyncapi["channels"][name];
                article id={ "event-" (name) } {
                    h3 { (name) " " code { (text(&channel["address"])) } }
                    p.summary { (text(&message["summary"])) }
                    h4 { "Payload" }
                    @let body = resolved(asyncapi, &message["payload"]);
                    (fields(resolved(asyncapi, &body["properties"]["payload"])))
                    @let headers = resolved(asyncapi, &message["headers"]);
                    @if !map(&headers["properties"]).is_empty() {
                        h4 { "Headers" }
                        (fields(headers))
                    }
                    h4 { "Body" }
                    @for example in list(&message["examples"]) {
                        pre tabindex="0" { code { (format!("{:#}", example["payload"])) } }
                    }
                }
            }
            h3 { "Properties of every message" }
            (fields(&asyncapi["components"]["schemas"]["Properties"]))
        }
    }
}

fn schema_card(name: &str, schema: &Value) -> Markup {
    html! {
        article id={ "schema-" (name) } {
            h3 { (name) }
            @if name == "Code" {
                p { "See " a href="#problems" { "Problems" } "." }
            } @else {
                @if let Some(description) = schema["description"].as_str() { (prose(description)) }
                @if schema.get("properties").is_some() { (fields(schema)) } @else { (kind(schema)) (limits(schema)) }
            }
        }
    }
}

/// The operations of a tag, each as path, method and operation.
fn tagged<'a>(openapi: &'a Value, tag: &Value) -> Vec<(&'a str, &'a str, &'a Value)> {
    let mut found = Vec::new();
    for (path, item) in map(&openapi["paths"]) {
        for (method, operation) in map(item) {
            if operation["tags"][0] == tag["name"] {
                found.push((path.as_str(), method.as_str(), operation));
            }
        }
    }
    found
}

/// The schema that `schema` refers to, or `schema` itself.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match name(schema) {
        Some(name) => &document["components"]["schemas"][name],
        None => schema,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn map(value: &Value) -> &Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE)
}
