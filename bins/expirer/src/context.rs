//! What the sweeps and the waits for locked products need, and where they report what they have done.

use std::sync::Arc;

use inventory::{event::Events, expire::Expired};
use presence::{Counts, Feed, Report};
use prometheus::{
    Gauge, Histogram, IntCounter, Registry, register_gauge_with_registry,
    register_histogram_with_registry, register_int_counter_with_registry,
};
use sqlx::PgPool;
use timer::{Counter, Notes, Timer};

/// The dependencies of a sweep.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) pool: PgPool,
    pub(crate) timer: Timer,
    pub(crate) batch_rows: i32,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
    pub(crate) feed: Arc<Feed>,
}

impl Context {
    /// `batch_rows` is the maximum number of holds in one transaction, `events` the types of events to write. Fails
    /// only if `registry` already has these metrics.
    pub(crate) fn new(
        pool: PgPool,
        timer: Timer,
        batch_rows: i32,
        events: Events,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let metrics = Metrics::register(registry)?;
        Ok(Self {
            pool,
            timer,
            batch_rows,
            events,
            metrics,
            feed: Arc::default(),
        })
    }

    /// Reports what a transaction has done.
    pub(crate) fn tell(&self, done: Expired) {
        self.metrics.batches.inc();
        self.metrics.expired.inc_by(done.expired);
        self.metrics.offered.inc_by(done.offered);
        self.timer.note(|notes: &mut Notes<'_>| {
            notes.count(Counter::Expired, done.expired);
            notes.count(Counter::Created, done.offered);
            if done.transitions().any(|it| it.has_event(&self.events)) {
                notes.wake_relay();
            }
        });
        self.feed.note(done.transitions());
    }

    /// Content of `/health` and `/readyz`.
    pub(crate) async fn report(&self) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            counts: Counts {
                expired: self.metrics.expired.get(),
                reserved: self.metrics.offered.get(),
                ..Counts::default()
            },
            reaches: [("redis".to_owned(), self.timer.is_up().await)].into(),
            events: Some(self.events.names()),
            recent: self.feed.report(),
            ..Report::default()
        }
    }
}

#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) expired: IntCounter,
    pub(crate) offered: IntCounter,
    pub(crate) batches: IntCounter,
    pub(crate) errors: IntCounter,
    pub(crate) keys_purged: IntCounter,
    pub(crate) sweep_seconds: Histogram,
    pub(crate) lag_seconds: Gauge,
}

impl Metrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            expired: register_int_counter_with_registry!(
                "flashsale_reservations_expired_total",
                "Holds that this process expired.",
                registry
            )?,
            offered: register_int_counter_with_registry!(
                "flashsale_waitlist_offered_total",
                "Holds that this process offered to users who waited for units.",
                registry
            )?,
            batches: register_int_counter_with_registry!(
                "flashsale_expiry_batches_total",
                "Transactions that expired holds of one product.",
                registry
            )?,
            errors: register_int_counter_with_registry!(
                "flashsale_expiry_errors_total",
                "Sweeps that failed in PostgreSQL.",
                registry
            )?,
            keys_purged: register_int_counter_with_registry!(
                "flashsale_idempotency_keys_purged_total",
                "Idempotency keys that were deleted.",
                registry
            )?,
            sweep_seconds: register_histogram_with_registry!(
                "flashsale_expiry_sweep_seconds",
                "Duration of a sweep, from the search for due holds to the last batch.",
                registry
            )?,
            lag_seconds: register_gauge_with_registry!(
                "flashsale_expiry_lag_seconds",
                "How long the oldest due hold has been due. Keeps growing while it cannot be read.",
                registry
            )?,
        })
    }
}
