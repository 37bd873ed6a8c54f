//! The wiring: starts the parts of the API and puts them into the router's state.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::ensure;
use axum::extract::FromRef;
use inventory::{database, event};
use lanes::Limits;
use live::{Live, Sources};
use presence::Feed;
use runtime::{Process, gauges};
use sqlx::PgPool;
use timer::Timer;
use tokio_util::sync::CancellationToken;

use crate::{
    after_commit::AfterCommit,
    auth::Access,
    bulkhead::Bulkhead,
    cancel, code, confirm, cors, extend,
    failed_calls::FailedCalls,
    keys::Keys,
    lane_builder::{BlockedProducts, LaneBuilder, ProductLocks, Sharing},
    metrics::Metrics,
    moved, products, reservations, reserve,
    sale::Sale,
    skus::Skus,
};

/// One connection for heartbeats, one for health checks.
pub(crate) const MONITORING_CONNECTIONS: u32 = 2;

/// Settings of the API.
#[derive(clap::Args, Clone)]
pub struct Settings {
    /// Duration of a hold, in seconds.
    #[arg(long, env = "HOLD_SECONDS", default_value_t = 300,
        value_parser = clap::value_parser!(i32).range(1..=31_536_000))]
    pub hold_seconds: i32,

    /// Longest duration of an extended hold, counted from its creation, in seconds.
    #[arg(long, env = "MAX_HOLD_SECONDS", default_value_t = 3600,
        value_parser = clap::value_parser!(i32).range(1..=31_536_000))]
    pub max_hold_seconds: i32,

    #[command(flatten)]
    pub events: event::Args,

    /// Bearer token of the admin routes. Without it, admin requests are allowed only directly from the same machine,
    /// while the API listens on a loopback address. Set it if there is a proxy.
    #[arg(long, env = "ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<String>,

    /// File with the API keys that all other routes require, except health, metrics, the schemas and the pages (see
    /// docs/security.md). Each line has a client's name and the SHA-256 of a key, as the command new-key prints it. The API
    /// reads the file again every second. Without it, these routes need no key.
    #[arg(long, env = "API_KEYS_FILE")]
    pub api_keys_file: Option<String>,

    /// Origins of pages that may read products and reservations in a browser (CORS): a comma-separated list, such as
    /// https://shop.example, or * for every origin. Without it, no page of another site can read an answer.
    #[arg(long, env = "CORS_ORIGINS")]
    pub cors_origins: Option<String>,

    /// Most requests in one batch, that is, in one call to PostgreSQL.
    #[arg(long, env = "BATCH_MAX_REQUESTS", default_value_t = 500,
        value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub batch_max_requests: u16,

    /// Most requests that wait in one lane. Further requests are answered 503, except those of products that have
    /// less than their equal share of the queue.
    #[arg(long, env = "LANE_MAX_REQUESTS", default_value_t = 5000,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub lane_max_requests: u32,

    /// Longest time that a request waits in a lane before it is answered 503, in milliseconds.
    #[arg(long, env = "LANE_WAIT_MILLISECONDS", default_value_t = 3000,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub lane_wait_milliseconds: u64,

    /// Number of lanes for reserves. All reserves of one product use the same lane. Fewer lanes make larger batches,
    /// which cost less per request. More lanes use more connections of PostgreSQL at the same time.
    #[arg(long, env = "RESERVE_LANES", default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=64))]
    pub reserve_lanes: u16,
}

/// The router's state. It lasts as long as the process. Every request uses it from several threads: counting its users took
/// some 2 of the 30 µs that a reserve costs the server.
#[derive(Clone, Copy)]
pub struct AppState(&'static Parts);

macro_rules! parts {
    ($($name:ident: $part:ty,)+) => {
        struct Parts {
            $($name: &'static $part,)+
            monitoring_pool: PgPool,
            cors: Option<cors::Rules>,
            stop: CancellationToken,
        }

        $(impl FromRef<AppState> for &'static $part {
            fn from_ref(state: &AppState) -> Self {
                state.0.$name
            }
        })+
    };
}

parts! {
    access: Access,
    sale: Sale,
    bulkhead: Bulkhead,
    timer: Timer,
    metrics: Metrics,
    live: Live,
    products: products::Lists,
    skus: Skus,
    moved: moved::Lanes,
    product: products::Lanes,
    reservation: reservations::Lanes,
    reserve: reserve::Lanes,
    confirm: confirm::Lanes,
    cancel: cancel::Lanes,
    extend: extend::Lanes,
}

/// Keeps a part of the state until the process ends.
fn keep<T>(part: T) -> &'static T {
    Box::leak(Box::new(part))
}

