//! The live page at `/`: the state of the sale, for operators.
//!
//! Each process writes a heartbeat with a report once per second ([`presence`]). Each API reads the heartbeats,
//! PostgreSQL and Redis once per second, on connections of its own ([`probe`]), and makes a view from them
//! ([`monitor`]). All viewers get the same bytes ([`hub`]). Therefore viewers do not slow down reserves.

#![warn(missing_docs)]

mod alerts;
mod audits;
mod debounce;
mod durations;
mod files;
mod heartbeats;
mod hub;
mod metrics;
mod monitor;
mod probe;
mod remote_snapshots;
mod snapshot;
mod trend;
mod view;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::Stream;
use inventory::{
    audit::{self, Audit},
    compatibility,
    event::Events,
};
use presence::{Counts, Durations, Feed, Report, Role};
use runtime::Process;
use sqlx::PgPool;
use timer::Timer;
use tokio::time::{MissedTickBehavior, interval, sleep};

pub use files::{CONTENT_SECURITY_POLICY, File, PAGE, files};
pub use view::View;

use self::{
    audits::{LastAudit, audited},
    hub::Hub,
    metrics::Metrics,
    monitor::Monitor,
    probe::Probe,
};

const POLL_EVERY: Duration = Duration::from_secs(1);

/// Pause between two audits while the page has viewers. After a long audit the pause is longer, so that audits take
/// at most 1 % of the time, for any number of reservations.
const AUDIT_EVERY: Duration = Duration::from_secs(60);

/// Counters of this process since its start.
pub struct Activity {
    /// Reservations, by transition.
    pub counts: Counts,
    /// Requests that were answered with a problem, by problem code.
    pub problems: BTreeMap<String, u64>,
    /// How long the answers to reserves took.
    pub reserve_times: Durations,
}

/// The sources of the page's data.
pub struct Sources<A> {
    /// For audits, and to know the server in use.
    pub pool: PgPool,
    /// For heartbeats. They have a pool of their own, because an overloaded process must not look as if it were down.
    pub monitoring_pool: PgPool,
    /// For the counters in Redis.
    pub timer: Timer,
    /// The latest transitions in this process.
    pub feed: Arc<Feed>,
    /// The events that this process writes.
    pub events: Events,
    /// Reads the counters of this process.
    pub activity: A,
    /// Whether a problem code is a failure of the service, not a refusal.
    pub is_failure: fn(&str) -> bool,
}

/// The page's data. Clones share it.
#[derive(Clone)]
pub struct Live {
    hub: Arc<Hub>,
    audit: LastAudit,
}

impl Live {
    /// Starts the heartbeats, polls and audits, until the process is told to stop.
    ///
    /// # Errors
    ///
    /// The registry already has these metrics.
    pub fn start<A>(sources: Sources<A>, process: &Process) -> prometheus::Result<Self>
    where
        A: Fn() -> Activity + Send + Sync + 'static,
    {
        let Sources {
            pool,
            monitoring_pool,
            timer,
            feed,
            events,
            activity,
            is_failure,
        } = sources;
        let live = Self {
            hub: Arc::new(Hub::new(process.shutdown.clone())),
            audit: LastAudit::default(),
        };
        let metrics = Metrics::register(&process.registry)?;
        let stop = &process.shutdown;
        process.tasks.spawn({
            let (live, pool, timer) = (live.clone(), pool.clone(), timer.clone());
            let stop = stop.clone();
            async move {
                // Before the schema is migrated, no process may write to the database.
                let usable = compatibility::until_usable(&pool);
                if stop.run_until_cancelled(usable).await.is_some() {
                    let report = || live.report(activity(), &feed, &events, &timer);
                    presence::announce(&monitoring_pool, Role::Api, report, &stop).await;
                }
            }
        });
        process.tasks.spawn({
            let (live, pool, stop) = (live.clone(), pool.clone(), stop.clone());
            async move {
                let polls = live.poll(&pool, &timer, is_failure, &metrics);
                stop.run_until_cancelled(polls).await
            }
        });
        process.tasks.spawn({
            let (live, stop) = (live.clone(), stop.clone());
            async move { stop.run_until_cancelled(live.keep_auditing(&pool)).await }
        });
        Ok(live)
    }

    /// Shows the audit that an admin requested.
    pub fn audited(&self, audit: &Audit) {
        self.audit.take(audited(audit));
    }

    /// The Server-Sent Events for a viewer that has read up to the event `last_id`. `None`: there are too many
    /// viewers.
    pub fn subscribe(
        &self,
        last_id: Option<&str>,
    ) -> Option<impl Stream<Item = Bytes> + Send + 'static> {
        self.hub.subscribe(last_id)
    }

    /// The report of this process for its heartbeat.
    async fn report(
        &self,
        activity: Activity,
        feed: &Feed,
        events: &Events,
        timer: &Timer,
    ) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            counts: activity.counts,
            problems: activity.problems,
            reserve_times: activity.reserve_times,
            reaches: [("redis".to_owned(), timer.is_up().await)].into(),
            events: Some(events.names()),
            audit: self.audit.get(),
            recent: feed.report(),
        }
    }

    async fn poll(
        &self,
        pool: &PgPool,
        timer: &Timer,
        is_failure: fn(&str) -> bool,
        metrics: &Metrics,
    ) {
        let mut ticks = interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut monitor = Monitor::new(self.audit.clone(), is_failure);
        let mut probe = Probe::new(pool);
        loop {
            ticks.tick().await;
            let snapshot = probe.snapshot().await;
            let counters = timer.counters().await;
            let (state, tick) = monitor.update(snapshot, counters);
            metrics.set(&state.database);
            self.hub.publish(state, &tick);
        }
    }

    async fn keep_auditing(&self, pool: &PgPool) {
        let mut last = None;
        let (mut next, mut pause) = (Instant::now(), AUDIT_EVERY);
        loop {
            sleep(POLL_EVERY).await;
            let known = self.audit.get().map(|audit| audit.at);
            if known != last {
                // An audit of another process counts as well.
                (last, next) = (known, Instant::now() + pause);
            }
            if self.hub.viewers() == 0 || Instant::now() < next {
                continue;
            }
            let began = Instant::now();
            match audit::audit(pool).await {
                Ok(audit) => self.audited(&audit),
                Err(error) => tracing::debug!(cause = error.cause(), "cannot audit: {error}"),
            }
            pause = AUDIT_EVERY.max(began.elapsed() * 100);
            next = Instant::now() + pause;
        }
    }
}
