//! `flashsale-bench`: measures the product against comparators, as ratios in one run.
//!
//! `make bench` runs it with servers of its own; see `deploy/local/bench.sh`.

#![allow(
    clippy::too_many_lines,
    clippy::disallowed_methods,
    reason = "the rules for the service's own code: a comparator is not the service"
)]

mod bench;
mod broker;
mod case;
mod cases;
mod chart;
mod check;
mod choice;
mod compare;
mod database;
mod delay;
mod events;
mod files;
mod history;
mod load;
mod machine;
mod markdown;
mod metrics;
mod neighbour;
mod number;
mod outcome;
mod reads;
mod report;
mod reserves;
mod round;
mod rounds;
#[cfg(test)]
mod sample;
mod serve;
mod server;
mod snapshot;
mod standby;
mod stats;
mod storm;

use std::{fs, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use bench::Bench;
use broker::Broker;
use case::Case;
use clap::{Parser, Subcommand};
use database::Cluster;
use load::Wrk;
use machine::Machine;
use report::{Report, Settings};
use server::Programs;
use standby::Replicated;
use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};

/// Measures flashsale against other designs, on this machine.
#[derive(Parser)]
#[command(name = "flashsale-bench", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    runtime: runtime::Args,
}

#[derive(Subcommand)]
enum Command {
    /// Say what `run` would do, or why it cannot.
    Plan(Choice),
    /// Name the servers that `run` needs.
    Servers(Choice),
    /// Run the cases and write the report.
    Run(Run),
    /// Print the processor time of our side of the cases, by an older build and by this one.
    Compare(Compare),
    /// Serve one of the comparators.
    Serve(serve::Args),
}

#[derive(clap::Args)]
struct Choice {
    /// Cases, separated by commas or spaces; `production` for those with production settings; `all`; or nothing, for
    /// all that do not take minutes.
    #[arg(long, env = "CASES", default_value = "", hide_default_value = true)]
    cases: String,

    /// Duration of each load, in seconds.
    #[arg(long, env = "SECONDS_PER_ROUND", default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds_per_round: u32,

    /// Number of rounds of each side.
    #[arg(long, env = "ROUNDS", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Number of connections of wrk.
    #[arg(long, env = "CONNECTIONS", default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(2..=4096))]
    connections: u32,
}

#[derive(clap::Args)]
struct Run {
    #[command(flatten)]
    choice: Choice,

    /// PostgreSQL, with the right to create databases. Databases named bench_… are created and dropped.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,

    /// Redis. Its database is emptied before every round.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis_url: String,

    /// RabbitMQ, for the cases with events. The queue `reservation-confirmed` is deleted before each of their rounds.
    #[arg(long, env = "AMQP_URL", hide_env_values = true)]
    amqp_url: Option<String>,

    /// A PostgreSQL with one synchronous standby, for the cases with one. The role must be allowed to see the
    /// standby's state (pg_read_all_stats) and to end its connection, so the standby must connect with the same role.
    #[arg(
        long,
        env = "SYNC_DATABASE_URL",
        hide_env_values = true,
        requires = "sync_proxy_port"
    )]
    sync_database_url: Option<String>,

    /// The port of 127.0.0.1 where that standby looks for its primary first. While nothing listens there, the standby
    /// must connect directly.
    #[arg(long, env = "SYNC_PROXY_PORT")]
    sync_proxy_port: Option<u16>,

    /// Further arguments for flashsale-api, to try its settings.
    #[arg(
        long,
        env = "API_OPTIONS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    api_options: String,

    /// Number of connections of textbook to PostgreSQL, to find the best one. By default each case has its own.
    #[arg(long, env = "TEXTBOOK_POOL", value_parser = clap::value_parser!(u32).range(1..=150))]
    textbook_pool: Option<u32>,

    /// Folder for the report.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

#[derive(clap::Args)]
struct Compare {
    #[command(flatten)]
    run: Run,

    /// Folder of the older build's programs.
    #[arg(long, env = "OLDER")]
    older: PathBuf,
}

fn main() -> ExitCode {
    let Args { command, runtime } = Args::parse();
    let run = match command {
        Command::Serve(args) => {
            return runtime::run("flashsale-bench", &runtime, Duration::ZERO, |process| {
                serve::serve(args, process)
            });
        }
        Command::Plan(choice) => start(plan(choice)),
        Command::Servers(choice) => choice::chosen(&choice.cases)
            .map(|cases| println!("{}", choice::servers(&cases).join(" "))),
        Command::Run(args) => start(until_interrupted(run(args))),
        Command::Compare(args) => start(until_interrupted(compare(args))),
    };
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

async fn plan(choice: Choice) -> anyhow::Result<()> {
    let cases = check_choice(&choice).await?;
    let about = choice::about(&cases, choice.rounds, choice.seconds_per_round);
    println!(
        "{} cases, {} rounds of {} s for each side, {} connections: about {} min",
        cases.len(),
        choice.rounds,
        choice.seconds_per_round,
        choice.connections,
        about.as_secs().div_ceil(60)
    );
    Ok(())
}

/// The selected cases. Fails if this machine lacks something that they need.
async fn check_choice(choice: &Choice) -> anyhow::Result<Vec<&'static Case>> {
    let cases = choice::chosen(&choice.cases)?;
    choice::check_open_files(&cases, choice.connections, machine::open_files_limit())?;
    Wrk::find().await?;
    Ok(cases)
}

