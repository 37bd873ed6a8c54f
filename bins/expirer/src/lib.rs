//! Decides when to expire holds, with `inventory::expire`. Also deletes old idempotency keys.
//!
//! Any number of copies may run: a second sweep finds nothing left to do. Without any expirer, reserve reclaims the
//! due holds that it needs.

mod context;
mod locked;

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use clap::{Parser, Subcommand};
use http_server::Limits;
use inventory::{
    Error, ProductId,
    compatibility::{self, Functions},
    database::{self, OwnSession, Rehearsal},
    event,
    expire::{self, Commit, Step, Swept},
    idempotency::{self, Kept},
};
use presence::Role;
use prometheus::IntCounter;
use runtime::{
    Process, age::Age, gauges, health::Health, outage::Causes, purge::keep_purging, retry::Delays,
};
use sqlx::PgPool;
use timer::{Timer, Wakeups};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use trace::Span;

use context::Context;
use locked::Locked;

/// Maximum time between two sweeps. It bounds the delay for a short hold that was created after the last sweep, when
/// Redis sends no notification.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Minimum time between two sweeps. With thousands of deadlines per second, each hold alone would be a transaction
/// that delays reservations of the same product. A pause collects them in batches.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);

/// How often the lag is read.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// How long refusals are kept under their `Idempotency-Key`. Long enough for the retries of a client. On a product that is
/// sold out, millions of refusals per hour would fill the disk if they were kept for a day.
const REFUSALS_KEPT: Duration = Duration::from_secs(600);

/// One for sweeps, one to wait for a locked product, and one for everything else.
const MIN_CONNECTIONS: u32 = 3;

/// Maximum delay between attempts to reach PostgreSQL.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// The settings of the process.
#[derive(Parser)]
#[command(
    name = "flashsale-expirer",
    version,
    about = "Expires holds that are past their deadline."
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub runtime: runtime::Args,

    #[command(flatten)]
    pub database: database::Args,

    #[command(flatten)]
    pub timer: timer::Args,

    #[command(flatten)]
    pub events: event::Args,

    /// Address of `/livez`, `/readyz`, `/health` and `/metrics`.
    #[arg(long, env = "LISTEN_ADDR", default_value = "127.0.0.1:8081")]
    pub listen_addr: SocketAddr,

    /// Maximum number of holds that one transaction expires. Reservations of the same product wait for it.
    #[arg(long, env = "EXPIRE_BATCH_ROWS", default_value_t = 500, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    pub expire_batch_rows: i32,

    /// How long an `Idempotency-Key` and its answer are kept, in hours. Refusals are kept for 10 min at most.
    #[arg(long, env = "IDEMPOTENCY_HOURS", default_value_t = 24, value_parser = clap::value_parser!(i32).range(0..))]
    pub idempotency_hours: i32,
}

/// Commands that run instead of the process.
#[derive(Subcommand)]
pub enum Command {
    /// Ask /readyz of the process that listens on LISTEN_ADDR on this machine, and exit: 0 if it is ready. For health
    /// checks of containers.
    Healthy,
}

/// Runs the command of `args`. Without a command, runs the process until the signal to stop: sweeps, and serves health
/// and metrics.
pub async fn start(args: Args, process: Process) -> anyhow::Result<()> {
    if let Some(Command::Healthy) = args.command {
        return http_server::probe(args.listen_addr).await;
    }
    let max_connections = args.database.database_max_connections.max(MIN_CONNECTIONS);
    let waits = locked::connections(max_connections);
    let of_pool = database::Args {
        database_max_connections: max_connections - waits - 1,
        ..args.database.clone()
    };
    let pool = database::connect(&of_pool, "flashsale-expirer")?;
    gauges::show_pool(&process.registry, database::connections(&pool))?;
    let timer = Timer::start(&args.timer, &process)?;
    let health = Health::of(&process)
        .required("postgres", pool.clone(), async |pool| {
            compatibility::ready(&pool).await
        })
        .optional("redis", timer.clone(), async |timer| timer.is_up().await);
    let context = Context::new(
        pool,
        timer,
        args.expire_batch_rows,
        args.events.outbox_events,
        &process.registry,
    )?;
    let listener = http_server::listen(args.listen_addr).await?;
    let router = health.router(process.registry.clone());
    let limits = Limits::for_probes().beside_descriptors(max_connections);
    let grace = Duration::from_secs(args.runtime.shutdown_seconds) / 2;
    let pool = context.pool.clone();
    let lag = Age::shown_by(context.metrics.lag_seconds.clone());
    // The gauge also grows while PostgreSQL cannot be read.
    let lag = async {
        let stop = &process.shutdown;
        stop.run_until_cancelled(watch(&pool, lag)).await;
        Ok(())
    };
    let work = async {
        work(context, waits, args.idempotency_hours, &process.shutdown).await;
        Ok(())
    };
    tokio::try_join!(
        work,
        lag,
        http_server::serve(
            listener,
            router,
            limits,
            &process.registry,
            process.shutdown.clone(),
            grace
        )
    )?;
    Ok(())
}

