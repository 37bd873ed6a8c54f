//! The metrics of the API on `/metrics`.

use std::time::Duration;

use inventory::transition::{Change, Transition};
use live::Activity;
use presence::{Counts, Durations};
use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, Registry, core::Metric as _,
    exponential_buckets, register_histogram_vec_with_registry,
    register_int_counter_vec_with_registry, register_int_counter_with_registry,
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
    reserve_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let problems = register_int_counter_vec_with_registry!(
            "flashsale_problems_total",
            "Requests answered with a problem, by its code.",
            &["code"],
            registry
        )?;
        let latency = exponential_buckets(0.0005, 2.0, 14)?;
        let request_seconds = register_histogram_vec_with_registry!(
            "http_request_duration_seconds",
            "Time from request to response.",
            &["method", "route"],
            latency.clone(),
            registry
        )?;
        Ok(Self {
            requests: register_int_counter_vec_with_registry!(
                "http_requests_total",
                "Requests answered.",
                &["method", "route", "status"],
                registry
            )?,
            // Every counter starts at 0. If a series started with its first event, a rate would not show that event.
            problems: ProblemCode::ALL
                .iter()
                .map(|code| problems.with_label_values(&[code.spec().code]))
                .collect(),
            reserve_seconds: request_seconds.with_label_values(&["POST", "/reservations"]),
            request_seconds,
            batch_requests: register_histogram_vec_with_registry!(
                "flashsale_batch_requests",
                "Requests in one batch.",
                &["verb"],
                exponential_buckets(1.0, 2.0, 12)?,
                registry
            )?,
            batch_seconds: register_histogram_vec_with_registry!(
                "flashsale_batch_duration_seconds",
                "Time of one batch.",
                &["verb"],
                latency,
                registry
            )?,
            client_requests: register_int_counter_vec_with_registry!(
                "flashsale_client_requests_total",
                "Requests with an API key, by the name of its client.",
                &["client"],
                registry
            )?,
            created: register_int_counter_with_registry!(
                "flashsale_reservations_created_total",
                "Holds created.",
                registry
            )?,
            confirmed: register_int_counter_with_registry!(
                "flashsale_reservations_confirmed_total",
                "Holds confirmed.",
                registry
            )?,
            canceled: register_int_counter_with_registry!(
                "flashsale_reservations_canceled_total",
                "Holds canceled.",
                registry
            )?,
            expired: register_int_counter_with_registry!(
                "flashsale_reservations_expired_total",
                "Holds expired by this process: reclaimed by a reserve, or by an admin's sweep.",
                registry
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
            Transition::Offered(count) => self.created.inc_by(count),
            Transition::Of(Change::Reserved, _) => self.created.inc(),
            Transition::Of(Change::Confirmed, _) => self.confirmed.inc(),
            Transition::Of(Change::Reacquired, _) => {
                self.created.inc();
                self.confirmed.inc();
            }
            Transition::Of(Change::Canceled, _) => self.canceled.inc(),
            Transition::Of(Change::Extended | Change::Returned | Change::Repeated, _)
            | Transition::StockAdjusted => {}
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
            reserve_times: durations(&self.reserve_seconds),
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

/// Prometheus counts each request in every bucket whose limit it does not exceed. The report counts it once.
fn durations(histogram: &Histogram) -> Durations {
    let metric = histogram.metric();
    let told = metric.get_histogram();
    let mut counted = 0;
    let buckets = told.get_bucket().iter().map(|bucket| {
        let new = bucket.cumulative_count().saturating_sub(counted);
        counted += new;
        (bucket.upper_bound(), new)
    });
    let buckets = buckets.collect();
    Durations {
        buckets,
        longer: told.get_sample_count().saturating_sub(counted),
    }
}
