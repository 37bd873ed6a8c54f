//! One request and its answer.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderValue, header},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use tokio::time::{Sleep, sleep, timeout};
use tower_service::Service as _;

use crate::{metrics::Closed, registry::Activity};

/// If the handler does not want the body, the server reads the rest of it, so that the connection can serve further
/// requests. It reads at most this much. A larger rest costs more than a new connection.
const UNWANTED_MAX_BYTES: u64 = 64 * 1024;

/// Longest time for the unwanted rest. It delays the answer.
const UNWANTED_TIME: Duration = Duration::from_secs(1);

/// The body did not arrive within the time limit.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive within the time limit")]
pub struct BodyTimeout;

/// The service of a connection: the router, and the care for bodies that it does not read.
pub(crate) fn service(
    router: Router,
    activity: Arc<Activity>,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<AnswerBody>,
    Error = Infallible,
    Future: Send,
> {
    service_fn(move |request| answer(router.clone(), Arc::clone(&activity), request))
}

fn answer(
    mut router: Router,
    activity: Arc<Activity>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> {
    activity.request_began();
    let in_progress = InProgress(activity);
    // To read such a body would ask the client for it.
    let asks_first = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let has_body = !HttpBody::is_end_stream(&body);
    let body = if has_body {
        Body::new(RequestBody::new(body, Arc::clone(&in_progress.0)))
    } else {
        Body::empty()
    };
    let answering = router.call(Request::from_parts(parts, body));
    async move {
        let mut response = answering.await?;
        let activity = &in_progress.0;
        if has_body
            && let Some(rest) = activity.take_rest()
            && (asks_first || !is_discarded(rest).await)
        {
            activity.body_unread();
        }
        if activity.answers_last() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(response.map(|body| AnswerBody {
            body,
            _in_progress: in_progress,
        }))
    }
}

/// Reads the rest of a body. Returns whether it has come to its end.
async fn is_discarded(mut body: Incoming) -> bool {
    let discarding = async {
        let mut left = UNWANTED_MAX_BYTES;
        while left > 0 && body.size_hint().lower() <= left {
            match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(frame)) => {
                    let read = frame.data_ref().map_or(0, Bytes::len) as u64;
                    left = left.saturating_sub(read);
                }
            }
        }
        false
    };
    timeout(UNWANTED_TIME, discarding).await.unwrap_or(false)
}

/// A request in progress. It ends when its answer is dropped: the server has then produced its last byte, or the
/// connection is lost.
struct InProgress(Arc<Activity>);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// A body that must arrive within the time limit. If it is dropped before its end, the rest is left for the server.
struct RequestBody {
    body: Option<Incoming>,
    activity: Arc<Activity>,
    /// Started when the body is waited for. Most bodies come with their heads.
    limit: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    fn new(body: Incoming, activity: Arc<Activity>) -> Self {
        Self {
            body: Some(body),
            activity,
            limit: None,
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            if !matches!(frame, Some(Ok(_))) {
                this.body = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let activity = &this.activity;
        let limit = this
            .limit
            .get_or_insert_with(|| Box::pin(sleep(activity.registry.limits.body())));
        ready!(limit.as_mut().poll(context));
        activity.registry.metrics.closed(Closed::Body);
        activity.body_unread();
        this.body = None;
        Poll::Ready(Some(Err(BodyTimeout.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let rest = self.body.take();
        if let Some(rest) = rest.filter(|rest| !HttpBody::is_end_stream(rest)) {
            self.activity.leave_rest(rest);
        }
    }
}

/// The body of an answer.
pub(crate) struct AnswerBody {
    body: Body,
    _in_progress: InProgress,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
