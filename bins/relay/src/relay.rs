//! The loop: claim, publish, mark; and what happens when one side is away.

use std::{
    fmt::Display,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use inventory::{Error, outbox};
use runtime::retry::Delays;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use timer::Wakeups;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    publish::{Broker, Fate, Message, Publisher},
};

/// A broker or database that is away is left alone for at most about this long.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Pause after a batch of which nothing could be delivered: the next one will hardly fare better, and
/// each writes its rows anew.
const UNDELIVERABLE_PAUSE: Duration = Duration::from_secs(1);

/// What all workers share.
pub struct Relay {
    pub(crate) pool: PgPool,
    pub(crate) metrics: Metrics,
    pub(crate) rabbitmq: Condition,
    pub(crate) postgres: Condition,
    routing: Condition,
    broker: Broker,
    settings: Settings,
}

pub struct Settings {
    pub batch_rows: u32,
    pub max_attempts: u32,
    pub poll: Duration,
}

/// What one transaction did.
#[derive(Debug, Default)]
pub struct Batch {
    pub claimed: usize,
    pub published: usize,
    pub returned: usize,
    pub refused: usize,
    /// Why the rest is unpublished: the broker is away, or silent.
    pub broker_error: Option<anyhow::Error>,
}

impl Relay {
    /// Fails only if `registry` has these metrics already.
    pub fn new(
        pool: PgPool,
        broker: Broker,
        settings: Settings,
        registry: &prometheus::Registry,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            pool,
            metrics: Metrics::register(registry)?,
            rabbitmq: Condition::bad("RabbitMQ"),
            postgres: Condition::good("PostgreSQL"),
            routing: Condition::good("routing"),
            broker,
            settings,
        })
    }

    /// Relays until `shutdown`, whatever is away meanwhile. Several workers, in one process or many, share
    /// the rows: each has a connection, a channel and a transaction of its own.
    pub async fn run(&self, wakeups: &Wakeups, shutdown: &CancellationToken) {
        let mut delays = Delays::up_to(RETRY_MAX);
        let mut connected_before = false;
        while !shutdown.is_cancelled() {
            // Nothing is claimed before there is somebody to publish to.
            let Some(connected) = shutdown.run_until_cancelled(self.broker.connect()).await else { return };
            match connected {
                Ok(mut publisher) => {
                    self.rabbitmq.works();
                    self.metrics.reconnects.inc_by(u64::from(connected_before));
                    connected_before = true;
                    self.drain(&mut publisher, &mut delays, wakeups, shutdown).await;
                    shutdown.run_until_cancelled(publisher.unblocked()).await;
                    if publisher.is_usable() {
                        publisher.close().await;
                    }
                }
                Err(error) => {
                    self.metrics.errors.with_label_values(&["rabbitmq"]).inc();
                    self.rabbitmq.fails(format_args!("{error:#}"));
                }
            }
            shutdown.run_until_cancelled(sleep(delays.next_delay())).await;
        }
    }

    /// Publishes batch after batch until `shutdown`, or until the publisher is of no more use.
    async fn drain(
        &self,
        publisher: &mut Publisher,
        delays: &mut Delays,
        wakeups: &Wakeups,
        shutdown: &CancellationToken,
    ) {
        let most = self.settings.batch_rows;
        let mut batch_rows = most;
        while !shutdown.is_cancelled() && publisher.is_usable() {
            // Not raced against the shutdown: a batch in flight is finished.
            let pause = match self.run_once(publisher, batch_rows).await {
                Ok(Batch { broker_error: Some(error), .. }) => {
                    self.metrics.errors.with_label_values(&["rabbitmq"]).inc();
                    self.rabbitmq.fails(format_args!("{error:#}"));
                    // A broker that is merely slow confirms a smaller batch in time.
                    batch_rows = (batch_rows / 2).max(1);
                    Some(delays.next_delay())
                }
                Ok(batch) => {
                    self.postgres.works();
                    let full = batch.claimed >= batch_rows as usize;
                    batch_rows = most.min(batch_rows.saturating_mul(2));
                    if batch.claimed > 0 {
                        delays.reset();
                    }
                    match batch {
                        Batch { published: 0, claimed: 1.., .. } => Some(UNDELIVERABLE_PAUSE),
                        _ if full => Some(Duration::ZERO),
                        _ => None,
                    }
                }
                Err(error) => {
                    self.metrics.errors.with_label_values(&["postgres"]).inc();
                    self.postgres.fails(format_args!("{:#}", anyhow::Error::new(error)));
                    Some(delays.next_delay())
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sleep(pause.unwrap_or(self.settings.poll)), if pause != Some(Duration::ZERO) => {}
                () = wakeups.next(), if pause.is_none() => {}
                else => {}
            }
        }
    }

    /// One transaction: claims up to `max_rows` rows, publishes them, and marks what became of each.
    pub async fn run_once(&self, publisher: &mut Publisher, max_rows: u32) -> Result<Batch, Error> {
        let mut connection = self.pool.acquire().await?;
        let once = self.relay_batch(&mut connection, publisher, max_rows);
        match timeout(outbox::TRANSACTION_LIMIT, once).await {
            Ok(batch) => batch,
            Err(_) => {
                // Half-open, or PostgreSQL hangs. The pool would wait for the answer that does not come.
                drop(connection.detach());
                Err(sqlx::Error::PoolTimedOut.into())
            }
        }
    }
}
