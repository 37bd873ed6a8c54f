//! `X-Request-Id`: what a request is called in its answer, in the log and in its trace.

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

/// Tells the ids of this process from those of others. Only a hasher with keys of its own is random here: who
/// guesses an id gains nothing.
static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The client's own. What is too long, not visible ASCII or there twice is left alone: it is no reason to refuse.
pub(crate) fn given(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(X_REQUEST_ID).iter();
    let id = values.next().filter(|_| values.next().is_none())?;
    let visible = id.as_bytes().iter().all(u8::is_ascii_graphic);
    (visible && (1..=MAX_CHARACTERS).contains(&id.len())).then(|| id.clone())
}

/// One that no other request has. It is made for problems alone: a good answer is found by what it answers, and
/// most of the service's work is good answers.
pub(crate) fn new() -> Option<HeaderValue> {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{:016x}-{number:x}", *PROCESS).try_into().ok()
}

/// It, in the contract: what clients may send.
pub(crate) fn parameter() -> Value {
    json!({
        "name": "X-Request-Id",
        "in": "header",
        "description": "What the client calls the request. What cannot be a name is left alone.",
        "schema": schema(),
    })
}

/// What they get.
pub(crate) fn headers() -> Value {
    let header = |description: &str, required: bool| json!({ "description": description, "required": required, "schema": schema() });
    json!({
        "RequestId": header("The client's name for the request, or else the service's.", true),
        "GivenRequestId": header("The client's name for the request, if it gave one.", false),
    })
}

fn schema() -> Value {
    json!({ "type": "string", "pattern": format!("^[!-~]{{1,{MAX_CHARACTERS}}}$") })
}
