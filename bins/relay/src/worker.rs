//! The loop: claim, publish, record.
//!
//! Usually one transaction claims rows, waits for their confirms, and records them. If confirms take longer, the
//! transaction gives the rows a lease and ends. The worker goes on with other rows, records late outcomes in
//! transactions of their own, and renews the leases while it waits. A relay that crashes delays its rows until their
//! lease ends.

use std::time::Duration;

use anyhow::anyhow;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, pending},
};
use inventory::{
    Error,
    database::with_timeout,
    outbox::{self, Claimed},
};
use runtime::retry::Delays;
use sqlx::PgConnection;
use time::OffsetDateTime;
use timer::Wakeups;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    confirms::{Fate, Tag},
    flight::{Due, Flight, Row, RowOutcome},
    publish::{Message, Publisher, is_alive},
    record::{Recorded, record, record_due},
    relay::Relay,
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

/// How often the relay looks for rows whose time is too far ahead, and how many of them it claims at once. With so few,
/// new events hardly wait, also during a large replay.
const MISDATED_EVERY: Duration = Duration::from_secs(1);
const MISDATED_ROWS: usize = 50;

/// Time without any confirm after which the broker counts as down, and its connection is checked. Doubled after each
/// connection that was given up, because each one costs another copy of the events in flight.
const QUIET_LIMIT: Duration = Duration::from_secs(5);
const QUIET_LIMIT_MAX: Duration = Duration::from_secs(300);

/// How often the state of a blocked connection is checked.
const BLOCKED_POLL: Duration = Duration::from_millis(50);

/// How fast a worker publishes, through all its connections.
pub(crate) struct Pace {
    pub(crate) delays: Delays,
    /// Halved when a connection is lost: if one event is the cause, it will be alone in its batch.
    batch_rows: u32,
    quiet_limit: Duration,
}

impl Pace {
    pub(crate) fn new(batch_rows: u32) -> Self {
        Self {
            delays: Delays::up_to(RETRY_MAX),
            batch_rows,
            quiet_limit: QUIET_LIMIT,
        }
    }
}

/// One connection with its rows in flight.
pub(crate) struct Worker<'a> {
    pub(crate) publisher: Publisher,
    relay: &'a Relay,
    pace: &'a mut Pace,
    wakeups: &'a Wakeups,
    flight: Flight,
    database_delays: Delays,
    /// Nothing is done in the database before this time.
    database_at: Instant,
    /// When rows are claimed next. A notification makes it sooner, unless it is a pause.
    claim_at: Instant,
    is_pause: bool,
    misdated_at: Instant,
    /// Since when messages have been in flight, and no outcome came.
    quiet_since: Instant,
    /// A check whether the connection is alive.
    check: Option<BoxFuture<'a, bool>>,
}

/// Result of a transaction that claims rows.
#[derive(Default)]
struct Batch {
    claimed: usize,
    /// Whether more rows may be ready.
    is_full: bool,
    recorded: Recorded,
    /// The channel is of no more use.
    broker_error: Option<anyhow::Error>,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(
        relay: &'a Relay,
        publisher: Publisher,
        pace: &'a mut Pace,
        wakeups: &'a Wakeups,
    ) -> Self {
        let now = Instant::now();
        Self {
            publisher,
            relay,
            pace,
            wakeups,
            flight: Flight::default(),
            database_delays: Delays::up_to(RETRY_MAX),
            database_at: now,
            claim_at: now,
            is_pause: false,
            misdated_at: now,
            quiet_since: now,
            check: None,
        }
    }

    /// Relays until `shutdown`, or until the channel is of no more use.
    pub(crate) async fn relay(&mut self, shutdown: &CancellationToken) {
        let mut stop_at = None;
        while self.publisher.is_usable() && !self.publisher.only_refuses() {
            if shutdown.is_cancelled() {
                let stop_at = *stop_at.get_or_insert(Instant::now() + self.relay.settings.linger);
                if self.flight.is_empty() || stop_at <= Instant::now() {
                    break;
                }
            }
            if let Err(error) = self.step(shutdown, stop_at).await {
                self.relay.broker_failed(&error);
                self.pace.batch_rows = (self.pace.batch_rows / 2).max(1);
                break;
            }
        }
        self.release().await;
    }

