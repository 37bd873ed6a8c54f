//! The state that all workers of the process share.

use std::time::Duration;

use anyhow::anyhow;
use sqlx::PgPool;

use crate::{
    dependency::DependencyStatus,
    metrics::Metrics,
    publish::{Broker, EXCHANGE},
    record::Recorded,
};

/// State that all workers share.
pub(crate) struct Relay {
    pub(crate) pool: PgPool,
    pub(crate) metrics: Metrics,
    pub(crate) rabbitmq: DependencyStatus,
    pub(crate) postgres: DependencyStatus,
    pub(crate) broker: Broker,
    pub(crate) settings: Settings,
    routing: DependencyStatus,
    queues: DependencyStatus,
}

pub(crate) struct Settings {
    pub(crate) batch_rows: u32,
    pub(crate) max_attempts: i32,
    pub(crate) poll: Duration,
    /// How long a shutdown waits for confirms.
    pub(crate) linger: Duration,
}

impl Relay {
    /// Fails only if `registry` already has these metrics.
    pub(crate) fn new(
        pool: PgPool,
        broker: Broker,
        settings: Settings,
        registry: &prometheus::Registry,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            pool,
            metrics: Metrics::register(registry)?,
            rabbitmq: DependencyStatus::bad("RabbitMQ"),
            postgres: DependencyStatus::good("PostgreSQL"),
            routing: DependencyStatus::good("routing"),
            queues: DependencyStatus::good("queues"),
            broker,
            settings,
        })
    }

    pub(crate) fn tell(&self, recorded: &Recorded) {
        let refused = (recorded.queue_rejected + recorded.refused) as u64;
        self.metrics.published.inc_by(recorded.published as u64);
        self.metrics.returned.inc_by(recorded.returned as u64);
        self.metrics.refused.inc_by(refused);
        if recorded.returned > 0 {
            self.routing.fails(&anyhow!(
                "no queue is bound to {EXCHANGE} for some events: they are kept and retried"
            ));
        } else if recorded.published > 0 {
            self.routing.works();
        }
        if recorded.queue_rejected > 0 {
            self.queues.fails(&anyhow!(
                "RabbitMQ refuses events, and not one alone: a queue bound to {EXCHANGE} is full or unavailable. The \
                 events are kept and retried"
            ));
        } else if recorded.published > 0 {
            self.queues.works();
        }
        if !recorded.dead.is_empty() {
            tracing::error!(events = ?recorded.dead, "these events are dead letters: they are kept, and not retried until they are requeued");
        }
    }

    pub(crate) fn broker_failed(&self, error: &anyhow::Error) {
        self.metrics.errors.with_label_values(&["rabbitmq"]).inc();
        self.rabbitmq.fails(error);
    }

    pub(crate) fn postgres_failed(&self, error: inventory::Error) {
        self.metrics.errors.with_label_values(&["postgres"]).inc();
        self.postgres.fails(&error.into());
    }
}
