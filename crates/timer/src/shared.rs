//! What the handles, the writer and the listeners have in common.

use std::{
    fmt::Display,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};
use redis::{Client, aio::MultiplexedConnection};
use runtime::{Process, lock};
use tokio::sync::Notify;

use crate::queue::{Keys, Queue};

/// What the handles, the writer and the listeners have in common.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) keys: Keys,
    pub(crate) metrics: Metrics,
    pub(crate) process: Process,
    pub(crate) queue: Mutex<Queue>,
    /// Tells the writer that something is queued.
    pub(crate) queued: Notify,
    /// Whether commands are being dropped, so that an outage is one line in the log.
    dropping: AtomicBool,
    /// The writer's connection while it has one, for asking whether Redis answers.
    pub(crate) connection: Mutex<Option<MultiplexedConnection>>,
}

impl Shared {
    pub(crate) fn new(client: Client, keys: Keys, process: &Process) -> prometheus::Result<Self> {
        Ok(Self {
            client,
            keys,
            metrics: Metrics::register(&process.registry)?,
            process: process.clone(),
            queue: Mutex::default(),
            queued: Notify::new(),
            dropping: AtomicBool::new(false),
            connection: Mutex::default(),
        })
    }

    /// Counts commands that will not be sent, and says so once until `recovered`.
    pub(crate) fn dropped(&self, commands: u64, reason: &dyn Display) {
        self.metrics.dropped.inc_by(commands);
        if !self.dropping.swap(true, Relaxed) {
            tracing::warn!(%reason, "Redis cannot take every timer and counter: holds still expire, by sweeps");
        }
    }

    /// Call after a success. With timers still waiting it is too early to tell: a queue that is full
    /// now and then must not fill the log.
    pub(crate) fn recovered(&self) {
        if lock(&self.queue).timers() == 0 && self.dropping.swap(false, Relaxed) {
            tracing::info!("Redis takes timers and counters again");
        }
    }
}

pub(crate) struct Metrics {
    dropped: IntCounter,
    pub(crate) reconnects: IntCounterVec,
    pub(crate) pipeline: Histogram,
}

impl Metrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let dropped = IntCounter::new(
            "flashsale_redis_commands_dropped_total",
            "Timer and counter commands that Redis did not take.",
        )?;
        let reconnects = IntCounterVec::new(
            Opts::new(
                "flashsale_redis_reconnects_total",
                "Connections to Redis made again after one was lost.",
            ),
            &["purpose"],
        )?;
        let pipeline = Histogram::with_opts(
            HistogramOpts::new(
                "flashsale_redis_pipeline_commands",
                "Commands sent to Redis in one round trip.",
            )
            .buckets(vec![1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0]),
        )?;
        registry.register(Box::new(dropped.clone()))?;
        registry.register(Box::new(reconnects.clone()))?;
        registry.register(Box::new(pipeline.clone()))?;
        Ok(Self {
            dropped,
            reconnects,
            pipeline,
        })
    }
}
