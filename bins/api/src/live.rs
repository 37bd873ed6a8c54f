//! The live page over HTTP: the files of the page, and `GET /admin/live`, its data as Server-Sent Events.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::StreamExt as _;
use live::{CONTENT_SECURITY_POLICY, File, Live, View};
use serde_json::json;

use crate::{
    Problem,
    auth::Admin,
    code::ProblemCode,
    openapi::{Describe, Operation, Schemas},
    pages::Document,
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const EVENT_STREAM: &str = "text/event-stream";

/// The id of the last event that a viewer got before its connection was lost.
pub(crate) struct LastEventId(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let id = parts.headers.get(LAST_EVENT_ID);
        let id = id.and_then(|id| Some(id.to_str().ok()?.to_owned()));
        Ok(Self(id))
    }
}

impl Describe for LastEventId {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.parameter(json!({
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The `id` of the last event that the client got. The stream first sends the events after \
                it, if the service still has them.",
            "schema": { "type": "string" },
        }));
    }
}

/// A stream of events for the live page.
pub(crate) struct Views(Body);

impl IntoResponse for Views {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
            // Without this header, nginx buffers the events and delivers them late.
            (
                HeaderName::from_static("x-accel-buffering"),
                HeaderValue::from_static("no"),
            ),
        ];
        (headers, self.0).into_response()
    }
}

impl Describe for Views {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        // OpenAPI 3.1 cannot describe events. The schema of their data is still added to the document.
        schemas.response_schema::<View>();
        let answer = json!({
            "description": "Server-Sent Events, one per second. The first event is a `state`, all others are `tick`. \
                The data of an event is a `Live`, as JSON.",
            "content": { EVENT_STREAM: {
                "schema": { "type": "string" },
                "example": "event: tick\nid: 9f86d081-2\ndata: {\"at\":\"2026-02-14T12:00:00Z\"}\n\n",
            } },
        });
        operation.answer_with(StatusCode::OK, answer);
    }
}

pub(crate) fn operation() -> Operation {
    Operation::new("watchLive", "The data of the live page, as a stream")
        .refuses(&[ProblemCode::TooManyViewers])
}

pub(crate) async fn stream(
    _: Admin,
    LastEventId(last_id): LastEventId,
    State(live): State<&'static Live>,
) -> Result<Views, Problem> {
    let messages = live.subscribe(last_id.as_deref());
    let messages = messages.ok_or(Problem::TooManyViewers)?;
    let messages = messages.map(Ok::<_, Infallible>);
    Ok(Views(Body::from_stream(messages)))
}

/// The routes of the page at `/` and of its files under `/live/`.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let page = document(&live::PAGE);
    let page = get(async move |headers: HeaderMap| page.response(&headers));
    let files: HashMap<&str, Document> = live::files()
        .map(|(name, file)| (name, document(&file)))
        .collect();
    let files = Arc::new(files);
    let file = get(async move |Path(name): Path<String>, headers: HeaderMap| {
        let file = files.get(name.as_str()).ok_or(Problem::NotFound)?;
        Ok::<_, Problem>(file.response(&headers))
    });
    Router::new().route("/", page).route("/live/{*file}", file)
}

fn document(file: &File) -> Document {
    Document::new(file.media_type, CONTENT_SECURITY_POLICY, file.text)
}
