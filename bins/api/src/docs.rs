//! The contract, served: for programs as OpenAPI and AsyncAPI, for people as one page made of both.

mod page;
mod prose;
mod schema;

use axum::{
    Router,
    http::header,
    response::IntoResponse,
    routing::{MethodRouter, get},
};
use serde_json::Value;

use crate::pages;

/// What the relay publishes, as `flashsale-relay asyncapi` prints it: a test compares the two.
const ASYNCAPI: &str = include_str!("../../../docs/asyncapi.json");

/// The page is text and needs nothing from anywhere else; a browser holds it to that.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn router<S: Clone + Send + Sync + 'static>(openapi: &Value) -> Router<S> {
    // The file is part of this program, and the test that compares it reads it.
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
        .route(
            "/docs/style.css",
            text("text/css", include_str!("docs/style.css").to_owned()),
        )
}

fn text<S: Clone + Send + Sync + 'static>(
    media_type: &'static str,
    text: String,
) -> MethodRouter<S> {
    // Shared by all answers, not copied for each.
    let text = axum::body::Bytes::from(text);
    get(async move || {
        (
            pages::headers(POLICY),
            [(header::CONTENT_TYPE, media_type)],
            text,
        )
            .into_response()
    })
}
