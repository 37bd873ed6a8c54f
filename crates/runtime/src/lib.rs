//! What every process needs: telemetry, signals, graceful shutdown, health and metrics routes, retry delays, outages,
//! purging, and common gauges. The HTTP server is the crate `http-server`.

#![warn(missing_docs)]

pub mod age;
pub mod gauges;
pub mod health;
pub mod outage;
pub mod purge;
pub mod retry;

use std::{
    io::IsTerminal as _,
    process::ExitCode,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use prometheus::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Settings of every process.
#[derive(clap::Args, Clone)]
// Several flattened groups are called `Args`, and clap refuses groups of the same name.
#[group(skip)]
pub struct Args {
    /// Log filter in the syntax of `tracing`: `info`, `warn,flashsale_relay=debug`, …
    #[arg(
        long,
        env = "RUST_LOG",
        default_value = "info,sqlx::postgres::notice=warn"
    )]
    pub log: String,

    /// Format of the log lines.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,

    /// Time limit of the graceful shutdown, in seconds. It starts after the drain, if the process has one.
    #[arg(long, env = "SHUTDOWN_SECONDS", default_value_t = 20)]
    pub shutdown_seconds: u64,
}

/// Format of the log lines.
#[derive(Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

/// The context that a process's main function gets.
#[derive(Clone)]
pub struct Process {
    /// Cancelled at the first SIGTERM or SIGINT: the process is no longer ready, but still does its work.
    pub draining: CancellationToken,
    /// Cancelled after the drain: accept no new work, and finish the work in flight.
    pub shutdown: CancellationToken,
    /// Tasks that must finish before the process ends.
    pub tasks: TaskTracker,
    /// All metrics of the process.
    pub registry: Registry,
}

impl Process {
    /// A context without signal handling, for tests that run a process within their own.
    pub fn detached() -> Self {
        Self {
            draining: CancellationToken::new(),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            registry: Registry::new(),
        }
    }
}

/// Runs `main` until it returns, and returns the exit code of the process.
///
/// After SIGTERM, the process works on for the time of `drain`, but says that it is not ready, so that load balancers
/// send no further requests. SIGINT comes from a person, so no drain follows. Then `main` has `shutdown_seconds` to
/// return. Unfinished work is abandoned and an error is logged: an orchestrator would kill the process without a log
/// line. A second signal ends the process at once.
pub fn run<F, Fut>(name: &'static str, args: &Args, drain: Duration, main: F) -> ExitCode
where
    F: FnOnce(Process) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    match start(name, args, drain, main) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(process = name, "{error:#}");
            // An invalid setting can fail before logging is set up. Then this line is all that an operator sees.
            if !tracing::dispatcher::has_been_set() {
                eprintln!("{name}: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn start<F, Fut>(name: &'static str, args: &Args, drain: Duration, main: F) -> anyhow::Result<()>
where
    F: FnOnce(Process) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    init_telemetry(args)?;
    check_ca_file()?;
    let spans = trace::Exporter::start(name)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let result = runtime.block_on(async {
        let process = Process::detached();
        gauges::show_process(name, &process.registry)?;
        listen_for_signals(process.clone(), drain)?;
        let limit = Duration::from_secs(args.shutdown_seconds);
        let work = async {
            main(process.clone()).await?;
            process.tasks.close();
            process.tasks.wait().await;
            if process.shutdown.is_cancelled() {
                tracing::info!(process = name, "stopped");
            }
            anyhow::Ok(())
        };
        tokio::select! {
            result = work => result,
            () = elapsed_after(&process.shutdown, limit) => Err(anyhow::anyhow!(
                "work was still unfinished {} s after the start of the shutdown", limit.as_secs()
            )),
        }
    });
    // Blocking work, such as a DNS lookup, must not delay the end of the process.
    runtime.shutdown_background();
    spans.stop();
    result
}

/// Locks a mutex and ignores poisoning. Only for data that a panic cannot leave half-changed.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns `limit` after the signal to stop.
async fn elapsed_after(shutdown: &CancellationToken, limit: Duration) {
    shutdown.cancelled().await;
    tokio::time::sleep(limit).await;
}

fn listen_for_signals(process: Process, drain: Duration) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::spawn(async move {
        let drain = tokio::select! {
            _ = terminate.recv() => drain,
            _ = interrupt.recv() => Duration::ZERO,
        };
        process.draining.cancel();
        if !drain.is_zero() {
            tracing::info!("signal received: not ready any more, and serving for {drain:?}");
        }
        let stopping = async {
            tokio::time::sleep(drain).await;
            tracing::info!("signal received: finishing the work in flight");
            process.shutdown.cancel();
            std::future::pending().await
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stopping => {}
        }
        tracing::warn!("second signal: stopping at once");
        std::process::exit(1);
    });
    Ok(())
}

/// Checks the file in `SSL_CERT_FILE`, which replaces the system's certificate authorities. The clients of all three
/// servers read it themselves on every connect. They would report a bad file late, or as an error of the server.
fn check_ca_file() -> anyhow::Result<()> {
    let Some(path) = std::env::var_os("SSL_CERT_FILE") else {
        return Ok(());
    };
    let (pem, path) = (std::fs::read_to_string(&path), path.display());
    let pem = pem.with_context(|| format!("SSL_CERT_FILE {path} cannot be read"))?;
    ensure!(
        pem.contains("-----BEGIN CERTIFICATE-----"),
        "SSL_CERT_FILE {path} has no certificate in PEM"
    );
    Ok(())
}

fn init_telemetry(args: &Args) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&args.log)
        .with_context(|| format!("RUST_LOG is not a log filter: {:?}", args.log))?
        // The pool logs each attempt to connect to a read-only PostgreSQL. The processes log the condition, once.
        .add_directive("sqlx_core::pool::inner=off".parse()?);
    let registry = tracing_subscriber::registry().with(filter);
    match args.log_format {
        LogFormat::Text => registry
            .with(
                fmt::layer()
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_writer(std::io::stderr),
            )
            .try_init(),
        LogFormat::Json => registry
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    }
    .context("cannot start logging")
}
