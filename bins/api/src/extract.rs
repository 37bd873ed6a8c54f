//! Extractors: request bodies, ids in paths, query parameters.

use std::{collections::HashSet, error::Error};

use axum::{
    body::{self, Body, Bytes, HttpBody as _},
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
    http::{HeaderMap, header, request::Parts},
};
use http_server::BodyTimeout;
use inventory::{ProductId, ReservationId, reservation::Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned, de::IgnoredAny};
use serde_json::json;

use crate::{
    Problem,
    code::{BODY_MAX_BYTES, ProblemCode},
    openapi::{Describe, Operation, Schemas},
};

/// A JSON object. Unknown fields are refused.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::UnsupportedMediaType);
        }
        parse(&read(request.into_body()).await?).map(Self)
    }
}

/// The refusals of a body.
const BAD_BODY: [ProblemCode; 5] = [
    ProblemCode::InvalidJson,
    ProblemCode::BodyTooLarge,
    ProblemCode::RequestTimeout,
    ProblemCode::UnsupportedMediaType,
    ProblemCode::InvalidRequest,
];

impl<T: JsonSchema> Describe for Json<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.body(schemas.request_schema::<T>(), true);
        operation.refuse(&BAD_BODY);
    }
}

/// An optional body: empty, or a JSON object.
pub(crate) struct OptionalJson<T>(pub(crate) T);

/// The body of a route that needs no input.
pub(crate) type NoBody = OptionalJson<Nothing>;

/// An object without fields.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct Nothing {}

impl<T: Default + DeserializeOwned, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let json = is_json(request.headers());
        let bytes = read(request.into_body()).await?;
        match (bytes.is_empty(), json) {
            (true, _) => Ok(Self(T::default())),
            (false, false) => Err(Problem::UnsupportedMediaType),
            (false, true) => parse(&bytes).map(Self),
        }
    }
}

impl<T: JsonSchema> Describe for OptionalJson<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.body(schemas.request_schema::<T>(), false);
        operation.refuse(&BAD_BODY);
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str())
    else {
        return false;
    };
    // Most clients send exactly this value, which needs no parsing.
    if value == "application/json" {
        return true;
    }
    let essence = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

pub(crate) async fn read(body: Body) -> Result<Bytes, Problem> {
    // If the declared length is above the limit, refuse before the client sends the body.
    if body.size_hint().lower() > BODY_MAX_BYTES as u64 {
        return Err(Problem::BodyTooLarge);
    }
    let read = body::to_bytes(body, BODY_MAX_BYTES).await;
    read.map_err(|error| {
        if caused_by::<http_body_util::LengthLimitError>(&error) {
            Problem::BodyTooLarge
        } else if caused_by::<BodyTimeout>(&error) {
            Problem::RequestTimeout
        } else {
            Problem::InvalidJson("the body is incomplete".to_owned())
        }
    })
}

/// Whether the error or one of its causes is an `E`.
fn caused_by<E: Error + 'static>(error: &axum::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // The whole body is checked, because serde_json does not check strings that it skips.
    let Ok(text) = str::from_utf8(bytes) else {
        return Err(Problem::InvalidJson("the body is not UTF-8".to_owned()));
    };
    let refusal = match serde_json::from_str(text) {
        // serde also reads structs from arrays. The OpenAPI document allows only objects.
        Ok(value) if first_byte(bytes) == Some(b'{') => return Ok(value),
        Ok(_) => "the body must be a JSON object".to_owned(),
        Err(error) => error.to_string(),
    };
    // A syntax error may follow the wrong value. Then the body is not JSON at all, which is the problem to report.
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Err(Problem::InvalidRequest(refusal)),
        Err(error) => Err(Problem::InvalidJson(error.to_string())),
    }
}

fn first_byte(bytes: &[u8]) -> Option<u8> {
    bytes
        .iter()
        .copied()
        .find(|byte| !byte.is_ascii_whitespace())
}

/// An id in the path. Text that is not a positive 64-bit integer is answered like an unknown id: not found.
pub(crate) struct Id<T>(pub(crate) T);

/// An id whose object may not exist.
pub(crate) trait Named: TryFrom<i64> {
    const NOT_FOUND: Refusal;
}

impl Named for ProductId {
    const NOT_FOUND: Refusal = Refusal::ProductNotFound;
}

impl Named for ReservationId {
    const NOT_FOUND: Refusal = Refusal::ReservationNotFound;
}

impl<T: Named, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(params) = RawPathParams::from_request_parts(parts, state).await else {
            return Err(T::NOT_FOUND.into());
        };
        params
            .iter()
            .find(|(name, _)| *name == "id")
            // i64's own parser also accepts "+1".
            .filter(|(_, text)| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|(_, text)| text.parse::<i64>().ok())
            .and_then(|number| T::try_from(number).ok())
            .map(Self)
            .ok_or_else(|| T::NOT_FOUND.into())
    }
}

impl<T: Named + JsonSchema> Describe for Id<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.parameter(json!({
            "name": "id",
            "in": "path",
            "required": true,
            "schema": schemas.request_schema::<T>(),
        }));
        operation.refuse(&[ProblemCode::of(&T::NOT_FOUND)]);
    }
}

/// The query parameters. A parameter that appears twice is refused.
pub(crate) fn query_pairs(parts: &Parts) -> Result<Vec<(String, String)>, Problem> {
    let query = parts.uri.query().unwrap_or_default();
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let mut seen = HashSet::new();
    for (name, _) in &pairs {
        if !seen.insert(name) {
            return Err(Problem::InvalidQuery(format!("{name} is given twice")));
        }
    }
    Ok(pairs)
}
