//! `ETag` and `If-None-Match` (RFC 9110): a client that has an answer already gets 304 without a body.

use std::{convert::Infallible, marker::PhantomData};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use ring::digest::{Context, SHA256};
use serde_json::json;

use crate::openapi::{Describe, Operation, Schemas};

/// Bytes of the digest in a tag. Nobody can choose a product's fields so that two answers have the same 128 bits.
const TAG_BYTES: usize = 16;

/// The tag of these bytes. It is the same in every process.
pub(crate) fn of(bytes: &[u8]) -> HeaderValue {
    of_parts([bytes])
}

/// The tag of several parts, one after the other.
pub(crate) fn of_parts<const N: usize>(parts: [&[u8]; N]) -> HeaderValue {
    let mut digest = Context::new(&SHA256);
    for part in parts {
        digest.update(part);
    }
    let digest = digest.finish();
    let tag = format!("\"{}\"", hex::encode(&digest.as_ref()[..TAG_BYTES]));
    // This cannot fail: hex digits and quotes are ASCII.
    HeaderValue::try_from(tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// The tags of the answers that the client has.
pub(crate) struct IfNoneMatch(Vec<HeaderValue>);

impl IfNoneMatch {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let tags = headers.get_all(header::IF_NONE_MATCH);
        Self(tags.iter().cloned().collect())
    }

    /// The response, or 304 if the client has it already. A cache may keep it, but must ask before each use.
    pub(crate) fn answer<A>(&self, tag: HeaderValue, response: Response) -> Tagged<A> {
        let mut response = match self.has(&tag) {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => response,
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, tag);
        let revalidate = HeaderValue::from_static("no-cache");
        headers.insert(header::CACHE_CONTROL, revalidate);
        Tagged(response, PhantomData)
    }

    /// Compares weakly, as `If-None-Match` is defined. Our tags have no commas, so a tag with one is another's.
    fn has(&self, tag: &HeaderValue) -> bool {
        let tags = self
            .0
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let mut tags = tags.map(<[u8]>::trim_ascii);
        tags.any(|known| {
            known == b"*" || known.strip_prefix(b"W/").unwrap_or(known) == tag.as_bytes()
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

impl Describe for IfNoneMatch {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.parameter(json!({
            "name": "If-None-Match",
            "in": "header",
            "description": "The `ETag` of an earlier answer. If the answer is still the same, the response is 304.",
            "schema": { "type": "string" },
        }));
        let unchanged =
            json!({ "description": "The answer is the one that the client has already." });
        operation.answer_with(StatusCode::NOT_MODIFIED, unchanged);
        let tag = json!({
            "description": "Names this answer: another answer has another tag.",
            "schema": { "type": "string" },
        });
        operation.header("ETag", tag);
    }
}

/// A response with a tag. It was made of an `A`.
pub(crate) struct Tagged<A>(Response, PhantomData<fn() -> A>);

impl<A> Tagged<A> {
    /// A response without a tag, because it is an error.
    pub(crate) fn untagged(response: Response) -> Self {
        Self(response, PhantomData)
    }
}

impl<A> IntoResponse for Tagged<A> {
    fn into_response(self) -> Response {
        self.0
    }
}

impl<A: Describe> Describe for Tagged<A> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        A::describe(operation, schemas);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_in_every_form() {
        let tag = of(b"x");
        let text = tag.to_str().expect("ASCII").to_owned();
        let has = |values: &[&str]| {
            let values = values
                .iter()
                .map(|value| HeaderValue::from_str(value).expect(value));
            IfNoneMatch(values.collect()).has(&tag)
        };
        let known = [
            text.clone(),
            format!("W/{text}"),
            format!("\"a\",  {text} "),
            "*".to_owned(),
        ];
        for known in &known {
            assert!(has(&[known]), "{known}");
            assert!(has(&["\"b\"", known]), "{known}");
        }
        for other in [
            "",
            "\"\"",
            text.trim_matches('"'),
            "W/\"x\"",
            "w/*",
            &text.to_uppercase(),
        ] {
            assert!(!has(&[other]), "{other}");
        }
        assert!(!has(&[]));
        assert_ne!(of(b"x"), of(b"y"));
    }
}
