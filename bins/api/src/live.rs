//! The live page at `/`: what an operator watches while the sale goes on.
//!
//! Each process tells once a second what it has done (`inventory::presence`); each API looks at that, and at
//! PostgreSQL and Redis, once a second, whoever watches ([`watch`]), on connections of its own; and everybody who
//! watches reads what came of it ([`hub`]). So viewers cost the reserves nothing.

mod alerts;
mod assets;
mod beats;
mod hub;
mod stream;
mod view;
mod watch;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use inventory::{
    Error,
    audit::{self, Audit},
    expire, outbox,
    presence::{self, Audited, Counts, Feed, Report, Role},
    product,
};
use runtime::Process;
use sqlx::{PgPool, postgres::PgPoolOptions};
use time::OffsetDateTime;
use timer::Timer;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use self::{
    hub::Hub,
    watch::{Found, PRODUCTS_MAX, Watch},
};
use crate::metrics::Metrics;

pub(crate) use self::{assets::router, stream::stream};

const POLL_EVERY: Duration = Duration::from_secs(1);

/// A PostgreSQL that takes longer to answer a poll is shown as down.
const POLL_LIMIT: Duration = Duration::from_secs(2);

/// While somebody watches, the books are audited so often; but auditing takes at most a hundredth of the time,
/// however many reservations there are.
const AUDIT_EVERY: Duration = Duration::from_secs(60);

/// How many differences of an audit are shown.
const DIFFERENCES_MAX: usize = 20;

/// What the page is made of. Clones share it.
#[derive(Clone)]
pub(crate) struct Live {
    hub: Arc<Hub>,
    feed: Arc<Feed>,
    audit: Arc<Mutex<Option<Audited>>>,
}

impl Live {
    /// Starts what is done once a second, until the process is told to stop.
    pub(crate) fn start(pool: &PgPool, timer: Timer, metrics: Metrics, process: &Process) -> Self {
        let live = Self {
            hub: Arc::new(Hub::new(process.shutdown.clone())),
            feed: Arc::default(),
            audit: Arc::default(),
        };
        // One for an audit, which takes its time, and one for everything else.
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(POLL_LIMIT)
            .connect_lazy_with(pool.connect_options().as_ref().clone());
        let stop = &process.shutdown;
        process.tasks.spawn({
            let (live, pool, timer, stop) =
                (live.clone(), pool.clone(), timer.clone(), stop.clone());
            async move {
                let report = || live.report(&timer, &metrics);
                presence::announce(&pool, Role::Api, report, &stop).await;
            }
        });
        process.tasks.spawn({
            let (live, pool, stop) = (live.clone(), pool.clone(), stop.clone());
            async move { stop.run_until_cancelled(live.poll(&pool, &timer)).await }
        });
        process.tasks.spawn({
            let (live, stop) = (live.clone(), stop.clone());
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
        let differences = audit.differences.iter().take(DIFFERENCES_MAX);
        let audited = Audited {
            at: OffsetDateTime::now_utc(),
            clean: audit.clean,
            products: audit.products.len() as u64,
            differences: differences.cloned().collect(),
        };
        *self.audit.lock().unwrap_or_else(PoisonError::into_inner) = Some(audited);
    }

    fn last_audit(&self) -> Option<Audited> {
        let audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        audit.clone()
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
            audit: self.last_audit(),
            recent: self.feed.report(),
        }
    }

    async fn poll(&self, pool: &PgPool, timer: &Timer) {
        let mut ticks = interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Watch::new();
        // Counting the queue takes at most a fiftieth of the time, however many wait.
        let mut count_at = Instant::now();
        loop {
            ticks.tick().await;
            let found = find(pool, &mut count_at);
            let found = timeout(POLL_LIMIT, found).await.ok().and_then(Result::ok);
            let counters = timer.counters().await;
            let (state, tick) = watch.update(found, counters, self.last_audit());
            self.hub.publish(state, &tick);
        }
    }

    async fn keep_auditing(&self, pool: &PgPool) {
        let mut pause = AUDIT_EVERY;
        loop {
            let watched = self.hub.viewers() > 0;
            let due = self
                .last_audit()
                .is_none_or(|last| OffsetDateTime::now_utc() - last.at >= pause);
            if watched && due {
                let began = Instant::now();
                match audit::audit(pool).await {
                    Ok(audit) => self.audited(&audit),
                    Err(error) => tracing::debug!(cause = error.cause(), "cannot audit: {error}"),
                }
                pause = AUDIT_EVERY.max(began.elapsed() * 100);
            }
            sleep(POLL_EVERY).await;
        }
    }
}

async fn find(pool: &PgPool, count_at: &mut Instant) -> Result<Found, Error> {
    let (now, processes) = presence::look(pool).await?;
    let products = product::newest(pool, PRODUCTS_MAX as i64 + 1).await?;
    let lag_seconds = expire::due(pool).await?.lag_seconds;
    let began = Instant::now();
    let mut outbox = None;
    if began >= *count_at {
        outbox = Some(outbox::status(pool).await?);
        *count_at = Instant::now() + began.elapsed() * 50;
    }
    Ok(Found {
        now,
        processes,
        products,
        lag_seconds,
        outbox,
    })
}