/// All work that writes to the database. Starts when the database can be used. `waits` is the number of locked products to
/// wait for at once.
async fn work(context: Context, waits: u32, idempotency_hours: i32, shutdown: &CancellationToken) {
    // Started first, so that the log says whether Redis can be reached.
    let expiries = context.timer.expiries();
    let failed = || context.metrics.errors.inc();
    let usable = compatibility::wait_until_usable(&context.pool, Functions::Await, failed);
    if shutdown.run_until_cancelled(usable).await.is_none() {
        return;
    }
    let report = || context.report();
    let purge = |kept, age| purge_keys(&context.pool, kept, age, &context.metrics.keys_purged);
    let keep = Duration::from_secs(3_600) * idempotency_hours.unsigned_abs();
    let purges = async {
        tokio::join!(
            purge(Kept::Done, keep),
            purge(Kept::Refused, keep.min(REFUSALS_KEPT)),
        )
    };
    // Reserves of a product wait for the transactions that expire its holds, so these have sessions of their own.
    let sweeps = OwnSession::beside(&context.pool, Rehearsal::Expire);
    let session = |_| OwnSession::beside(&context.pool, Rehearsal::Expire);
    let sessions = (0..waits).map(session).collect();
    let (locked, found) = Locked::new();
    tokio::join!(
        shutdown.run_until_cancelled(sweeps.keep_open()),
        run(&context, &sweeps, &locked, expiries, shutdown),
        locked.wait(found, sessions, &context, shutdown),
        presence::announce(&context.pool, Role::Expirer, report, shutdown),
        shutdown.run_until_cancelled(purges),
    );
}

/// Deletes idempotency keys with such answers that are older than this.
async fn purge_keys(pool: &PgPool, kept: Kept, age: Duration, purged: &IntCounter) {
    keep_purging(|max_rows| async move {
        let gone = idempotency::purge(pool, kept, age, max_rows).await?;
        purged.inc_by(gone);
        Ok::<_, Error>(gone)
    })
    .await;
}

/// Keeps the gauge of the lag up to date. Independent of the sweeps, because a sweep that waits or fails reports
/// nothing.
async fn watch(pool: &PgPool, mut lag: Age) {
    loop {
        let began = Instant::now();
        let reading = async { Ok::<_, Error>(expire::due(pool).await?.lag_seconds) };
        if let Err(error) = lag.read(reading).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "cannot read the lag"
            );
        }
        sleep(WATCH_EVERY.max(began.elapsed() * expire::PAUSE_PER_LOOK)).await;
    }
}

/// Why a sweep did not end everything that is due.
struct Failure {
    /// The product, if only one is known to be concerned.
    product: Option<ProductId>,
    cause: String,
}

/// Sweeps whenever a hold may be due, until `shutdown`. An outage only delays it.
async fn run(
    context: &Context,
    sweeps: &OwnSession,
    locked: &Locked,
    expiries: Wakeups,
    shutdown: &CancellationToken,
) {
    let mut delays = Delays::up_to(RETRY_MAX);
    let causes = Causes::default();
    while !shutdown.is_cancelled() {
        // Not cancelled by the shutdown: a batch in flight is finished.
        let (swept, failures) = sweep(context, sweeps, locked, shutdown).await;
        if failures.is_empty() && causes.clear() {
            tracing::info!("expiring holds again");
        }
        for Failure { product, cause } in failures {
            let product = product.map(ProductId::get);
            if causes.add(&format!("{product:?} {cause}")) {
                tracing::warn!(
                    product,
                    cause,
                    "cannot expire holds: retrying until it works"
                );
            }
        }
        let wait = async {
            match swept {
                Ok(swept) => {
                    delays.reset();
                    // No notification is heard during the pause.
                    let pause = expire::pause_after(swept.looks).max(SWEEP_PAUSE);
                    sleep(pause).await;
                    let next_due = swept
                        .next_due
                        .map_or(SWEEP_EVERY, |next| next.min(SWEEP_EVERY));
                    let rest = next_due.saturating_sub(pause);
                    // A notification from Redis or the end of the pause: both start a sweep.
                    let _ = timeout(rest, expiries.next()).await;
                }
                Err(_) => sleep(delays.next_delay()).await,
            }
        };
        shutdown.run_until_cancelled(wait).await;
    }
}

/// Expires everything that is due, except of locked products. Stops between two batches on `shutdown`. Also returns why not
/// everything could be done, also by waits for locked products.
async fn sweep(
    context: &Context,
    session: &OwnSession,
    locked: &Locked,
    shutdown: &CancellationToken,
) -> (Result<Swept, Error>, Vec<Failure>) {
    let metrics = &context.metrics;
    // Observed on drop, so that failed sweeps are measured, too.
    let _duration = metrics.sweep_seconds.start_timer();
    let span = Span::of_work("sweep");
    let mut found = HashSet::new();
    let after = |step| {
        match step {
            Step::Done(done) => context.tell(done),
            Step::Locked(turn) => {
                found.insert(turn);
                locked.add(turn);
            }
        }
        !shutdown.is_cancelled()
    };
    let sweep = expire::sweep_unlocked(
        session,
        context.batch_rows,
        Commit::Asynchronous,
        &context.events,
        after,
    );
    let swept = span.scope(sweep).await;
    let error = match &swept {
        Ok(swept) => swept.refused.as_ref(),
        Err(error) => Some(error),
    };
    let of_product = |(product, cause)| Failure {
        product: Some(product),
        cause,
    };
    let mut failures: Vec<_> = locked
        .failures(&found)
        .into_iter()
        .map(of_product)
        .collect();
    if let Some(error) = error {
        metrics.errors.inc();
        span.failed(error.kind(), &error.cause());
        let (product, cause) = (None, error.cause());
        failures.push(Failure { product, cause });
    }
    (swept, failures)
}
