//! The loop: claim, publish, mark. Also handles outages of the broker and the database.

use std::{io, sync::Mutex, time::Duration};

use anyhow::anyhow;
use inventory::{
    Error,
    outbox::{self, Claimed},
};
use runtime::{lock, retry::Delays};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use timer::Wakeups;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    metrics::Metrics,
    publish::{Broker, EXCHANGE, Fate, Message, Publisher},
};

/// Maximum delay between attempts to reach the broker or the database.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Pause after a batch without any delivery. The next batch would probably fail, too, and each one writes new
/// versions of its rows.
const UNDELIVERABLE_PAUSE: Duration = Duration::from_secs(1);

/// Pause after a batch that had this many rows but was not full. At such a rate, larger transactions halve the cost
/// per event in PostgreSQL, RabbitMQ and this process, and the added delay is negligible.
const GATHER: Duration = Duration::from_millis(10);
const GATHER_FROM_ROWS: usize = 16;

/// State that all workers share.
pub struct Relay {
    pub(crate) pool: PgPool,
    pub(crate) metrics: Metrics,
    pub(crate) rabbitmq: DependencyStatus,
    pub(crate) postgres: DependencyStatus,
    routing: DependencyStatus,
    queues: DependencyStatus,
    broker: Broker,
    settings: Settings,
}

pub struct Settings {
    pub batch_rows: u32,
    pub max_attempts: i32,
    pub poll: Duration,
}

/// Result of one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    pub claimed: usize,
    pub published: usize,
    pub returned: usize,
    pub turned_away: usize,
    pub refused: usize,
    /// Why the rest is unpublished: the broker is down or does not answer.
    pub broker_error: Option<anyhow::Error>,
}

/// How fast a worker publishes.
struct Pace {
    delays: Delays,
    /// Halved when confirms are missing: a slow broker can confirm a smaller batch in time.
    batch_rows: u32,
}

impl Relay {
    /// Fails only if `registry` already has these metrics.
    pub fn new(
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
    /// workers, in one process or many, share the rows: each has its own connection, channel and transaction.
    pub async fn run(
        &self,
        wakeups: &Wakeups,
        usable: impl Future<Output = ()> + Clone,
        shutdown: &CancellationToken,
    ) {
        let mut pace = Pace {
            delays: Delays::up_to(RETRY_MAX),
            batch_rows: self.settings.batch_rows,
        };
        let mut connected_before = false;
        while !shutdown.is_cancelled() {
            // Nothing is claimed without a connection to the broker.
            let Some(connected) = shutdown.run_until_cancelled(self.broker.connect()).await else {
                return;
            };
            match connected {
                Ok(mut publisher) => {
                    self.rabbitmq.works();
                    self.metrics.reconnects.inc_by(u64::from(connected_before));
                    connected_before = true;
                    // Only now, so that the log and `/readyz` already know whether RabbitMQ can be reached.
                    let usable = shutdown.run_until_cancelled(usable.clone());
                    if usable.await.is_some() {
                        self.drain(&mut publisher, &mut pace, wakeups, shutdown)
                            .await;
                    }
                    shutdown.run_until_cancelled(publisher.unblocked()).await;
                    if publisher.is_usable() {
                        publisher.close().await;
                    }
                }
                Err(error) => self.broker_failed(&error),
            }
            shutdown
                .run_until_cancelled(sleep(pace.delays.next_delay()))
                .await;
        }
    }

    /// Publishes batch after batch until `shutdown`, or until the publisher cannot be used any more.
    async fn drain(
        &self,
        publisher: &mut Publisher,
        pace: &mut Pace,
        wakeups: &Wakeups,
        shutdown: &CancellationToken,
    ) {
        let mut database_delays = Delays::up_to(RETRY_MAX);
        while !shutdown.is_cancelled() && publisher.is_usable() {
            // Not cancelled by the shutdown: a batch in flight is finished.
            let pause = match self.run_once(publisher, pace.batch_rows).await {
                Ok(batch) => {
                    self.postgres.works();
                    database_delays.reset();
                    if batch.returned > 0
                        && let Err(error) = publisher.declare().await
                    {
                        self.broker_failed(&error);
                    }
                    if let Some(error) = &batch.broker_error {
                        self.broker_failed(error);
                        pace.batch_rows = (pace.batch_rows / 2).max(1);
                        return;
                    }
                    let full = batch.claimed == pace.batch_rows as usize;
                    if batch.published > 0 {
                        pace.delays.reset();
                        pace.batch_rows = (pace.batch_rows * 2).min(self.settings.batch_rows);
                    }
                    match batch {
                        Batch { claimed: 0, .. } => None,
                        Batch { published: 0, .. } => Some(UNDELIVERABLE_PAUSE),
                        _ if full => continue,
                        Batch { claimed, .. } if claimed >= GATHER_FROM_ROWS => Some(GATHER),
                        _ => None,
                    }
                }
                Err(error) => {
                    self.metrics.errors.with_label_values(&["postgres"]).inc();
                    self.postgres.fails(&error.into());
                    Some(database_delays.next_delay())
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sleep(pause.unwrap_or(self.settings.poll)) => {}
                () = wakeups.next(), if pause.is_none() => {}
            }
        }
    }

    /// Runs one transaction: claims up to `max_rows` rows, publishes them, and records the outcome of each.
    pub async fn run_once(&self, publisher: &mut Publisher, max_rows: u32) -> Result<Batch, Error> {
        let mut connection = self.pool.acquire().await.map_err(Error::NotDone)?;
        let once = self.relay_batch(&mut connection, publisher, max_rows);
        match timeout(outbox::TRANSACTION_LIMIT, once).await {
            Ok(batch) => batch,
            Err(_) => {
                // PostgreSQL does not answer. A connection with an outstanding answer would block the pool.
                drop(connection.detach());
                Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()).into())
            }
        }
    }

