//! Pages and documents: texts that do not change while the process runs.

use std::{
    io::Write as _,
    sync::{Arc, LazyLock},
};

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use flate2::{Compression, write::GzEncoder};

use crate::etag::{self, IfNoneMatch};

/// A page or a document. Clones share its text.
#[derive(Clone)]
pub(crate) struct Document {
    media_type: &'static str,
    /// Its Content-Security-Policy.
    policy: &'static str,
    plain: Form,
    gzip: Arc<LazyLock<Form, Box<dyn FnOnce() -> Form + Send>>>,
}

/// The bytes of a response, and their tag. Responses share the bytes.
#[derive(Clone)]
struct Form {
    bytes: Bytes,
    tag: HeaderValue,
}

impl Form {
    fn of(bytes: Bytes) -> Self {
        let tag = etag::of(&bytes);
        Self { bytes, tag }
    }
}

impl Document {
    pub(crate) fn new(
        media_type: &'static str,
        policy: &'static str,
        text: impl Into<Bytes>,
    ) -> Self {
        let plain = Form::of(text.into());
        let bytes = plain.bytes.clone();
        // Compressed once, at the first request that takes it: requests must not cost more than their bytes.
        let gzip: Box<dyn FnOnce() -> Form + Send> = Box::new(move || Form::of(compressed(bytes)));
        Self {
            media_type,
            policy,
            plain,
            gzip: Arc::new(LazyLock::new(gzip)),
        }
    }

    /// The response to a request with these headers.
    pub(crate) fn response(&self, request: &HeaderMap) -> Response {
        let takes_gzip = takes_gzip(request);
        let form = match takes_gzip {
            true => &**self.gzip,
            false => &self.plain,
        };
        let headers = [
            (header::CONTENT_TYPE, self.media_type),
            (header::CONTENT_SECURITY_POLICY, self.policy),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::VARY, "accept-encoding"),
        ];
        let mut response = (headers, form.bytes.clone()).into_response();
        if takes_gzip {
            let gzip = HeaderValue::from_static("gzip");
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, gzip);
        }
        // A new release may have a new page, so browsers must revalidate.
        let known = IfNoneMatch::of(request);
        known
            .answer::<()>(form.tag.clone(), response)
            .into_response()
    }
}

fn compressed(bytes: Bytes) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(&bytes).and_then(|()| encoder.finish());
    written.expect("writing to memory cannot fail").into()
}

/// Whether the client takes gzip (RFC 9110, section 12.5.3).
fn takes_gzip(request: &HeaderMap) -> bool {
    let accepted = request.get_all(header::ACCEPT_ENCODING).iter();
    let accepted = accepted.filter_map(|value| value.to_str().ok());
    accepted.flat_map(|list| list.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let is_refused = parts.any(|weight| {
            let weight = weight.to_ascii_lowercase();
            weight
                .strip_prefix("q=")
                .is_some_and(|weight| weight.parse() == Ok(0.0))
        });
        is_gzip && !is_refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        for (accepted, takes) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("gzip;q=1.0", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("br", false),
            ("", false),
            ("identity, x-gzip-not", false),
        ] {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_str(accepted).expect(accepted);
            headers.insert(header::ACCEPT_ENCODING, value);
            assert_eq!(takes_gzip(&headers), takes, "{accepted}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
