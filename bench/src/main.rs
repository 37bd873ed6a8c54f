//! `flashsale-bench`: measures the product against comparators, as ratios in one run.
//!
//! `make bench` runs it with servers of its own; see `deploy/local/bench.sh`.

mod broker;
mod cases;
mod chart;
mod check;
mod choice;
mod database;
mod events;
mod history;
mod load;
mod machine;
mod metrics;
mod report;
mod reserves;
mod rounds;
#[cfg(test)]
mod sample;
mod serve;
mod server;
mod stats;
mod storm;

use std::{fs, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail};
use broker::Broker;
use cases::Case;
use clap::{Parser, Subcommand};
use database::Cluster;
use machine::Machine;
use report::{Report, Settings};
use rounds::Bench;
use server::Programs;
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
    /// Say what `run` would do, or what stands in its way.
    Plan(Choice),
    /// Name the servers that `run` needs.
    Servers(Choice),
    /// Run the cases and write the report.
    Run(Run),
    /// Serve one of the comparators.
    Serve(serve::Args),
}

#[derive(clap::Args)]
struct Choice {
    /// Cases, between commas or spaces; `all`; or nothing, for those that need little preparation.
    #[arg(long, env = "CASES", default_value = "", hide_default_value = true)]
    cases: String,

    /// How long each load runs, in seconds.
    #[arg(long, env = "SECONDS_PER_ROUND", default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds_per_round: u32,

    /// How many times the two sides of a case take turns.
    #[arg(long, env = "ROUNDS", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// How many connections wrk keeps busy.
    #[arg(long, env = "CONNECTIONS", default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(2..=4096))]
    connections: u32,
}

#[derive(clap::Args)]
struct Run {
    #[command(flatten)]
    choice: Choice,

    /// PostgreSQL, with the right to make databases: it makes and drops some whose names begin with bench_.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,

    /// Redis. Its database is emptied before every round.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis_url: String,

    /// RabbitMQ, for the cases with events. The queue `reservation-confirmed` is deleted before each of their
    /// rounds.
    #[arg(long, env = "AMQP_URL", hide_env_values = true)]
    amqp_url: Option<String>,

    /// Further arguments for flashsale-api, to try its settings.
    #[arg(
        long,
        env = "API_OPTIONS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    api_options: String,

    /// Connections of textbook to PostgreSQL, to find out how many suit it best. By default each case has its own.
    #[arg(long, env = "TEXTBOOK_POOL", value_parser = clap::value_parser!(u32).range(1..=150))]
    textbook_pool: Option<u32>,

    /// Where the report goes.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let Args { command, runtime } = Args::parse();
    let run = match command {
        Command::Serve(args) => {
            return runtime::run("flashsale-bench", &runtime, |process| {
                serve::serve(args, process)
            });
        }
        Command::Plan(choice) => start(plan(choice)),
        Command::Servers(choice) => choice::chosen(&choice.cases)
            .map(|cases| println!("{}", choice::servers(&cases).join(" "))),
        Command::Run(args) => start(until_interrupted(args)),
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
    let cases = choice::chosen(&choice.cases)?;
    load::find_wrk().await?;
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

/// Whatever ends it, the servers end with it: dropping a child kills it.
async fn until_interrupted(args: Run) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = run(args) => result,
        _ = terminate.recv() => bail!("interrupted"),
        _ = interrupt.recv() => bail!("interrupted"),
    }
}

async fn run(args: Run) -> anyhow::Result<()> {
    let Run {
        choice,
        database_url,
        redis_url,
        amqp_url,
        api_options,
        textbook_pool,
        out,
    } = args;
    let cases = choice::chosen(&choice.cases)?;
    load::find_wrk().await?;
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    // A report of an earlier run must not be taken for the report of one that failed.
    report::remove(&out)?;

    let cluster = Cluster::connect(&database_url).await?;
    let redis = redis::Client::open(redis_url.as_str())
        .context("REDIS_URL is not usable")?
        .get_multiplexed_async_connection()
        .await
        .context("cannot connect to Redis (REDIS_URL)")?;
    let broker = match &amqp_url {
        Some(url) => Some(Arc::new(Broker::connect(url).await?)),
        None => None,
    };
    let mut report = Report {
        date: OffsetDateTime::now_utc(),
        machine: Machine::here(),
        commit: machine::commit(),
        settings: Settings {
            seconds_per_round: choice.seconds_per_round,
            rounds: choice.rounds,
            connections: choice.connections,
            api_options: api_options.clone(),
            textbook_pool,
            postgres: cluster.version().await?,
        },
        outcomes: Vec::new(),
    };
    let mut bench = Bench {
        cluster,
        redis,
        broker,
        programs: Programs::beside_this(&out, &redis_url, amqp_url.as_deref(), &api_options)?,
        rounds: choice.rounds,
        seconds: choice.seconds_per_round,
        connections: choice.connections,
        textbook_pool,
        folder: out.clone(),
        history: None,
        loads: 0,
    };
    run_all(&mut bench, &cases, &mut report).await?;
    bench.clean_up().await?;
    report.write(&out)?;
    println!("\n{}", report.table());
    println!(
        "Written: {0}/report.json, {0}/report.md, {0}/report.svg",
        out.display()
    );
    Ok(())
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
        let outcome = bench.run(case).await?;
        println!(
            "  {} = {:.3} ({}); nothing oversold, audit clean",
            case.name,
            outcome.ratio.median,
            outcome.verdict.words()
        );
        report.outcomes.push(outcome);
    }
    Ok(())
}
