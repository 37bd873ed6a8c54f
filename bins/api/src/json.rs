//! JSON bodies, and their media types.

use std::{fmt, marker::PhantomData};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

pub(crate) const JSON: &str = "application/json";
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// A response with `content` as JSON, its media type, and status 200. axum's own JSON response writes small pieces
/// into a buffer that checks its capacity for each piece. That took 10 % of the instructions of a hot reserve.
pub(crate) fn body(
    media_type: &'static str,
    content: &impl Serialize,
) -> serde_json::Result<Response> {
    // A reservation has about 200 bytes, a problem about 250 bytes.
    let mut bytes = Vec::with_capacity(256);
    serde_json::to_writer(&mut bytes, content)?;
    Ok(response(media_type, bytes))
}

/// A response with this JSON, and status 200.
pub(crate) fn response(media_type: &'static str, json: impl Into<Body>) -> Response {
    let mut response = Response::new(json.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// A JSON object. serde also reads structs from arrays, but the OpenAPI document allows only objects.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OnlyMaps(PhantomData))
    }
}

struct OnlyMaps<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyMaps<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}
