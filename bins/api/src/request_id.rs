//! `X-Request-Id`: the id of a request in its response, in the log and in its trace.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_CHARACTERS: usize = 128;

/// A random number that makes the ids of this process different from those of other processes. A hasher with random
/// keys is random enough: the ids are not secret.
static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The client's own id. A value that is too long, not visible ASCII or present twice is ignored: the id is only for
/// searching, so a bad one is no reason to refuse the request.
pub(crate) fn given(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(X_REQUEST_ID).iter();
    let id = values.next().filter(|_| values.next().is_none())?;
    let visible = id.as_bytes().iter().all(u8::is_ascii_graphic);
    (visible && (1..=MAX_CHARACTERS).contains(&id.len())).then(|| id.clone())
}

/// A new unique id. Only problems get one. A successful response can be found by the reservation that it shows, and
/// most responses are successful, so they save this work.
pub(crate) fn new() -> Option<HeaderValue> {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{:016x}-{number:x}", *PROCESS).try_into().ok()
}

/// The OpenAPI parameter for the `X-Request-Id` header of requests.
pub(crate) fn parameter() -> Value {
    json!({
        "name": "X-Request-Id",
        "in": "header",
        "description": "The client's id for the request. An invalid id is ignored.",
        "schema": schema(),
    })
}

/// The OpenAPI headers for the `X-Request-Id` header of responses.
pub(crate) fn headers() -> Value {
    let header = |description: &str, required: bool| json!({ "description": description, "required": required, "schema": schema() });
    json!({
        "RequestId": header("The client's id for the request, or an id that the service made.", true),
        "GivenRequestId": header("The client's id for the request, if the request had one.", false),
    })
}

fn schema() -> Value {
    json!({ "type": "string", "pattern": format!("^[!-~]{{1,{MAX_CHARACTERS}}}$") })
}
