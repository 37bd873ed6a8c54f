//! JSON bodies, and their media types.

use axum::{
    http::{HeaderValue, header},
    response::Response,
};
use serde::Serialize;

pub(crate) const JSON: &str = "application/json";
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// `content` as JSON under its media type, with status 200. axum's own response is written piece by piece into a buffer
/// that checks its room for each piece: a tenth of the instructions that a hot reserve took in this process.
pub(crate) fn body(
    media_type: &'static str,
    content: &impl Serialize,
) -> serde_json::Result<Response> {
    // A reservation has some 200 bytes, a problem 250.
    let mut bytes = Vec::with_capacity(256);
    serde_json::to_writer(&mut bytes, content)?;
    let mut response = Response::new(bytes.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
}
