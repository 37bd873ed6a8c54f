//! `flashsale-api`: the only crate with HTTP routes for clients.
//!
//! A request passes router → handler → lane → verb of `inventory` → SQL, and back. A lane gathers concurrent
//! requests into one call (crate `lanes`).

mod adjust_stock;
mod admin;
mod after_commit;
mod answer;
mod auth;
mod bulkhead;
mod cancel;
mod cancel_batch;
mod code;
mod confirm;
mod confirm_batch;
mod cors;
mod counters;
mod docs;
mod etag;
mod extend;
mod extend_batch;
mod extract;
mod failed_calls;
mod faults;
mod idempotency;
mod import;
mod join_waitlist;
mod json;
mod keys;
mod lane_builder;
mod leave_waitlist;
mod list_memory;
mod live;
mod metrics;
mod move_product;
mod moved;
mod openapi;
mod orders;
mod origin;
mod pages;
mod paging;
mod permits;
mod problem;
mod products;
mod request_id;
mod reservations;
mod reserve;
mod reserve_batch;
mod restored;
mod return_sold;
mod routes;
mod sale;
mod set_stock;
mod skus;
mod state;
mod stock_ledger;
mod telemetry;
mod verb;
mod waitlist;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use axum::{Router, extract::FromRef as _, middleware, routing::Route};
use clap::Subcommand;
use http_server::Limits;
use inventory::{
    cell,
    compatibility::{self, Functions},
    import::Mode,
};
use runtime::{Process, health::Health};
use timer::Timer;
use tokio::net::TcpListener;
use tower::{layer::layer_fn, service_fn};

use crate::metrics::Metrics;

pub use problem::Problem;
pub use state::{AppState, Settings};

/// Reserves units of products for users, over HTTP.
#[derive(clap::Parser)]
#[command(name = "flashsale-api", version)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub runtime: runtime::Args,
    #[command(flatten)]
    pub database: inventory::database::Args,
    #[command(flatten)]
    pub timer: timer::Args,
    #[command(flatten)]
    pub settings: Settings,

    #[command(flatten)]
    pub http: Limits,

    /// Address and port to listen on.
    #[arg(long, env = "LISTEN_ADDR", default_value = "127.0.0.1:8080")]
    pub listen_addr: SocketAddr,

    /// After SIGTERM, the API serves requests for this time, but is not ready, so that load balancers send no further
    /// requests. In seconds.
    #[arg(long, env = "DRAIN_SECONDS", default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub drain_seconds: u32,
}

