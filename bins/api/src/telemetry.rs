//! Counts, logs and traces each request, gives problems an `X-Request-Id`, and forbids caches to keep answers.
//!
//! A fault is logged once, at level warn, where it happens: a failed call with its number of requests, or a full
//! lane. A line per request would repeat the same text up to 500 times. This module logs the problem of each single
//! request, refusal or fault, at level debug and with the id that the response has.

use std::{convert::Infallible, time::Instant};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderValue, Method, header},
    response::{IntoResponse as _, Response},
    routing::Route,
};
use tower::Service as _;
use trace::{Answer, Span};

use crate::{
    Problem,
    code::ProblemCode,
    metrics::Metrics,
    moved, origin,
    problem::ProblemReport,
    request_id::{self, X_REQUEST_ID},
};

/// Lets a route answer a request, and records it.
///
/// For a layer around each route. It is no middleware of axum, because that would make four more allocations for each
/// request.
pub(crate) fn record(
    metrics: &'static Metrics,
    lanes: &'static moved::Lanes,
    route: &mut Route,
    request: Request,
) -> impl Future<Output = Result<Response, Infallible>> + Send + use<> {
    let asked = Asked::from(&request);
    let id_in_path = moved::id_in(request.uri().path());
    // HTTP/1.1 requires this check of every request (RFC 9112). A layer of its own would cost every request more.
    let names_its_host = origin::names_its_host(request.version(), request.headers());
    let answering = names_its_host.then(|| route.call(request));
    async move {
        let response = match answering {
            Some(answering) => {
                let answered = async move {
                    let Ok(answer) = answering.await;
                    moved::follow(lanes, id_in_path, answer).await
                };
                asked.span.scope(answered).await
            }
            None => Problem::InvalidHost.into_response(),
        };
        Ok(asked.answered(metrics, response))
    }
}

/// What is recorded of a request.
struct Asked {
    at: Instant,
    method: Method,
    /// The pattern of its route, so that ids in paths do not make new time series.
    route: Option<MatchedPath>,
    /// The id that the client gave it.
    id: Option<HeaderValue>,
    span: Span,
}

impl From<&Request> for Asked {
    fn from(request: &Request) -> Self {
        let header = |name| request.headers().get(name)?.to_str().ok();
        Self {
            at: Instant::now(),
            method: request.method().clone(),
            route: request.extensions().get().cloned(),
            id: request_id::given(request.headers()),
            span: Span::of_request(request.uri().path(), header),
        }
    }
}

impl Asked {
    /// Records the answer, and gives it the headers that every answer has.
    fn answered(self, metrics: &Metrics, mut response: Response) -> Response {
        let method = &self.method;
        // A method can be any token. Unknown methods are not labels, so that a client cannot make new time series.
        let known = method.is_safe() || method == "POST" || method == "PUT" || method == "PATCH";
        let status = response.status();
        let problem = response.extensions().get::<ProblemReport>();
        let id = match problem {
            None => self.id,
            Some(_) => self.id.or_else(request_id::new),
        };
        let answer = Answer {
            method: known.then(|| method.as_str()),
            route: self.route.as_ref().map(MatchedPath::as_str),
            status: status.as_u16(),
            code: problem.map(|problem| problem.code.spec().code),
            request_id: id.as_ref().and_then(|id| id.to_str().ok()),
        };
        if let Some(problem) = problem {
            metrics.refused(problem.code);
            log(&answer, problem);
        }
        let (method, route) = labels(&answer);
        metrics.answered(method, route, status.as_str(), self.at.elapsed());
        self.span.answered(&answer);
        let headers = response.headers_mut();
        if let Some(id) = id {
            headers.insert(X_REQUEST_ID, id);
        }
        // Without this header, a cache on the way may keep an answer, and show its stock later. Pages have their own.
        let entry = headers.entry(header::CACHE_CONTROL);
        entry.or_insert(HeaderValue::from_static("no-store"));
        response
    }
}

/// The labels of a request in metrics and in the log: method and route.
fn labels<'a>(answer: &Answer<'a>) -> (&'a str, &'a str) {
    (
        answer.method.unwrap_or("other"),
        answer.route.unwrap_or("unmatched"),
    )
}

fn log(answer: &Answer<'_>, problem: &ProblemReport) {
    let (method, route) = labels(answer);
    let Answer {
        status,
        code,
        request_id,
        ..
    } = *answer;
    // Not every internal error is logged where it happens, so this line is at level warn.
    if problem.code == ProblemCode::Internal {
        tracing::warn!(method, route, status, code, request_id, "a request failed");
    } else {
        let detail = problem.detail.as_deref();
        tracing::debug!(
            method,
            route,
            status,
            code,
            request_id,
            detail,
            "a request was refused"
        );
    }
}
