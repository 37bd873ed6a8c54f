//! The metrics of the API on `/metrics`.

use std::time::Duration;

use inventory::transition::{Change, Transition};
use live::Activity;
use presence::Counts;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
    core::Collector, exponential_buckets,
};

use crate::code::ProblemCode;

pub(crate) struct Metrics {
    requests: IntCounterVec,
    /// One counter per problem code, in the order of the table.
    problems: Vec<IntCounter>,
    request_seconds: HistogramVec,
    batch_requests: HistogramVec,
    batch_seconds: HistogramVec,
    client_requests: IntCounterVec,
    created: IntCounter,
    confirmed: IntCounter,
    canceled: IntCounter,
    expired: IntCounter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(name, help)?);
        let problems = register(
            registry,
            IntCounterVec::new(
                Opts::new(
                    "flashsale_problems_total",
                    "Requests answered with a problem, by its code.",
                ),
                &["code"],
            )?,
        )?;
        let latency = exponential_buckets(0.0005, 2.0, 14)?;
        Ok(Self {
            requests: register(
                registry,
                IntCounterVec::new(
                    Opts::new("http_requests_total", "Requests answered."),
                    &["method", "route", "status"],
                )?,
            )?,
            // Every counter starts at 0. If a series started with its first event, a rate would not show that event.
            problems: ProblemCode::ALL
                .iter()
                .map(|code| problems.with_label_values(&[code.spec().code]))
                .collect(),
            request_seconds: register(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "http_request_duration_seconds",
                        "Time from request to response.",
                    )
                    .buckets(latency.clone()),
                    &["method", "route"],
                )?,
            )?,
            batch_requests: register(
                registry,
                HistogramVec::new(
                    HistogramOpts::new("flashsale_batch_requests", "Requests in one batch.")
                        .buckets(exponential_buckets(1.0, 2.0, 12)?),
                    &["verb"],
                )?,
            )?,
            batch_seconds: register(
                registry,
                HistogramVec::new(
                    HistogramOpts::new("flashsale_batch_duration_seconds", "Time of one batch.")
                        .buckets(latency),
                    &["verb"],
                )?,
            )?,
            client_requests: register(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "flashsale_client_requests_total",
                        "Requests with an API key, by the name of its client.",
                    ),
                    &["client"],
                )?,
            )?,
            created: counter("flashsale_reservations_created_total", "Holds created.")?,
            confirmed: counter("flashsale_reservations_confirmed_total", "Holds confirmed.")?,
            canceled: counter("flashsale_reservations_canceled_total", "Holds canceled.")?,
            expired: counter(
                "flashsale_reservations_expired_total",
                "Holds expired by this process: reclaimed by a reserve, or by an admin's sweep.",
            )?,
        })
    }

    /// The counter of requests by client.
    pub(crate) fn client_requests(&self) -> IntCounterVec {
        self.client_requests.clone()
    }

    pub(crate) fn answered(&self, method: &str, route: &str, status: &str, took: Duration) {
        self.requests
            .with_label_values(&[method, route, status])
            .inc();
        self.request_seconds
            .with_label_values(&[method, route])
            .observe(took.as_secs_f64());
    }

    /// Counts a transition of a committed call.
    pub(crate) fn count(&self, transition: Transition<'_>) {
        match transition {
            Transition::Expired(count) => self.expired.inc_by(count),
            Transition::Of(Change::Reserved, _) => self.created.inc(),
            Transition::Of(Change::Confirmed, _) => self.confirmed.inc(),
            Transition::Of(Change::Reacquired, _) => {
                self.created.inc();
                self.confirmed.inc();
            }
            Transition::Of(Change::Canceled, _) => self.canceled.inc(),
            Transition::Of(Change::Extended | Change::Returned | Change::Repeated, _) => {}
        }
    }

    /// The counters of this process for the live page.
    pub(crate) fn activity(&self) -> Activity {
        let problems = ProblemCode::ALL.iter().zip(&self.problems);
        let problems = problems.map(|(code, count)| (code.spec().code.to_owned(), count.get()));
        Activity {
            counts: Counts {
                reserved: self.created.get(),
                confirmed: self.confirmed.get(),
                canceled: self.canceled.get(),
                expired: self.expired.get(),
                published: 0,
            },
            problems: problems.filter(|(_, count)| *count > 0).collect(),
        }
    }

    pub(crate) fn refused(&self, code: ProblemCode) {
        self.problems[code as usize].inc();
    }

    /// The histograms of size and duration of a verb's batches.
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