/// Commands that run instead of the server.
#[derive(Subcommand)]
pub enum Command {
    /// Migrate the database to the schema that this version needs, and exit.
    Migrate {
        /// Number of the cell, where an installation has several: its ids are those of no other cell. 0 is the first
        /// database, whose ids began with 1. See docs/operating.md.
        #[arg(long, env = "CELL", value_parser = clap::value_parser!(i32).range(0..=i64::from(cell::MAX)))]
        cell: Option<i32>,
    },
    /// Move a product to another cell during its sale, with all its reservations, and exit. DATABASE_URL is that of the
    /// old cell. After an interruption, run it again. See RUNBOOK.md.
    MoveProduct(move_product::Args),
    /// After a restore to an earlier moment: skip all ids that may have been given out since then, rebuild the counters
    /// in Redis, and print the events that consumers received and this database does not know. See RUNBOOK.md.
    Restored(restored::Args),
    /// Make an API key for a shop's backend. Its line for API_KEYS_FILE goes to stdout, the key to stderr.
    NewKey {
        /// Name of the client that gets the key: letters, digits, dots, underscores, hyphens.
        name: String,
    },
    /// Ask /readyz of the process that listens on LISTEN_ADDR on this machine, and exit: 0 if it is ready. For health
    /// checks of containers.
    Healthy,
    /// Create and change products from a file, by their SKUs, and exit. The file is CSV with a header line (sku, name,
    /// stock, hold_seconds, max_hold_seconds, max_per_user, sale_starts_at, sale_ends_at), or NDJSON with the same
    /// fields.
    Import {
        /// The file. `-` is the standard input.
        file: PathBuf,
        /// Check everything and say what would be done, but write nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Print the OpenAPI document of the API, and exit.
    Openapi,
}

/// The OpenAPI document, as `GET /openapi.json` serves it.
pub fn openapi() -> serde_json::Value {
    routes::routes::<AppState>().1
}

/// Runs the command of `args`. Without a command, serves HTTP until the process is told to stop.
pub async fn run(args: Args, process: Process) -> anyhow::Result<()> {
    match args.command {
        Some(Command::Migrate { cell }) => migrate(&args.database, cell).await,
        Some(Command::MoveProduct(of_move)) => {
            move_product::run(of_move, &args.database, &args.timer, &process).await
        }
        Some(Command::Restored(restored)) => {
            let events = restored.events.as_deref();
            restored::run(&args.database, &args.timer, events, &process).await
        }
        Some(Command::NewKey { name }) => keys::new_key(&name),
        Some(Command::Healthy) => http_server::probe(args.listen_addr).await,
        Some(Command::Import { file, dry_run }) => {
            let mode = match dry_run {
                true => Mode::Check,
                false => Mode::Write,
            };
            let events = &args.settings.events.outbox_events;
            let servers = (&args.database, &args.timer);
            import::import(&file, mode, servers, events, &process).await
        }
        Some(Command::Openapi) => {
            println!("{:#}", openapi());
            Ok(())
        }
        None => {
            let pool = inventory::database::connect(&args.database, "flashsale-api")?;
            let timer = Timer::start(&args.timer, &process)?;
            let listener = http_server::listen(args.listen_addr).await?;
            let limits = limits(&args);
            let grace = Duration::from_secs(args.runtime.shutdown_seconds) / 2;
            let address = listener.local_addr()?;
            let state = AppState::new(args.settings, pool, timer, address, &process)?;
            let pool = state.monitoring_pool();
            let stop = process.shutdown.clone();
            process.tasks.spawn(async move {
                // An API that is not ready gets no requests, so no failed request would log the reason. This does.
                let watch = compatibility::watch(&pool, Functions::Install);
                stop.run_until_cancelled(watch).await;
            });
            serve(listener, state, limits, process, grace).await
        }
    }
}

/// The limits of the HTTP server. They leave descriptors to every connection to PostgreSQL.
pub fn limits(args: &Args) -> Limits {
    let of_lanes = 2 * u32::from(args.settings.reserve_lanes);
    let database =
        args.database.database_max_connections + of_lanes + state::MONITORING_CONNECTIONS;
    args.http.clone().beside_descriptors(database)
}

async fn migrate(args: &inventory::database::Args, cell: Option<i32>) -> anyhow::Result<()> {
    let mut connection = inventory::database::connect_once(args).await?;
    let migrated = inventory::migrate::migrate(&mut connection).await?;
    if let Some(cell) = cell {
        cell::assign(&mut connection, cell).await?;
        println!("ids: those of cell {cell}");
    }
    for version in &migrated.adopted {
        println!("migration {version}: found applied by hand, recorded");
    }
    for version in &migrated.applied {
        println!("migration {version}: applied");
    }
    if !migrated.functions.is_empty() {
        println!("functions: installed {}", migrated.functions.join(", "));
    }
    if migrated == inventory::migrate::Migrated::default() {
        println!("the schema is up to date");
    }
    Ok(())
}

/// Serves on `listener` until the process is told to stop. Then it answers the accepted requests, for at most
/// `grace`.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    limits: Limits,
    process: Process,
    grace: Duration,
) -> anyhow::Result<()> {
    let router = router(state, &process);
    http_server::serve(
        listener,
        router,
        limits,
        &process.registry,
        process.shutdown.clone(),
        grace,
    )
    .await?;
    // Not earlier: until the last response is sent, a handler may still wait for its lane.
    state.close();
    Ok(())
}

fn router(state: AppState, process: &Process) -> Router {
    let health = Health::of(process)
        .required("postgres", state.monitoring_pool(), async |pool| {
            compatibility::ready(&pool).await
        })
        .optional("redis", <&Timer>::from_ref(&state), async |timer| {
            timer.is_up().await
        });
    let (routes, openapi) = routes::routes::<AppState>();
    let routes = routes
        .merge(docs::router(&openapi))
        .merge(live::router())
        .merge(health.router(process.registry.clone()))
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .fallback(async || Problem::NotFound);
    let routes = match state.cors() {
        Some(rules) => routes.layer(middleware::from_fn_with_state(rules, cors::allow)),
        None => routes,
    };
    let (metrics, moved) = (
        <&Metrics>::from_ref(&state),
        <&moved::Lanes>::from_ref(&state),
    );
    let recorded = layer_fn(move |mut route: Route| {
        service_fn(move |request| telemetry::record(metrics, moved, &mut route, request))
    });
    routes.layer(recorded).with_state(state)
}
