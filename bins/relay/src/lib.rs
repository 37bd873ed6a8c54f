//! Publishes each committed event to RabbitMQ at least once, also across outages.
//!
//! Any number of copies may run: they share the rows of the outbox. `inventory::outbox` owns the state of a row,
//! `uris` the addresses of the broker, `publish` the protocol, `confirms` the outcome of each message, `flight` the rows that wait for one,
//! `record` the transactions, `worker` the loop on one connection,
//! and `run` its connections.

mod asyncapi;
mod confirms;
mod dependency;
mod flight;
mod metrics;
pub mod publish;
mod record;
mod relay;
mod run;
mod uris;
mod worker;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::{ArgAction, Parser, Subcommand, value_parser};
use futures_util::{FutureExt as _, future::join};
use http_server::Limits;
use inventory::{
    Error,
    compatibility::{self, Functions},
    database, outbox,
};
use presence::{Counts, Report, Role};
use runtime::{Process, age::Age, gauges, health::Health, purge::keep_purging};
use timer::Timer;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    publish::Broker,
    relay::{Relay, Settings},
};

/// How often the outbox is counted. A count takes at most a fiftieth of this time, however many events wait. If a
/// count is delayed by an outage, the next one must not be delayed by minutes, too.
const STATUS_EVERY: Duration = Duration::from_secs(1);
const STATUS_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Connections to PostgreSQL beside those of the workers: for health, heartbeat, purge and gauges.
const OTHER_CONNECTIONS: u32 = 2;

/// Shutdown waits at most this long for open HTTP requests. A scrape of the metrics takes less.
const HTTP_GRACE: Duration = Duration::from_secs(1);

pub use asyncapi::asyncapi;

/// The settings of the process.
#[derive(Parser)]
#[command(
    name = "flashsale-relay",
    version,
    about = "Publishes committed events to RabbitMQ."
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

    /// Address of `/livez`, `/readyz`, `/health` and `/metrics`.
    #[arg(long, env = "LISTEN_ADDR", default_value = "127.0.0.1:8082")]
    pub listen_addr: SocketAddr,

    /// URL of RabbitMQ: `amqp://user:password@host:port/vhost`, or `amqps://` for TLS. Several URLs are separated by
    /// commas: the nodes of a cluster, which are tried one after the other.
    #[arg(
        long,
        env = "AMQP_URL",
        hide_env_values = true,
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2f"
    )]
    pub amqp_url: String,

    /// Whether the relay declares the exchange and the queue `reservation-confirmed`. With false it declares nothing,
    /// and needs only the right to write to the exchange.
    #[arg(long, env = "RELAY_DECLARE_QUEUE", default_value_t = true, action = ArgAction::Set)]
    pub relay_declare_queue: bool,

    /// Maximum number of events in one transaction.
    #[arg(long, env = "RELAY_BATCH_ROWS", default_value_t = 500, value_parser = value_parser!(u32).range(1..=10_000))]
    pub relay_batch_rows: u32,

    /// Number of batches in flight at once. Each uses one connection to RabbitMQ and one to PostgreSQL.
    #[arg(long, env = "RELAY_WORKERS", default_value_t = 2, value_parser = value_parser!(u32).range(1..=16))]
    pub relay_workers: u32,

    /// How often the broker may refuse an event before it becomes a dead letter. Outages do not count, nor does a
    /// queue that refuses every message.
    #[arg(long, env = "RELAY_MAX_ATTEMPTS", default_value_t = 10, value_parser = value_parser!(i32).range(1..))]
    pub relay_max_attempts: i32,

    /// Interval between polls for events without a notification, in milliseconds.
    #[arg(long, env = "RELAY_POLL_MILLISECONDS", default_value_t = 100, value_parser = value_parser!(u64).range(1..=60_000))]
    pub relay_poll_milliseconds: u64,

    /// How long published events are kept, in hours.
    #[arg(long, env = "OUTBOX_RETENTION_HOURS", default_value_t = 168, value_parser = value_parser!(i32).range(0..))]
    pub outbox_retention_hours: i32,
}

#[derive(Subcommand)]
pub enum Command {
    /// Ask /readyz of the process that listens on LISTEN_ADDR on this machine, and exit: 0 if it is ready. For health
    /// checks of containers.
    Healthy,
    /// Print the AsyncAPI document of the events, and exit.
    Asyncapi,
}