    async fn relay_batch(
        &self,
        connection: &mut PgConnection,
        publisher: &mut Publisher,
        max_rows: u32,
    ) -> Result<Batch, Error> {
        let began = Instant::now();
        let mut transaction = outbox::begin(connection).await?;
        let rows = outbox::claim(&mut transaction, max_rows.into()).await?;
        if rows.is_empty() {
            transaction.rollback().await?;
            return Ok(Batch::default());
        }
        let (sent, messages, unreadable) = messages(&rows);
        let (fates, result) = publisher
            .publish(&messages, began + outbox::PUBLISH_LIMIT)
            .await;
        let met = |fate| {
            sent.iter()
                .zip(&fates)
                .filter(move |(_, met)| **met == fate)
                .map(|(row, _)| *row)
        };
        let ids = |fate| -> Vec<i64> { met(fate).map(|row| row.id).collect() };
        let (published, returned) = (ids(Fate::Acked), ids(Fate::Returned));
        let turned_away = ids(Fate::QueueRejected);
        let refused: Vec<_> = met(Fate::Refused)
            .map(|row| (row.id, "refused by the broker, alone".to_owned()))
            .collect();
        if !published.is_empty() {
            outbox::publish(&mut transaction, &published).await?;
        }
        for (ids, why) in [
            (&returned, "unroutable: no queue is bound"),
            (&turned_away, "refused by the broker, and not alone"),
        ] {
            if !ids.is_empty() {
                outbox::back_off(&mut transaction, ids, why).await?;
            }
        }
        let mut dead = Vec::new();
        if !refused.is_empty() {
            dead = outbox::refuse(&mut transaction, &refused, self.settings.max_attempts).await?;
        }
        if !unreadable.is_empty() {
            // A retry cannot help.
            dead.append(&mut outbox::refuse(&mut transaction, &unreadable, 1).await?);
        }
        transaction.commit().await?;

        let now = OffsetDateTime::now_utc();
        for row in met(Fate::Acked) {
            self.metrics
                .latency_seconds
                .observe((now - row.created_at).as_seconds_f64().max(0.0));
        }
        let batch = Batch {
            claimed: rows.len(),
            published: published.len(),
            returned: returned.len(),
            turned_away: turned_away.len(),
            refused: refused.len() + unreadable.len(),
            broker_error: result.err(),
        };
        self.metrics
            .batch_seconds
            .observe(began.elapsed().as_secs_f64());
        self.tell(&batch, &dead);
        Ok(batch)
    }

    fn tell(&self, batch: &Batch, dead: &[Uuid]) {
        self.metrics.batch_events.observe(batch.claimed as f64);
        self.metrics.published.inc_by(batch.published as u64);
        self.metrics.returned.inc_by(batch.returned as u64);
        self.metrics
            .refused
            .inc_by((batch.turned_away + batch.refused) as u64);
        if batch.returned > 0 {
            self.routing.fails(&anyhow!(
                "no queue is bound to {EXCHANGE} for some events: they are kept and retried"
            ));
        } else if batch.published > 0 {
            self.routing.works();
        }
        if batch.turned_away > 0 {
            self.queues.fails(&anyhow!(
                "RabbitMQ refuses events, and not one alone: a queue bound to {EXCHANGE} is full or unavailable. The \
                 events are kept and retried"
            ));
        } else if batch.published > 0 {
            self.queues.works();
        }
        if !dead.is_empty() {
            tracing::error!(events = ?dead, "these events are dead letters: they are kept, and not retried until they are requeued");
        }
    }

    fn broker_failed(&self, error: &anyhow::Error) {
        self.metrics.errors.with_label_values(&["rabbitmq"]).inc();
        self.rabbitmq.fails(error);
    }
}

/// The rows that can be sent, their messages, and why the others cannot be sent.
fn messages(rows: &[Claimed]) -> (Vec<&Claimed>, Vec<Message>, Vec<(i64, String)>) {
    let (mut sent, mut messages, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        match Message::new(row) {
            Ok(message) => {
                sent.push(row);
                messages.push(message);
            }
            Err(error) => unreadable.push((row.id, format!("cannot be read: {error}"))),
        }
    }
    (sent, messages, unreadable)
}

/// Whether a dependency works. Each change is logged once.
pub(crate) struct DependencyStatus {
    what: &'static str,
    /// Why it does not work.
    error: Mutex<Option<String>>,
}

impl DependencyStatus {
    fn good(what: &'static str) -> Self {
        Self {
            what,
            error: Mutex::new(None),
        }
    }

    fn bad(what: &'static str) -> Self {
        Self {
            what,
            error: Mutex::new(Some(String::new())),
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        lock(&self.error).is_none()
    }

    fn works(&self) {
        if lock(&self.error).take().is_some() {
            tracing::info!("{}: works", self.what);
        }
    }

    fn fails(&self, error: &anyhow::Error) {
        let mut text = String::new();
        for cause in error.chain().map(ToString::to_string) {
            // lapin and sqlx repeat the source of an error in its own text.
            if !text.ends_with(&cause) {
                text = if text.is_empty() {
                    cause
                } else {
                    format!("{text}: {cause}")
                };
            }
        }
        let mut known = lock(&self.error);
        if known.as_ref() != Some(&text) {
            tracing::error!("{}: {text}", self.what);
            *known = Some(text);
        }
    }
}
