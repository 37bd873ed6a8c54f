//! What goes out: JSON bodies.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::Problem;

pub(crate) const JSON: &str = "application/json";
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// A JSON body. axum's own is written piece by piece into a buffer that checks its room for each: a tenth of
/// the instructions that a hot reserve took in this process.
pub(crate) struct Answer<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        body(JSON, &self.0).unwrap_or_else(|error| {
            tracing::error!(%error, "an answer cannot be written as JSON");
            Problem::Internal.into_response()
        })
    }
}

/// `content` as JSON under its media type, with status 200.
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