/// Dropping the work stops its servers, however it ends.
async fn until_interrupted(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = work => result,
        _ = terminate.recv() => bail!("interrupted"),
        _ = interrupt.recv() => bail!("interrupted"),
    }
}

/// The selected cases. Makes the folder for the report.
async fn check(args: &Run) -> anyhow::Result<Vec<&'static Case>> {
    let cases = check_choice(&args.choice).await?;
    ensure!(
        args.sync_database_url.is_some() || !choice::needs_standby(&cases),
        "a case needs a PostgreSQL with a synchronous standby: SYNC_DATABASE_URL is not set"
    );
    let out = &args.out;
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    Ok(cases)
}

async fn compare(args: Compare) -> anyhow::Result<()> {
    let run = &args.run;
    let cases = check(run).await?;
    let older = Programs::in_folder(
        &args.older,
        &run.out,
        &run.redis_url,
        run.amqp_url.as_deref(),
        &run.api_options,
    )?;
    connect(run).await?.compare(older, &cases).await
}

async fn run(args: Run) -> anyhow::Result<()> {
    let (choice, out) = (&args.choice, &args.out);
    let cases = check(&args).await?;
    // If this run fails, the report of an earlier run must not remain.
    files::remove(out)?;

    let mut bench = connect(&args).await?;
    let mut report = Report {
        date: OffsetDateTime::now_utc(),
        machine: Machine::here(),
        commit: machine::commit(),
        settings: Settings {
            seconds_per_round: choice.seconds_per_round,
            rounds: choice.rounds,
            connections: choice.connections,
            api_options: args.api_options.clone(),
            textbook_pool: args.textbook_pool,
            postgres: bench.cluster.version().await?,
        },
        outcomes: Vec::new(),
    };
    run_all(&mut bench, &cases, &mut report).await?;
    bench.clean_up().await?;
    files::write(&report, out)?;
    println!("\n{}", markdown::table(&report));
    println!(
        "Written: {0}/report.json, {0}/report.md, {0}/report.svg",
        out.display()
    );
    Ok(())
}

/// A round of minutes leaves millions of timers in Redis, and to forget them takes seconds.
const REDIS_RESPONSE_LIMIT: Duration = Duration::from_secs(60);

/// Connects to all servers in the settings.
async fn connect(args: &Run) -> anyhow::Result<Bench> {
    let redis =
        redis::AsyncConnectionConfig::new().set_response_timeout(Some(REDIS_RESPONSE_LIMIT));
    let redis = redis::Client::open(args.redis_url.as_str())
        .context("REDIS_URL is not usable")?
        .get_multiplexed_async_connection_with_config(&redis)
        .await
        .context("cannot connect to Redis (REDIS_URL)")?;
    let broker = match &args.amqp_url {
        Some(url) => Some(Arc::new(Broker::connect(url).await?)),
        None => None,
    };
    let replicated = match args.sync_database_url.as_ref().zip(args.sync_proxy_port) {
        Some((url, port)) => Some(Replicated::connect(url, port).await?),
        None => None,
    };
    let programs = Programs::beside_this(
        &args.out,
        &args.redis_url,
        args.amqp_url.as_deref(),
        &args.api_options,
    )?;
    Ok(Bench {
        cluster: Cluster::connect(&args.database_url).await?,
        redis,
        broker,
        replicated,
        programs,
        wrk: Wrk::in_folder(&args.out)?,
        rounds: args.choice.rounds,
        seconds: args.choice.seconds_per_round,
        connections: args.choice.connections,
        textbook_pool: args.textbook_pool,
        history: None,
    })
}

async fn run_all(
    bench: &mut Bench,
    cases: &[&'static Case],
    report: &mut Report,
) -> anyhow::Result<()> {
    for (position, case) in cases.iter().enumerate() {
        println!(
            "[{}/{}] {}: {}",
            position + 1,
            cases.len(),
            case.name,
            case.title
        );
        let outcome = bench.run(case, &report.outcomes).await?;
        println!(
            "  {} = {:.3} ({}); no overselling, audit clean",
            case.name,
            outcome.ratio.median,
            outcome.verdict.words()
        );
        report.outcomes.push(outcome);
    }
    Ok(())
}
