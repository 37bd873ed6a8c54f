//! What goes out: JSON bodies.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::{
    Problem,
    json::{self, JSON},
    openapi::{Describe, Operation, Schemas},
};

/// A JSON body.
pub(crate) struct Answer<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        json::body(JSON, &self.0).unwrap_or_else(|error| {
            tracing::error!(%error, "an answer cannot be written as JSON");
            Problem::Internal.into_response()
        })
    }
}

impl<T: JsonSchema> Describe for Answer<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answer(
            StatusCode::OK,
            "As asked.",
            schemas.response_schema::<T>(),
            json!({}),
        );
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
            schemas.response_schema::<T>(),
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
        let schema = schemas.response_schema::<Vec<T>>();
        operation.answer(StatusCode::CREATED, "All were created.", schema, json!({}));
    }
}
