//! Extractors: request bodies, ids in paths, query parameters.

use std::{collections::HashSet, error::Error};

use axum::{
    body::{self, Body, Bytes, HttpBody as _},
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
    http::{HeaderMap, HeaderValue, header, request::Parts},
};
use http_server::BodyTimeout;
use inventory::{ProductId, ReservationId, WaitlistEntryId, reservation::Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::json;

use crate::{
    Problem,
    code::{BODY_MAX_BYTES, ProblemCode},
    faults,
    json::Object,
    openapi::{Describe, Operation, Schemas},
};

/// A JSON object. Unknown fields are refused.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_headers(request.headers())?;
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
        let checked = check_headers(request.headers());
        let bytes = read(request.into_body()).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        checked?;
        parse(&bytes).map(Self)
    }
}

impl<T: JsonSchema> Describe for OptionalJson<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.body(schemas.request_schema::<T>(), false);
        operation.refuse(&BAD_BODY);
    }
}

/// Checks what the headers say of a body: JSON in UTF-8, and sent as it is. What the service does not support is
/// refused. It is never ignored, because the client means another body than the service would read.
fn check_headers(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |detail| Err(Problem::UnsupportedMediaType(detail));
    let mut is_typed = false;
    for (name, value) in headers {
        if name == header::CONTENT_TYPE {
            if is_typed || !is_json(value) {
                return refused(
                    "send one Content-Type: application/json, with no charset but UTF-8",
                );
            }
            is_typed = true;
        } else if name == header::CONTENT_ENCODING {
            if value != "identity" {
                return refused("send the body without Content-Encoding");
            }
        } else if name == header::TRANSFER_ENCODING {
            if !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return refused("send the body with no Transfer-Encoding but chunked");
            }
        } else if name == header::CONTENT_RANGE {
            return refused("send the whole body, without Content-Range");
        } else if DIGESTS.contains(&name.as_str()) {
            return refused("send the body without a digest: the service does not check it");
        }
    }
    match is_typed {
        true => Ok(()),
        false => refused("send Content-Type: application/json"),
    }
}

/// Headers with a digest of the body (RFC 9530, and its predecessors).
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// Whether this is the media type of JSON, or of a format that is JSON (`application/…+json`). Its only parameter may
/// be the charset UTF-8, which all JSON has (RFC 8259).
fn is_json(media_type: &HeaderValue) -> bool {
    // Most clients send exactly this value, which needs no parsing.
    if media_type == "application/json" {
        return true;
    }
    let Ok(text) = media_type.to_str() else {
        return false;
    };
    let text = text.to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let subtype = essence.strip_prefix("application/").unwrap_or_default();
    let format = subtype.strip_suffix("+json");
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(is_token);
    (subtype == "json" || format.is_some_and(is_name))
        // Empty parameters are allowed (RFC 9110, section 5.6.6).
        && parts.all(|parameter| matches!(parameter, "" | "charset=utf-8" | "charset=\"utf-8\""))
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
    match serde_json::from_str(text) {
        Ok(Object(value)) => Ok(value),
        Err(_) => Err(match faults::of_body::<Object<T>>(text) {
            Ok(faults) => Problem::InvalidRequest(faults),
            Err(reason) => Problem::InvalidJson(reason),
        }),
    }
}

/// Reads a field that may be absent, but not null.
pub(crate) fn given<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
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

impl Named for WaitlistEntryId {
    const NOT_FOUND: Refusal = Refusal::WaitlistEntryNotFound;
}

impl<T: Named, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state).await.ok();
        params
            .iter()
            .flatten()
            .find(|(name, _)| *name == "id")
            .and_then(|(_, text)| digits(text))
            .and_then(|number| T::try_from(number).ok())
            .map(Self)
            .ok_or(Problem::InvalidId(T::NOT_FOUND))
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

/// A whole number in a path or in a query, written as JSON writes it: without a plus sign and without leading zeros.
/// A negative number is out of range everywhere.
pub(crate) fn digits(text: &str) -> Option<i64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let leads_with_zero = text.len() > 1 && text.starts_with('0');
    text.parse().ok().filter(|_| is_plain && !leads_with_zero)
}

/// The query parameters. A parameter that appears twice is refused, and text that is not UTF-8.
pub(crate) fn query_pairs(parts: &Parts) -> Result<Vec<(String, String)>, Problem> {
    let query = parts.uri.query().unwrap_or_default();
    // form_urlencoded would replace the wrong bytes, and the value would be another one than the client means.
    if percent_encoding::percent_decode_str(query)
        .decode_utf8()
        .is_err()
    {
        return Err(Problem::InvalidQuery("the query is not UTF-8".to_owned()));
    }
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
