//! The wiring: what the handlers find in the router's state.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::ensure;
use axum::extract::FromRef;
use inventory::{database, event};
use lanes::Limits;
use live::{Live, Sources};
use presence::Feed;
use runtime::Process;
use sqlx::PgPool;
use timer::Timer;
use tokio_util::sync::CancellationToken;

use crate::{
    after_commit::AfterCommit,
    auth::Access,
    bulkhead::Bulkhead,
    cancel, code, confirm, extend,
    keys::Keys,
    lane_builder::{BlockedProducts, Connections, LaneBuilder, ProductLocks},
    metrics::Metrics,
    products, reservations, reserve,
    sale::Sale,
};

/// One for heartbeats, one for health checks.
const MONITORING_CONNECTIONS: u32 = 2;

/// Settings of the API.
#[derive(clap::Args, Clone)]
pub struct Settings {
    /// How long a hold lasts, in seconds.
    #[arg(long, env = "HOLD_SECONDS", default_value_t = 300,
        value_parser = clap::value_parser!(i32).range(1..=31_536_000))]
    pub hold_seconds: i32,

    /// The longest life of a hold that is extended, from its creation, in seconds.
    #[arg(long, env = "MAX_HOLD_SECONDS", default_value_t = 3600,
        value_parser = clap::value_parser!(i32).range(1..=31_536_000))]
    pub max_hold_seconds: i32,

    #[command(flatten)]
    pub events: event::Args,

    /// The bearer token of the admin routes. Without it they answer only on a loopback address.
    #[arg(long, env = "ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<String>,

    /// A file with the API keys that all other routes require: on each line a name and the SHA-256 of a key, as
    /// the command new-key makes it. Changes count within a second or so. Without it they are open.
    #[arg(long, env = "API_KEYS_FILE")]
    pub api_keys_file: Option<String>,

    /// Most requests in one call of PostgreSQL.
    #[arg(long, env = "BATCH_MAX_REQUESTS", default_value_t = 500,
        value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub batch_max_requests: u16,

    /// Most requests that wait in one lane; further ones are answered 503.
    #[arg(long, env = "LANE_MAX_REQUESTS", default_value_t = 5000,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub lane_max_requests: u32,

    /// Longest time that a request waits in a lane before it is answered 503, in milliseconds.
    #[arg(long, env = "LANE_WAIT_MILLISECONDS", default_value_t = 3000,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub lane_wait_milliseconds: u64,

    /// Lanes for reserves; the reserves of one product share one. Fewer lanes make larger batches, which cost less for
    /// each request; more lanes keep more connections of PostgreSQL busy.
    #[arg(long, env = "RESERVE_LANES", default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=64))]
    pub reserve_lanes: u16,
}

/// Cheap to clone: one for every connection.
#[derive(Clone)]
pub struct AppState(Arc<Parts>);

macro_rules! parts {
    ($($name:ident: $part:ty,)+) => {
        struct Parts {
            $($name: $part,)+
            monitoring_pool: PgPool,
            stop: CancellationToken,
        }

        $(impl FromRef<AppState> for $part {
            fn from_ref(state: &AppState) -> Self {
                state.0.$name.clone()
            }
        })+
    };
}

parts! {
    access: Arc<Access>,
    sale: Arc<Sale>,
    bulkhead: Arc<Bulkhead>,
    timer: Timer,
    metrics: Arc<Metrics>,
    live: Live,
    products: products::ListLanes,
    product: products::Lanes,
    reservation: reservations::Lanes,
    reserve: reserve::Lanes,
    confirm: confirm::Lanes,
    cancel: cancel::Lanes,
    extend: extend::Lanes,
}

impl AppState {
    /// Starts the lanes. `address` is what the API listens on.
    pub fn new(
        settings: Settings,
        pool: PgPool,
        timer: Timer,
        address: SocketAddr,
        process: &Process,
    ) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new(&process.registry)?);
        let access = access(&settings, address, &metrics, process)?;
        let monitoring_pool = database::beside(&pool, MONITORING_CONNECTIONS);
        let feed = Arc::new(Feed::default());
        let activity = {
            let metrics = Arc::clone(&metrics);
            move || metrics.activity()
        };
        let sources = Sources {
            pool: pool.clone(),
            monitoring_pool: monitoring_pool.clone(),
            timer: timer.clone(),
            feed: Arc::clone(&feed),
            activity,
            is_failure: code::is_failure,
        };
        let live = Live::start(sources, process);
        let after_commit = AfterCommit::new(timer.clone(), metrics.clone(), feed);
        let stop = CancellationToken::new();
        let builder = LaneBuilder {
            connections: Connections::Shared,
            limits: Limits {
                batch: settings.batch_max_requests.into(),
                depth: settings.lane_max_requests as usize,
                wait: Duration::from_millis(settings.lane_wait_milliseconds),
            },
            pool: pool.clone(),
            after_commit: after_commit.clone(),
            blocked: BlockedProducts::new(ProductLocks(pool.clone())),
            metrics: metrics.clone(),
            tasks: process.tasks.clone(),
            stop: stop.clone(),
        };
        let sale = Arc::new(Sale {
            hold_seconds: settings.hold_seconds,
            max_hold_seconds: settings.max_hold_seconds,
            events: settings.events.outbox_events,
        });
        Ok(Self(Arc::new(Parts {
            access: Arc::new(access),
            products: products::start_list(&builder),
            product: products::start(&builder),
            reservation: reservations::start(&builder),
            reserve: reserve::start(
                &builder.with_own_connections(),
                &sale,
                settings.reserve_lanes.into(),
            ),
            confirm: confirm::start(&builder, &sale),
            cancel: cancel::start(&builder, &sale),
            extend: extend::start(&builder, &sale),
            bulkhead: Arc::new(Bulkhead::new(pool, after_commit, process.tasks.clone())),
            sale,
            timer,
            metrics,
            live,
            monitoring_pool,
            stop,
        })))
    }

    /// For heartbeats and health checks: an overload must not look like a death.
    pub(crate) fn monitoring_pool(&self) -> PgPool {
        self.0.monitoring_pool.clone()
    }

    /// Ends the lanes once they have answered what they hold, and the timers. Called when nobody waits
    /// for an answer any more; a connection that never finished its request may still keep a clone.
    pub(crate) fn close(&self) {
        self.0.stop.cancel();
        self.0.timer.close();
    }
}

fn access(
    settings: &Settings,
    address: SocketAddr,
    metrics: &Metrics,
    process: &Process,
) -> anyhow::Result<Access> {
    // A `.env` file that names the setting without a value means "none", not "the empty token", and a secret that
    // `echo` has made ends in a newline.
    let given = |setting: &Option<String>| {
        let setting = setting.as_deref().map(str::trim);
        setting.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let admin_token = given(&settings.admin_token);
    let can_be_sent = |token: &String| token.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    ensure!(
        admin_token.as_ref().is_none_or(can_be_sent),
        "ADMIN_TOKEN must be of printable ASCII characters: no header could carry it"
    );
    let requests = metrics.client_requests();
    let keys = given(&settings.api_keys_file)
        .map(|path| Keys::follow(path.into(), requests, process))
        .transpose()?;
    Ok(Access::new(admin_token, address.ip().is_loopback(), keys))
}
