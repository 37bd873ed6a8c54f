//! `make chaos`; see [`flashsale_tests::chaos`].

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, builder::PossibleValuesParser};
use flashsale_tests::chaos::{self, Settings};
use tokio::signal::unix::{SignalKind, signal};

/// Runs the real processes under load, injects faults, and checks every promise.
#[derive(Parser)]
#[command(name = "flashsale-chaos", version)]
struct Args {
    /// Duration of the fault injection, in minutes.
    #[arg(long, env = "MINUTES", default_value = "2", value_parser = minutes)]
    minutes: Duration,

    /// Seed of the faults and clients. Random by default.
    #[arg(long, env = "SEED")]
    seed: Option<u64>,

    /// Folder for the logs of the processes.
    #[arg(long, default_value = "target/chaos")]
    logs: PathBuf,

    /// Runs on the three machines in this folder, which `deploy/local/ha.sh` makes.
    #[arg(long)]
    ha: Option<PathBuf>,

    /// Kinds of faults to draw from, on three machines. All by default.
    #[arg(long, env = "ONLY", value_delimiter = ' ', requires = "ha",
        value_parser = PossibleValuesParser::new(chaos::kinds()))]
    only: Vec<String>,

    /// Time limits on three machines are this many times as long.
    #[arg(long, env = "SLOWNESS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    slowness: u32,
}

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    // At most a week, because the history is kept in memory.
    if minutes > 0.0 && minutes <= 10_080.0 {
        Ok(Duration::from_secs_f64(minutes * 60.0))
    } else {
        Err("must be more than 0 and at most 10080".to_owned())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    // Short enough to type.
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let settings = Settings {
        seed,
        faults: args.minutes,
        logs: args.logs,
        machines: args.ha,
        only: args.only,
        slowness: args.slowness,
    };
    // Dropping the run stops its processes and servers, however it ends.
    tokio::select! {
        done = chaos::run(settings) => match done {
            Ok(0) => ExitCode::SUCCESS,
            Ok(_) => ExitCode::from(1),
            Err(error) => {
                eprintln!("chaos: {error:#}");
                ExitCode::from(2)
            }
        },
        () = told_to_stop() => ExitCode::from(130),
    }
}

async fn told_to_stop() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        // A second signal ends the program at once.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