impl AppState {
    /// Starts the lanes and the live page. `address` is the address that the API listens on.
    ///
    /// # Errors
    ///
    /// `ADMIN_TOKEN` is not printable ASCII, `API_KEYS_FILE` cannot be read, `CORS_ORIGINS` is not a list of origins, or a
    /// metric is registered twice.
    pub fn new(
        settings: Settings,
        pool: PgPool,
        timer: Timer,
        address: SocketAddr,
        process: &Process,
    ) -> anyhow::Result<Self> {
        gauges::show_pool(&process.registry, database::connections(&pool))?;
        let metrics = keep(Metrics::new(&process.registry)?);
        let access = access(&settings, address, metrics, process)?;
        let cors = given(&settings.cors_origins);
        let cors = cors.as_deref().map(cors::rules).transpose()?;
        let monitoring_pool = database::beside(&pool, MONITORING_CONNECTIONS);
        let feed = Arc::new(Feed::default());
        let sources = Sources {
            pool: pool.clone(),
            monitoring_pool: monitoring_pool.clone(),
            timer: timer.clone(),
            feed: Arc::clone(&feed),
            events: settings.events.outbox_events.clone(),
            activity: || metrics.activity(),
            is_failure: code::is_failure,
        };
        let live = Live::start(sources, process)?;
        let limits = limits(&settings);
        let lanes = settings.reserve_lanes.into();
        let sale = keep(Sale {
            hold_seconds: settings.hold_seconds,
            max_hold_seconds: settings.max_hold_seconds,
            events: settings.events.outbox_events,
        });
        let after_commit = AfterCommit::new(timer.clone(), metrics, feed, &sale.events);
        let failed_calls = Arc::new(FailedCalls::default());
        let stop = CancellationToken::new();
        let builder = LaneBuilder {
            sharing: Sharing::Pool,
            limits,
            pool: pool.clone(),
            after_commit: after_commit.clone(),
            blocked: BlockedProducts::new(ProductLocks(pool.clone())),
            metrics,
            failed_calls: failed_calls.clone(),
            tasks: process.tasks.clone(),
            stop: stop.clone(),
        };
        let skus = keep(Skus::start(&builder));
        let product = keep(products::start(&builder));
        let bulkhead = Bulkhead::new(
            pool,
            after_commit,
            failed_calls,
            process.tasks.clone(),
            builder.products_of(),
        );
        let of_reserve = builder.with_own_connections(&monitoring_pool);
        Ok(Self(keep(Parts {
            access: keep(access),
            products: keep(products::Lists::start(&builder, product, skus)),
            product,
            skus,
            moved: keep(moved::start(&builder)),
            reservation: keep(reservations::start(&builder)),
            reserve: keep(reserve::start(&of_reserve, sale, lanes)),
            confirm: keep(confirm::start(&builder, sale)),
            cancel: keep(cancel::start(&builder, sale)),
            extend: keep(extend::start(&builder, sale)),
            bulkhead: keep(bulkhead),
            sale,
            timer: keep(timer),
            metrics,
            live: keep(live),
            monitoring_pool,
            cors,
            stop,
        })))
    }

    /// Connections for heartbeats and health checks only: an overloaded process must not look as if it were down.
    pub(crate) fn monitoring_pool(&self) -> PgPool {
        self.0.monitoring_pool.clone()
    }

    /// The rules for pages of other sites, if there are any.
    pub(crate) fn cors(&self) -> Option<cors::Rules> {
        self.0.cors.clone()
    }

    /// Ends the timers, and the lanes after their last answer. It is called when no request waits for an answer any
    /// more.
    pub(crate) fn close(&self) {
        self.0.stop.cancel();
        self.0.timer.close();
    }
}

/// A setting without a value in a `.env` file means "none", not "the empty token". A secret that was made with `echo` ends
/// with a newline.
fn given(setting: &Option<String>) -> Option<String> {
    let setting = setting.as_deref().map(str::trim);
    setting.filter(|text| !text.is_empty()).map(str::to_owned)
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        batch: settings.batch_max_requests.into(),
        depth: settings.lane_max_requests as usize,
        wait: Duration::from_millis(settings.lane_wait_milliseconds),
    }
}

fn access(
    settings: &Settings,
    address: SocketAddr,
    metrics: &Metrics,
    process: &Process,
) -> anyhow::Result<Access> {
    let admin_token = given(&settings.admin_token);
    let can_be_sent = |token: &String| token.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    ensure!(
        admin_token.as_ref().is_none_or(can_be_sent),
        "ADMIN_TOKEN must have only printable ASCII characters, because an HTTP header carries it"
    );
    let requests = metrics.client_requests();
    let keys = given(&settings.api_keys_file)
        .map(|path| Keys::follow(path.into(), requests, process))
        .transpose()?;
    Ok(Access::new(admin_token, address.ip().is_loopback(), keys))
}
