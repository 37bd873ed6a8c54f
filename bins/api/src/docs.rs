//! The API's documents: OpenAPI and AsyncAPI for programs, and the page `/docs` for people, made of both.

mod page;
mod prose;
mod schema;

use axum::{
    Router,
    http::HeaderMap,
    response::Redirect,
    routing::{MethodRouter, get},
};
use serde_json::Value;

use crate::pages::Document;

/// The events of the relay, as `flashsale-relay asyncapi` prints them. A test compares the two.
const ASYNCAPI: &str = include_str!("../../../docs/asyncapi.json");

/// The page is text and loads only its own style sheet. This policy makes the browser block everything else.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn router<S: Clone + Send + Sync + 'static>(openapi: &Value) -> Router<S> {
    // Parsing cannot fail: the file is compiled into this program, and a test parses it.
    let asyncapi: Value = serde_json::from_str(ASYNCAPI).unwrap_or_default();
    let page = page::page(openapi, &asyncapi).into_string();
    Router::new()
        .route(
            "/openapi.json",
            text("application/json", openapi.to_string()),
        )
        .route(
            "/asyncapi.json",
            text("application/json", asyncapi.to_string()),
        )
        .route("/docs", text("text/html; charset=utf-8", page))
        // People type it. The target is relative, because a proxy may serve the API under a prefix.
        .route("/docs/", get(async || Redirect::permanent("../docs")))
        .route(
            "/docs/style.css",
            text("text/css", include_str!("docs/style.css").to_owned()),
        )
}

fn text<S: Clone + Send + Sync + 'static>(
    media_type: &'static str,
    text: String,
) -> MethodRouter<S> {
    let document = Document::new(media_type, POLICY, text);
    get(async move |headers: HeaderMap| document.response(&headers))
}
