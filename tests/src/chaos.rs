//! `make chaos`: the real processes under load, faults drawn from a seed, and a checker that knows the guarantees.
//!
//! A seed determines the faults and the clients' plans. It does not determine how the processes interleave: two runs
//! with the same seed are similar, not equal.
//!
//! The design follows TigerBeetle's Vortex (real processes, weighted faults, liveness checked only after everything
//! is repaired) and Jepsen's histories, in which a missing answer counts as unknown, never as failed.

pub mod checker;
mod clients;
mod consumer;
mod describe;
mod ha;
pub mod history;
mod injector;
mod journal;
mod line;
mod plan;
mod recovery;
mod report;
mod settle;
mod stack;
mod viewer;
mod wire;
mod world;

pub use ha::kinds;

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use clients::Recent;
use ha::Machines;
use journal::{Journal, Rules};
use stack::Stack;
use world::{Injection, World};

/// Short, so that many holds expire, but long enough to confirm in time on a busy machine.
const HOLD_SECONDS: u32 = 4;
/// Allows some extensions in full and cuts others short.
const MAX_HOLD_SECONDS: u32 = 7;
/// Low, so that users reach the limit.
const MAX_PER_USER: i64 = 4;

/// Time limit of a run in addition to its faults. A run that takes longer hangs.
const OVERHEAD_LIMIT: Duration = Duration::from_secs(600);

pub struct Settings {
    pub seed: u64,
    /// Duration of the fault injection.
    pub faults: Duration,
    /// Folder for the logs of the processes.
    pub logs: PathBuf,
    /// Folder of the three machines that `deploy/local/ha.sh` has made. `None`: one machine.
    pub machines: Option<PathBuf>,
    /// The kinds of faults of three machines to draw from. Empty: all.
    pub only: Vec<String>,
    /// Time limits of three machines are this many times as long.
    pub slowness: u32,
}

/// Runs once and prints the progress. Returns the number of violations. An error is one of the harness itself.
pub async fn run(settings: Settings) -> anyhow::Result<usize> {
    let limit = settings.faults + OVERHEAD_LIMIT * settings.slowness;
    let run = async {
        fs::create_dir_all(&settings.logs).context("cannot create the folder for the logs")?;
        println!(
            "seed {}: {} s of faults; the processes' logs are in {}",
            settings.seed,
            settings.faults.as_secs(),
            settings.logs.display()
        );
        match &settings.machines {
            None => run_in(&Arc::new(Stack::prepare(&settings).await?), &settings).await,
            Some(folder) => {
                let machines = Machines::prepare(folder, &settings).await?;
                run_in(&Arc::new(machines), &settings).await
            }
        }
    };
    match timeout(limit, run).await {
        Ok(violations) => violations,
        Err(_) => bail!("the run did not finish within {} s", limit.as_secs()),
    }
}

async fn run_in<W: World>(world: &Arc<W>, settings: &Settings) -> anyhow::Result<usize> {
    let access = world.access();
    let rules = Rules {
        hold_micros: i64::from(HOLD_SECONDS) * 1_000_000,
        max_hold_micros: i64::from(MAX_HOLD_SECONDS) * 1_000_000,
        max_per_user: MAX_PER_USER,
    };
    let journal = Arc::new(Journal::new(rules, access.pages.len()));
    let mut background = JoinSet::new();
    background.spawn({
        let (access, journal) = (access.clone(), journal.clone());
        async move {
            consumer::run(access, journal).await;
            Ok(())
        }
    });
    background.spawn({
        let (world, journal) = (world.clone(), journal.clone());
        async move { world::supervise(world.members(), &journal).await }
    });
    for api in 0..access.pages.len() {
        background.spawn(viewer::watch(api, access.clone(), journal.clone()));
    }
    let acts = act(settings, world, &journal);
    let Injection { injected, skipped } = tokio::select! {
        done = acts => done?,
        // No task ends unless it fails.
        Some(failed) = background.join_next() => bail!("the harness failed: {failed:?}"),
    };
    let stored = settle::settle(&**world, &journal).await?;
    background.shutdown().await;
    settle::shut_down(world.members(), &journal).await?;

    let (history, mut violations) = journal.close(stored);
    violations.extend(checker::check(&history));
    print!("{}", report::faults(&history, &injected, skipped));
    print!("{}", report::operations(&history));
    print!("{}", report::deliveries(&history));
    print!("{}", report::views(&history));
    print!("{}", report::gaps(&injected));
    print!("{}", report::recovery(&injected));
    print!("{}", report::violations(&history, &violations));
    println!("violations: {}", violations.len());
    Ok(violations.len())
}

/// Runs clients and faults together, then clients alone until everything works again.
async fn act<W: World>(
    settings: &Settings,
    world: &Arc<W>,
    journal: &Arc<Journal>,
) -> anyhow::Result<Injection> {
    let (recent, stop) = (Arc::new(Recent::default()), CancellationToken::new());
    let mut clients = clients::start(settings.seed, world.access(), journal, &recent, &stop)?;
    let inject = async {
        let injection = world.inject(settings, journal, &recent).await?;
        settle::wait_for_health(&**world, journal).await;
        stop.cancel();
        anyhow::Ok(injection)
    };
    let (injection, ()) = tokio::try_join!(inject, world.watch(journal, &stop))?;
    while let Some(ended) = clients.join_next().await {
        ended?;
    }
    for one in &injection.injected {
        if one.recovered.is_none() {
            journal.service_failed(format!("what this hit does not work again: {}", one.what));
        }
    }
    Ok(injection)
}
