//! The live page at `/`: what an operator watches while the sale goes on.
//!
//! Each process tells once a second what it has done (`inventory::presence`); each API looks at that, and at
//! PostgreSQL and Redis, once a second, whoever watches ([`watch`]), on connections of its own; and everybody who
//! watches reads what came of it ([`hub`]). So viewers cost the reserves nothing.

mod alerts;
mod assets;
mod audits;
mod beats;
mod eye;
mod hub;
mod stream;
mod view;
mod watch;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use inventory::{
    audit::{self, Audit},
    compatibility,
    presence::{self, Counts, Feed, Report, Role},
};
use runtime::Process;
use sqlx::{PgPool, postgres::PgConnectOptions};
use timer::Timer;
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::{
    audits::{LastAudit, audited},
    eye::Eye,
    hub::Hub,
    watch::Watch,
};
use crate::metrics::Metrics;

pub(crate) use self::{assets::router, stream::stream};

const POLL_EVERY: Duration = Duration::from_secs(1);

/// While somebody watches, the books are audited so often; but auditing takes at most a hundredth of the time,
/// however many reservations there are.
const AUDIT_EVERY: Duration = Duration::from_secs(60);

/// What the page is made of. Clones share it.
#[derive(Clone)]
pub(crate) struct Live {
    hub: Arc<Hub>,
    feed: Arc<Feed>,
    audit: LastAudit,
}

impl Live {
    /// Starts what is done once a second, until the process is told to stop.
    pub(crate) fn start(
        pool: &PgPool,
        pulse: &PgPool,
        timer: Timer,
        metrics: Metrics,
        process: &Process,
    ) -> Self {
        let live = Self {
            hub: Arc::new(Hub::new(process.shutdown.clone())),
            feed: Arc::default(),
            audit: LastAudit::default(),
        };
        let database = pool.connect_options();
        let stop = &process.shutdown;
        process.tasks.spawn({
            let (live, pool, pulse) = (live.clone(), pool.clone(), pulse.clone());
            let (timer, stop) = (timer.clone(), stop.clone());
            async move {
                // Before that nobody may write into the database.
                let usable = compatibility::until_usable(&pool);
                if stop.run_until_cancelled(usable).await.is_some() {
                    let report = || live.report(&timer, &metrics);
                    presence::announce(&pulse, Role::Api, report, &stop).await;
                }
            }
        });
        process.tasks.spawn({
            let (live, stop) = (live.clone(), stop.clone());
            async move { stop.run_until_cancelled(live.poll(&database, &timer)).await }
        });
        process.tasks.spawn({
            let (live, pool, stop) = (live.clone(), pool.clone(), stop.clone());
            async move { stop.run_until_cancelled(live.keep_auditing(&pool)).await }
        });
        live
    }

    /// Where what is done to reservations is noted.
    pub(crate) fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Somebody had the books audited.
    pub(crate) fn audited(&self, audit: &Audit) {
        self.audit.take(audited(audit));
    }

    /// What this process says of itself.
    async fn report(&self, timer: &Timer, metrics: &Metrics) -> Report {
        let problems = metrics.problems().filter(|(_, count)| *count > 0);
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            counts: Counts {
                reserved: metrics.created.get(),
                confirmed: metrics.confirmed.get(),
                canceled: metrics.canceled.get(),
                expired: metrics.expired.get(),
                published: 0,
            },
            problems: problems
                .map(|(code, count)| (code.terms().code.to_owned(), count))
                .collect(),
            reaches: [("redis".to_owned(), timer.is_up().await)].into(),
            audit: self.audit.get(),
            recent: self.feed.report(),
        }
    }

    async fn poll(&self, database: &PgConnectOptions, timer: &Timer) {
        let mut ticks = interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Watch::new(self.audit.clone());
        let mut eye = Eye::new(database);
        loop {
            ticks.tick().await;
            let found = eye.look().await;
            let counters = timer.counters().await;
            let (state, tick) = watch.update(found, counters);
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
                // Somebody else's does as well.
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