/// Runs the command of `args`. Without a command, runs the process until the signal to stop: relays, purges, and serves
/// health and metrics.
pub async fn start(args: Args, process: Process) -> anyhow::Result<()> {
    match args.command {
        Some(Command::Healthy) => return http_server::probe(args.listen_addr).await,
        Some(Command::Asyncapi) => {
            println!("{:#}", asyncapi());
            return Ok(());
        }
        None => {}
    }
    let of_pool = pool_args(&args);
    let pool = database::connect(&of_pool, "flashsale-relay")?;
    gauges::show_pool(&process.registry, database::connections(&pool))?;
    let timer = Timer::start(&args.timer, &process)?;
    let broker = Broker::new(&args.amqp_url, args.relay_declare_queue)?;
    let relay = Arc::new(Relay::new(
        pool,
        broker,
        settings(&args),
        &process.registry,
    )?);
    let listener = http_server::listen(args.listen_addr).await?;
    let router = health(&relay, &timer, &process).router(process.registry.clone());
    let limits = limits(&of_pool, args.relay_workers);
    let wakeups = Arc::new(timer.wakes());

    let stop = process.shutdown.clone();
    // All database work shares one wait, so that the log gives the reason once.
    let usable = usable(relay.clone()).shared();
    let mut tasks = JoinSet::new();
    for _ in 0..args.relay_workers {
        let (relay, wakeups, stop) = (relay.clone(), wakeups.clone(), stop.clone());
        let usable = usable.clone();
        tasks.spawn(async move {
            run::run(&relay, &wakeups, usable, &stop).await;
            Ok(())
        });
    }
    let here = (relay.clone(), timer, stop.clone(), usable.clone());
    tasks.spawn(async move {
        let (relay, timer, stop, usable) = here;
        if stop.run_until_cancelled(usable).await.is_some() {
            let report = || report(&relay, &timer);
            presence::announce(&relay.pool, Role::Relay, report, &stop).await;
        }
        Ok(())
    });
    let background = (relay, stop.clone());
    tasks.spawn(async move {
        let (relay, stop) = background;
        let purging = async {
            usable.await;
            purge(&relay, args.outbox_retention_hours).await;
        };
        // The gauges also grow while PostgreSQL cannot be read.
        stop.run_until_cancelled(join(purging, watch(&relay))).await;
        Ok(())
    });
    tasks.spawn(async move {
        http_server::serve(
            listener,
            router,
            limits,
            &process.registry,
            stop,
            HTTP_GRACE,
        )
        .await
    });
    while let Some(ended) = tasks.join_next().await {
        // If a worker panics, the process must end. Otherwise it would look healthy.
        ended??;
    }
    Ok(())
}

/// The settings of the pool, which each worker may keep one connection of.
fn pool_args(args: &Args) -> database::Args {
    let needed = args.relay_workers + OTHER_CONNECTIONS;
    database::Args {
        database_max_connections: args.database.database_max_connections.max(needed),
        ..args.database.clone()
    }
}

/// Each worker also has one connection to RabbitMQ.
fn limits(of_pool: &database::Args, workers: u32) -> Limits {
    Limits::for_probes().beside_descriptors(of_pool.database_max_connections + workers)
}

fn settings(args: &Args) -> Settings {
    Settings {
        batch_rows: args.relay_batch_rows,
        max_attempts: args.relay_max_attempts,
        poll: Duration::from_millis(args.relay_poll_milliseconds),
        // The other half is for the rest of the shutdown.
        linger: Duration::from_secs(args.runtime.shutdown_seconds) / 2,
    }
}

async fn usable(relay: Arc<Relay>) {
    let errors = relay.metrics.errors.with_label_values(&["postgres"]);
    compatibility::wait_until_usable(&relay.pool, Functions::Await, || errors.inc()).await;
}

fn health(relay: &Arc<Relay>, timer: &Timer, process: &Process) -> Health {
    Health::of(process)
        .required("postgres", relay.pool.clone(), async |pool| {
            compatibility::ready(&pool).await
        })
        .optional("rabbitmq", Arc::clone(relay), async |relay| {
            relay.rabbitmq.is_good()
        })
        .optional("redis", timer.clone(), async |timer| timer.is_up().await)
}

/// Content of `/health` and `/readyz`.
async fn report(relay: &Relay, timer: &Timer) -> Report {
    Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        counts: Counts {
            published: relay.metrics.published.get(),
            ..Counts::default()
        },
        reaches: [
            ("rabbitmq".to_owned(), relay.rabbitmq.is_good()),
            ("redis".to_owned(), timer.is_up().await),
        ]
        .into(),
        ..Report::default()
    }
}

/// Deletes events that were published long ago.
async fn purge(relay: &Relay, retention_hours: i32) {
    keep_purging(|max_rows| async move {
        let purged = outbox::purge(&relay.pool, retention_hours, max_rows).await?;
        relay.metrics.purged.inc_by(purged);
        Ok::<_, Error>(purged)
    })
    .await;
}

/// Keeps the gauges of the outbox up to date.
async fn watch(relay: &Relay) {
    let mut oldest = Age::shown_by(relay.metrics.oldest_age_seconds.clone());
    loop {
        let began = Instant::now();
        let reading = async {
            let status = outbox::status(&relay.pool).await?;
            relay.metrics.depth.set(status.depth);
            relay.metrics.dead.set(status.dead);
            Ok::<_, Error>(status.oldest_age_seconds)
        };
        let pause = match oldest.read(reading).await {
            Ok(()) => (began.elapsed() * 50).clamp(STATUS_EVERY, STATUS_PAUSE_MAX),
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "cannot count the events of the outbox"
                );
                STATUS_EVERY
            }
        };
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_do_not_use_up_the_pool() {
        for (workers, connections) in [(1, 12), (16, 18)] {
            let workers = format!("--relay-workers={workers}");
            let args = Args::parse_from(["", &workers, "--database-max-connections=12"]);
            assert_eq!(pool_args(&args).database_max_connections, connections);
        }
    }
}
