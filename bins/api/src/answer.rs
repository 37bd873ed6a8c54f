//! What goes out: JSON bodies.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::{
    Problem,
    contract::{Describe, Operation, Schemas},
};

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

impl<T: JsonSchema> Describe for Answer<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answer(StatusCode::OK, "As asked.", schemas.given::<T>(), json!({}));
    }
}

/// What was created, and the path where it can be read.
pub(crate) struct Created<T> {
    pub(crate) path: String,
    pub(crate) body: T,
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let location = [(header::LOCATION, self.path)];
        (StatusCode::CREATED, location, Answer(self.body)).into_response()
    }
}

impl<T: JsonSchema> Describe for Created<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        let location = json!({ "Location": {
            "description": "Its path.",
            "required": true,
            "schema": { "type": "string", "format": "uri-reference" },
        } });
        operation.answer(
            StatusCode::CREATED,
            "Created.",
            schemas.given::<T>(),
            location,
        );
    }
}

/// Several things that were created in one go.
pub(crate) struct AllCreated<T>(pub(crate) Vec<T>);

impl<T: Serialize> IntoResponse for AllCreated<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Answer(self.0)).into_response()
    }
}

impl<T: JsonSchema> Describe for AllCreated<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        let schema = schemas.given::<Vec<T>>();
        operation.answer(StatusCode::CREATED, "All were created.", schema, json!({}));
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
