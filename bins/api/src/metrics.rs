//! What `/metrics` shows of the API.

use std::{
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    response::Response,
};
use pin_project_lite::pin_project;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
    core::Collector, exponential_buckets,
};
use tower::{Layer, Service};

/// Cheap to clone: one for every request.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Series>);

impl Deref for Metrics {
    type Target = Series;

    fn deref(&self) -> &Series {
        &self.0
    }
}

pub(crate) struct Series {
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    batch_requests: HistogramVec,
    batch_seconds: HistogramVec,
    pub(crate) created: IntCounter,
    pub(crate) confirmed: IntCounter,
    pub(crate) canceled: IntCounter,
    pub(crate) expired: IntCounter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(name, help)?);
        let latency = exponential_buckets(0.0005, 2.0, 14)?;
        Ok(Self(Arc::new(Series {
            requests: register(
                registry,
                IntCounterVec::new(
                    Opts::new("http_requests_total", "Requests answered."),
                    &["method", "route", "status"],
                )?,
            )?,
            request_seconds: register(
                registry,
                HistogramVec::new(
                    HistogramOpts::new("http_request_duration_seconds", "Time to an answer.")
                        .buckets(latency.clone()),
                    &["method", "route"],
                )?,
            )?,
            batch_requests: register(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "flashsale_batch_requests",
                        "Requests that shared one call.",
                    )
                    .buckets(exponential_buckets(1.0, 2.0, 12)?),
                    &["verb"],
                )?,
            )?,
            batch_seconds: register(
                registry,
                HistogramVec::new(
                    HistogramOpts::new("flashsale_batch_duration_seconds", "Time of one call.")
                        .buckets(latency),
                    &["verb"],
                )?,
            )?,
            created: counter("flashsale_reservations_created_total", "Holds created.")?,
            confirmed: counter("flashsale_reservations_confirmed_total", "Holds confirmed.")?,
            canceled: counter("flashsale_reservations_canceled_total", "Holds canceled.")?,
            expired: counter(
                "flashsale_reservations_expired_total",
                "Holds expired by this process: reclaimed by a reserve, or by an admin's sweep.",
            )?,
        })))
    }

    /// Size and duration of a verb's batches.
    pub(crate) fn batches(&self, verb: &str) -> (Histogram, Histogram) {
        (
            self.batch_requests.with_label_values(&[verb]),
            self.batch_seconds.with_label_values(&[verb]),
        )
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// Counts and times each request under its route, so that ids in paths make no new series.
///
/// A service of its own: `middleware::from_fn` boxes a future and clones the routes for every request.
#[derive(Clone)]
pub(crate) struct Record(pub(crate) Metrics);

impl<S> Layer<S> for Record {
    type Service = Recorded<S>;

    fn layer(&self, inner: S) -> Recorded<S> {
        let metrics = self.0.clone();
        Recorded { inner, metrics }
    }
}

#[derive(Clone)]
pub(crate) struct Recorded<S> {
    inner: S,
    metrics: Metrics,
}

impl<S> Service<Request> for Recorded<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Recording<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // A method can be any token: a client must not make series of its own.
        let method = match request.method().as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "HEAD" => "HEAD",
            _ => "other",
        };
        Recording {
            method,
            route: request.extensions().get().cloned(),
            metrics: self.metrics.clone(),
            started: Instant::now(),
            answer: self.inner.call(request),
        }
    }
}

pin_project! {
    pub(crate) struct Recording<F> {
        method: &'static str,
        route: Option<MatchedPath>,
        metrics: Metrics,
        started: Instant,
        #[pin]
        answer: F,
    }
}

impl<F, E> Future for Recording<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(context));
        if let Ok(response) = &answer {
            let route = this.route.as_ref().map_or("unmatched", MatchedPath::as_str);
            let (method, metrics) = (*this.method, this.metrics);
            metrics
                .requests
                .with_label_values(&[method, route, response.status().as_str()])
                .inc();
            metrics
                .request_seconds
                .with_label_values(&[method, route])
                .observe(this.started.elapsed().as_secs_f64());
        }
        Poll::Ready(answer)
    }
}
