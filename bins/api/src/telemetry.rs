//! Counts, logs and traces each request, gives problems an `X-Request-Id`, and forbids caches to keep answers.
//!
//! A fault is logged once, at level warn, where it happens: a failed call with its number of requests, or a full
//! lane. A line per request would repeat the same text up to 500 times. This module logs the problem of each single
//! request, refusal or fault, at level debug and with the id that the response has.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use trace::{Answer, Span};

use crate::{
    Problem,
    code::ProblemCode,
    metrics::Metrics,
    moved, origin,
    problem::ProblemReport,
    request_id::{self, X_REQUEST_ID},
};

/// Records a request under its route, so that ids in paths do not make new time series.
pub(crate) async fn record(
    State(metrics): State<Arc<Metrics>>,
    State(lanes): State<moved::Lanes>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let id_in_path = moved::id_in(request.uri().path());
    let given = request_id::given(request.headers());
    let header = |name| request.headers().get(name)?.to_str().ok();
    let span = Span::of_request(request.uri().path(), header);
    // HTTP/1.1 requires this check of every request (RFC 9112). A layer of its own would cost every request more.
    let mut response = match origin::names_its_host(request.version(), request.headers()) {
        true => {
            let answered =
                async { moved::follow(&lanes, id_in_path, next.run(request).await).await };
            span.scope(answered).await
        }
        false => Problem::InvalidHost.into_response(),
    };
    let route = route.as_ref().map(MatchedPath::as_str);
    // A method can be any token. Unknown methods are not labels, so that a client cannot make new time series.
    let known = method.is_safe() || method == "POST" || method == "PUT" || method == "PATCH";
    let method = known.then(|| method.as_str());
    let status = response.status();
    let problem = response.extensions().get::<ProblemReport>();
    let id = match problem {
        None => given,
        Some(_) => given.or_else(request_id::new),
    };
    let answer = Answer {
        method,
        route,
        status: status.as_u16(),
        code: problem.map(|problem| problem.code.spec().code),
        request_id: id.as_ref().and_then(|id| id.to_str().ok()),
    };
    if let Some(problem) = problem {
        metrics.refused(problem.code);
        log(&answer, problem);
    }
    let (method, route) = labels(&answer);
    metrics.answered(method, route, status.as_str(), started.elapsed());
    span.answered(&answer);
    let headers = response.headers_mut();
    if let Some(id) = id {
        headers.insert(X_REQUEST_ID, id);
    }
    // Without this header, a cache on the way may keep an answer, and show its stock later. Pages have their own.
    let entry = headers.entry(header::CACHE_CONTROL);
    entry.or_insert(HeaderValue::from_static("no-store"));
    response
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
