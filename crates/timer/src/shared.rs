//! State that the handles, the writer and the listeners share.

use std::{
    fmt::Display,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use prometheus::{
    Histogram, IntCounter, IntCounterVec, Registry, register_histogram_with_registry,
    register_int_counter_vec_with_registry, register_int_counter_with_registry,
};
use redis::{RedisError, aio::MultiplexedConnection};
use runtime::{Process, lock};
use tokio::sync::Notify;

use crate::{
    queue::{Keys, Queue},
    servers::Servers,
};

/// State that the handles, the writer and the listeners share.
pub(crate) struct Shared {
    pub(crate) servers: Servers,
    pub(crate) keys: Keys,
    pub(crate) metrics: Metrics,
    pub(crate) process: Process,
    pub(crate) queue: Mutex<Queue>,
    /// Tells the writer that the queue is not empty.
    pub(crate) queued: Notify,
    /// The same, for notes that must be sent at once.
    pub(crate) urgent: Notify,
    /// Whether commands are being dropped. An outage is logged only once.
    dropping: AtomicBool,
    /// The writer's connection while it has one. Reads use it as well.
    pub(crate) connection: Mutex<Option<MultiplexedConnection>>,
}

impl Shared {
    pub(crate) fn new(servers: Servers, keys: Keys, process: &Process) -> prometheus::Result<Self> {
        Ok(Self {
            servers,
            keys,
            metrics: Metrics::register(&process.registry)?,
            process: process.clone(),
            queue: Mutex::default(),
            queued: Notify::new(),
            urgent: Notify::new(),
            dropping: AtomicBool::new(false),
            connection: Mutex::default(),
        })
    }

    /// The error of a connection, with the addresses of the servers.
    pub(crate) fn at_address(&self, error: &RedisError) -> String {
        format!("{}: {error}", self.servers.addresses())
    }

    /// Counts commands that will not be sent. Logs the first ones, and then none until `recovered`.
    pub(crate) fn dropped(&self, commands: u64, reason: &dyn Display) {
        self.metrics.dropped.inc_by(commands);
        if !self.dropping.swap(true, Relaxed) {
            tracing::warn!(%reason, "Redis does not accept all timers and counters: holds still expire by sweeps");
        }
    }

    /// Call this after a success. While timers still wait, the outage does not count as over: a queue that is full
    /// again and again must not fill the log.
    pub(crate) fn recovered(&self) {
        if lock(&self.queue).timers() == 0 && self.dropping.swap(false, Relaxed) {
            tracing::info!("Redis accepts timers and counters again");
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
        Ok(Self {
            dropped: register_int_counter_with_registry!(
                "flashsale_redis_commands_dropped_total",
                "Timer and counter commands that were not sent to Redis.",
                registry
            )?,
            reconnects: register_int_counter_vec_with_registry!(
                "flashsale_redis_reconnects_total",
                "Connections to Redis made again after one was lost.",
                &["purpose"],
                registry
            )?,
            pipeline: register_histogram_with_registry!(
                "flashsale_redis_pipeline_commands",
                "Commands sent to Redis in one round trip.",
                vec![1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0],
                registry
            )?,
        })
    }
}
