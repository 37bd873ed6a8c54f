//! The comparators: other implementations of the same routes.
//!
//! They share the product's HTTP stack, JSON types and problem details, so that only the execution of a request
//! differs. They leave out everything else that the product does, such as timing each request: that is part of the
//! product's cost, not of theirs.

mod contract;
mod noop;
mod redis_gate;
mod textbook;

use std::{net::SocketAddr, time::Duration};

use axum::{
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::Response,
};
use prometheus::{IntCounter, IntCounterVec, Registry, register_int_counter_vec_with_registry};
use redis::aio::MultiplexedConnection;
use runtime::{Process, health::Health};

#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// The comparator.
    #[arg(value_enum)]
    name: Name,

    /// Address to listen on.
    #[arg(
        long,
        visible_alias = "listen",
        env = "LISTEN_ADDR",
        default_value = "127.0.0.1:8090"
    )]
    listen_addr: SocketAddr,

    /// PostgreSQL with the product's schema, for textbook. The default pool suits one hot product.
    #[command(flatten)]
    database: inventory::database::Args,

    #[command(flatten)]
    http: http_server::Limits,

    /// Redis, for redis-gate and textbook.
    #[arg(
        long,
        env = "REDIS_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379/0"
    )]
    redis_url: String,
}

#[derive(clap::ValueEnum, Clone, Copy)]
enum Name {
    /// Answers 201 with a made-up reservation: the limit set by HTTP.
    Noop,
    /// One Lua script in Redis per request, and nothing durable.
    RedisGate,
    /// One transaction in PostgreSQL per request.
    Textbook,
}

/// Serves a comparator until told to stop.
pub(crate) async fn serve(args: Args, process: Process) -> anyhow::Result<()> {
    let router = match args.name {
        Name::Noop => noop::router(),
        Name::RedisGate => redis_gate::router(connect(&args.redis_url).await?).await?,
        Name::Textbook => {
            let pool = inventory::database::connect(&args.database, "flashsale-bench textbook")?;
            textbook::router(pool, connect(&args.redis_url).await?)
        }
    };
    let router = router
        .layer(middleware::from_fn_with_state(
            Answers::new(&process.registry)?,
            count,
        ))
        .merge(Health::of(&process).router(process.registry.clone()));
    let listener = http_server::listen(args.listen_addr).await?;
    let grace = Duration::from_secs(5);
    let limits = args
        .http
        .beside_descriptors(args.database.database_max_connections);
    http_server::serve(
        listener,
        router,
        limits,
        &process.registry,
        process.shutdown,
        grace,
    )
    .await
}

async fn connect(redis_url: &str) -> anyhow::Result<MultiplexedConnection> {
    let config =
        redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
    let client = redis::Client::open(redis_url)?;
    Ok(client
        .get_multiplexed_async_connection_with_config(&config)
        .await?)
}

/// Counts the answers by status, with the product's metric name, so that the runner reads both alike. The counters
/// are looked up once, so that counting costs almost nothing.
#[derive(Clone)]
struct Answers {
    usual: [(StatusCode, IntCounter); 3],
    all: IntCounterVec,
}

impl Answers {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let all = register_int_counter_vec_with_registry!(
            "http_requests_total",
            "Requests answered.",
            &["method", "route", "status"],
            registry
        )?;
        let usual = [StatusCode::CREATED, StatusCode::CONFLICT, StatusCode::OK]
            .map(|status| (status, Self::of(&all, status)));
        Ok(Self { usual, all })
    }

    fn of(all: &IntCounterVec, status: StatusCode) -> IntCounter {
        // No reserve is answered 200.
        let (method, route) = match status {
            StatusCode::OK => ("GET", "/products/{id}"),
            _ => ("POST", "/reservations"),
        };
        all.with_label_values(&[method, route, status.as_str()])
    }
}

async fn count(State(answers): State<Answers>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    match answers.usual.iter().find(|(usual, _)| *usual == status) {
        Some((_, counter)) => counter.inc(),
        None => Answers::of(&answers.all, status).inc(),
    }
    response
}
