//! The state that all workers of the process share, and the connections of one worker.

use std::time::Duration;

use anyhow::anyhow;
use sqlx::PgPool;
use timer::Wakeups;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    dependency::DependencyStatus,
    metrics::Metrics,
    publish::{Broker, Dialing, EXCHANGE, Publisher},
    record::Recorded,
    worker::{Pace, Worker},
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

    /// Relays until `shutdown`, through all outages. Starts when `usable` says that the database can be used. Several
    /// workers, in one process or many, share the rows: each has its own connection, channel and transactions.
    pub(crate) async fn run(
        &self,
        wakeups: &Wakeups,
        usable: impl Future<Output = ()> + Clone,
        shutdown: &CancellationToken,
    ) {
        let mut pace = Pace::new(self.settings.batch_rows);
        let mut dialing = Dialing::new(&self.broker);
        let mut connected_before = false;
        while !shutdown.is_cancelled() {
            // Nothing is claimed without a connection to the broker.
            let Some(connected) = shutdown.run_until_cancelled(dialing.attempt()).await else {
                return;
            };
            match connected {
                Ok(publisher) => {
                    self.rabbitmq.works();
                    self.metrics.reconnects.inc_by(u64::from(connected_before));
                    connected_before = true;
                    // Only now, so that the log and `/readyz` already know whether RabbitMQ can be reached.
                    let usable = shutdown.run_until_cancelled(usable.clone());
                    if usable.await.is_some() {
                        self.relay_on(publisher, &mut pace, wakeups, shutdown).await;
                    }
                }
                Err(error) => self.broker_failed(&error),
            }
            shutdown
                .run_until_cancelled(sleep(pace.delays.next_delay()))
                .await;
        }
    }

    /// Relays on one connection, until it is of no more use.
    async fn relay_on(
        &self,
        publisher: Publisher,
        pace: &mut Pace,
        wakeups: &Wakeups,
        shutdown: &CancellationToken,
    ) {
        let mut worker = Worker::new(self, publisher, pace, wakeups);
        loop {
            worker.relay(shutdown).await;
            if shutdown.is_cancelled() || !worker.publisher.only_refuses() {
                break;
            }
            if let Err(error) = worker.publisher.reopen().await {
                self.broker_failed(&error);
                break;
            }
        }
        if worker.publisher.is_usable() {
            worker.publisher.close().await;
        }
    }

    pub(crate) fn tell(&self, recorded: &Recorded) {
        let refused = (recorded.turned_away + recorded.refused) as u64;
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
        if recorded.turned_away > 0 {
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
