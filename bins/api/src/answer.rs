//! Successful responses with JSON bodies.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::{
    Problem,
    etag::{self, IfNoneMatch, Tagged},
    json::{self, JSON},
    openapi::{Describe, Operation, Schemas},
};

/// A response with status 200 and a JSON body.
pub(crate) struct Answer<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        json::body(JSON, &self.0).unwrap_or_else(|error| {
            tracing::error!(%error, "a response cannot be written as JSON");
            Problem::Internal.into_response()
        })
    }
}

impl<T: Serialize> Answer<T> {
    /// The answer with its tag, for a client that may have it already.
    pub(crate) fn tagged(self, known: &IfNoneMatch) -> Tagged<Self> {
        match serde_json::to_vec(&self.0) {
            Ok(json) => known.answer(etag::of(&json), json::response(JSON, json)),
            Err(_) => Tagged::untagged(self.into_response()),
        }
    }
}

impl<T: JsonSchema> Describe for Answer<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answer(
            StatusCode::OK,
            "The request succeeded.",
            schemas.response_schema::<T>(),
            json!({}),
        );
    }
}

/// A created object, and the path where it can be read.
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
            "description": "Path of the created object.",
            "required": true,
            "schema": { "type": "string", "format": "uri-reference" },
        } });
        operation.answer(
            StatusCode::CREATED,
            "The object was created.",
            schemas.response_schema::<T>(),
            location,
        );
    }
}

/// Several objects that were created in one transaction.
pub(crate) struct AllCreated<T>(pub(crate) Vec<T>);

impl<T: Serialize> IntoResponse for AllCreated<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Answer(self.0)).into_response()
    }
}

impl<T: JsonSchema> Describe for AllCreated<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        let schema = schemas.response_schema::<Vec<T>>();
        operation.answer(
            StatusCode::CREATED,
            "All objects were created.",
            schema,
            json!({}),
        );
    }
}