    /// Does what is due, or waits for the next event of any kind. An error says that the channel is of no more use.
    async fn step(
        &mut self,
        shutdown: &CancellationToken,
        stop_at: Option<Instant>,
    ) -> anyhow::Result<()> {
        let now = Instant::now();
        let record_at = self.flight.due_at().map(|at| at.max(self.database_at));
        if record_at.is_some_and(|at| at <= now) {
            let due = self.flight.due(now);
            if let Some(recorded) = self.record_late(&due, outbox::UNCONFIRMED).await {
                self.grow(recorded.published);
            }
            return Ok(());
        }
        let blocked = self.publisher.is_blocked();
        let claims = stop_at.is_none() && !blocked && self.flight.has_room();
        let claim_at = self.claim_at.max(self.database_at);
        if claims && claim_at <= now {
            return self.claim().await;
        }
        let quiet_limit = self.quiet_since + self.pace.quiet_limit;
        let watched = !self.flight.is_empty() && !blocked && self.check.is_none();
        tokio::select! {
            outcomes = self.publisher.outcomes() => self.settle(&outcomes?),
            () = sleep_until(claim_at), if claims => {}
            () = self.wakeups.next(), if claims && !self.is_pause => self.claim_at = Instant::now(),
            () = at(record_at), if record_at.is_some() => {}
            () = at(stop_at), if stop_at.is_some() => {}
            () = shutdown.cancelled(), if stop_at.is_none() => {}
            () = sleep(BLOCKED_POLL), if blocked => {}
            () = sleep_until(quiet_limit), if watched => self.check(),
            alive = checked(&mut self.check), if self.check.is_some() => return self.checked(alive),
        }
        Ok(())
    }

    fn settle(&mut self, outcomes: &[(Tag, Fate)]) {
        self.flight.settle(outcomes);
        self.quiet_since = Instant::now();
        self.check = None;
        self.relay.rabbitmq.works();
    }

    fn check(&mut self) {
        self.relay.broker_failed(&anyhow!(
            "confirms take longer than {} s: the events in flight are kept",
            QUIET_LIMIT.as_secs()
        ));
        let channel = self.publisher.channel();
        self.check = Some(is_alive(channel, &self.relay.broker).boxed());
    }

    fn checked(&mut self, alive: bool) -> anyhow::Result<()> {
        self.check = None;
        self.quiet_since = Instant::now();
        if alive || self.publisher.is_blocked() {
            return Ok(());
        }
        self.pace.quiet_limit = (self.pace.quiet_limit * 2).min(QUIET_LIMIT_MAX);
        Err(anyhow!("the connection is dead: a new one is faster"))
    }

    /// Claims and publishes a batch. Sets the time of the next one.
    async fn claim(&mut self) -> anyhow::Result<()> {
        let pause = match self.claim_batch().await {
            Ok(batch) => {
                self.relay.postgres.works();
                self.database_delays.reset();
                self.relay.tell(&batch.recorded);
                if batch.recorded.returned > 0
                    && let Err(error) = self.publisher.prepare().await
                {
                    self.relay.broker_failed(&error);
                }
                if let Some(error) = batch.broker_error {
                    return Err(error);
                }
                self.grow(batch.recorded.published);
                self.pause_after(&batch)
            }
            Err(error) => {
                self.relay.postgres_failed(error);
                Some(self.database_delays.next_delay())
            }
        };
        self.is_pause = pause.is_some();
        self.claim_at = Instant::now() + pause.unwrap_or(self.relay.settings.poll);
        Ok(())
    }

    /// Events were confirmed, late or not, on a channel that goes on.
    fn grow(&mut self, published: usize) {
        if published > 0 {
            self.pace.delays.reset();
            let doubled = self.pace.batch_rows * 2;
            self.pace.batch_rows = doubled.min(self.relay.settings.batch_rows);
        }
    }

    fn pause_after(&self, batch: &Batch) -> Option<Duration> {
        let recorded = &batch.recorded;
        let failed = recorded.returned + recorded.queue_rejected + recorded.refused;
        if recorded.published == 0 && failed > 0 {
            Some(UNDELIVERABLE_PAUSE)
        } else if batch.is_full {
            Some(Duration::ZERO)
        } else {
            (batch.claimed >= GATHER_FROM_ROWS).then_some(GATHER)
        }
    }

    async fn claim_batch(&mut self) -> Result<Batch, Error> {
        let relay = self.relay;
        let work = async |connection: &mut PgConnection| self.claim_on(connection).await;
        let batch = with_timeout(outbox::TRANSACTION_LIMIT, &relay.pool, work).await;
        // Rows without a lease are not ours after the transaction.
        self.flight.forget_newest();
        batch
    }

    /// One transaction: claims rows, publishes them, and records what became of them so far.
    async fn claim_on(&mut self, connection: &mut PgConnection) -> Result<Batch, Error> {
        let began = Instant::now();
        let max_rows = self.pace.batch_rows;
        let mut transaction = outbox::begin(connection).await?;
        let rows = self.claim_rows(&mut transaction, max_rows).await?;
        if rows.is_empty() {
            transaction.rollback().await?;
            return Ok(Batch::default());
        }
        let unreadable = self.send(&rows);
        let broker_error = self.wait_until(began + outbox::CONFIRM_LIMIT).await.err();
        let (decided, waiting) = self.flight.newest();
        let max_attempts = self.relay.settings.max_attempts;
        let mut recorded = record(&mut transaction, &decided, max_attempts).await?;
        if !unreadable.is_empty() {
            // A retry cannot help.
            let mut dead = outbox::refuse(&mut transaction, &unreadable, 1).await?;
            recorded.dead.append(&mut dead);
            recorded.refused += unreadable.len();
        }
        let mut until = None;
        match &broker_error {
            _ if waiting.is_empty() => {}
            None => {
                until = outbox::lease(
                    &mut transaction,
                    &waiting,
                    outbox::LEASE,
                    outbox::UNCONFIRMED,
                )
                .await?
            }
            Some(error) if self.publisher.lost_only_the_channel() => {
                outbox::back_off(&mut transaction, &waiting, &format!("{error:#}")).await?;
            }
            Some(_) => {}
        }
        transaction.commit().await?;

        if let Some(until) = until {
            self.flight.lease_newest(&decided, until, Instant::now());
        }
        self.observe(&decided);
        let metrics = &self.relay.metrics;
        metrics.batch_events.observe(rows.len() as f64);
        metrics.batch_seconds.observe(began.elapsed().as_secs_f64());
        Ok(Batch {
            claimed: rows.len(),
            is_full: rows.len() == max_rows as usize,
            recorded,
            broker_error,
        })
    }

    async fn claim_rows(
        &mut self,
        transaction: &mut PgConnection,
        max_rows: u32,
    ) -> Result<Vec<Claimed>, Error> {
        let mut rows = outbox::claim(transaction, max_rows.into()).await?;
        let room = max_rows as usize - rows.len();
        if room > 0 && self.misdated_at <= Instant::now() {
            let room = room.min(MISDATED_ROWS) as i64;
            let mut misdated = outbox::claim_misdated(transaction, room).await?;
            if misdated.is_empty() {
                self.misdated_at = Instant::now() + MISDATED_EVERY;
            }
            rows.append(&mut misdated);
        }
        Ok(rows)
    }

    /// Sends these rows. Returns those that cannot be sent, and why.
    fn send(&mut self, rows: &[Claimed]) -> Vec<(i64, String)> {
        let (mut sent, mut messages, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            match Message::new(row) {
                Ok(message) => {
                    let key = message.routing_key.clone();
                    let mut sending = Row::new(row.id, row.created_at, key);
                    sending.replayed = row.replayed;
                    sending.span = message.span(row.traceparent.as_deref());
                    sent.push(sending);
                    messages.push(message);
                }
                Err(error) => unreadable.push((row.id, format!("cannot be read: {error}"))),
            }
        }
        if self.flight.is_empty() {
            self.quiet_since = Instant::now();
        }
        let first = self.publisher.send(messages);
        self.flight.push(first, sent, Instant::now());
        unreadable
    }

    /// Waits for the outcomes of the newest batch, at most until `deadline`. An error says that no more will come.
    async fn wait_until(&mut self, deadline: Instant) -> anyhow::Result<()> {
        while !self.flight.newest_is_complete() {
            let Ok(outcomes) = timeout_at(deadline, self.publisher.outcomes()).await else {
                if self.publisher.is_blocked() {
                    let why = anyhow!("the broker blocks publishers (memory or disk alarm)");
                    self.relay.broker_failed(&why);
                }
                return Ok(());
            };
            self.settle(&outcomes?);
        }
        self.pace.quiet_limit = QUIET_LIMIT;
        Ok(())
    }

    /// Records late outcomes, and renews leases. `None`: PostgreSQL has failed.
    async fn record_late(&mut self, due: &Due, why: &str) -> Option<Recorded> {
        let max_attempts = self.relay.settings.max_attempts;
        let work = async |connection: &mut PgConnection| {
            record_due(connection, due, why, max_attempts).await
        };
        match with_timeout(outbox::TRANSACTION_LIMIT, &self.relay.pool, work).await {
            Ok(done) => {
                self.relay.postgres.works();
                self.database_delays.reset();
                self.flight
                    .done(due, &done.ours, done.until, Instant::now());
                self.relay.tell(&done.recorded);
                self.observe(&done.decided);
                Some(done.recorded)
            }
            Err(error) => {
                self.relay.postgres_failed(error);
                self.database_at = Instant::now() + self.database_delays.next_delay();
                None
            }
        }
    }

    /// No more outcomes come: records those that are here, and makes the other rows ready for any relay.
    async fn release(&mut self) {
        self.check = None;
        while let Some(mut due) = self.flight.take_rest() {
            let mut why = outbox::UNCONFIRMED;
            if self.publisher.lost_only_the_channel() {
                // One of them may be the cause, and would close the next channel, too.
                due.given_up.append(&mut due.waiting);
                why = "the broker closed the channel";
            }
            if self.record_late(&due, why).await.is_none() {
                break;
            }
        }
        // The leases of what remains end by themselves.
        self.flight = Flight::default();
    }

    fn observe(&self, decided: &[RowOutcome]) {
        let now = OffsetDateTime::now_utc();
        let first = |row: &&RowOutcome| row.fate == Fate::Acked && !row.replayed;
        for row in decided.iter().filter(first) {
            let latency = (now - row.created_at).as_seconds_f64().max(0.0);
            self.relay.metrics.latency_seconds.observe(latency);
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

async fn checked(check: &mut Option<BoxFuture<'_, bool>>) -> bool {
    match check {
        Some(check) => check.await,
        None => pending().await,
    }
}
