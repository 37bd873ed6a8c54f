//! `make chaos`: the real processes under load, faults drawn from a seed, and a checker that knows the guarantees.
//!
//! A seed determines the faults and the clients' plans. It does not determine how the processes interleave: two runs
//! with the same seed are similar, not equal.
//!
//! The design follows TigerBeetle's Vortex (real processes, weighted faults, liveness checked only after everything
//! is repaired) and Jepsen's histories, in which a missing answer counts as unknown, never as failed.
//!
//! Which module does what, from the bottom to the top. Each uses only modules in its own line and above, and none
//! uses itself by way of others:
//!
//! | modules | what |
//! |---|---|
//! | `clock`, `settings`, `sale` | times, the settings of a run, the rules of every sale |
//! | `history`, `describe` | what a run records, and its parts as text |
//! | `checker` | judges: a pure function of the history |
//! | `journal` | records while the run goes on |
//! | `access`, `member`, `parse` | addresses, copies of the processes, JSON |
//! | `wire`, `recent`, `clients`, `consumer`, `viewer` | use the service: shoppers, a consumer of events, viewers of the live page |
//! | `world` | what a run needs to know about an installation |
//! | `one_machine`, `ha` | two worlds: each starts its installation, plans faults, injects them, and sees what works |
//! | `settle`, `stored` | after the last fault: wait for the end of all work, and read the final state |
//! | `report` | prints |

mod access;
mod checker;
mod clients;
mod clock;
mod consumer;
mod describe;
mod ha;
mod history;
mod journal;
mod member;
mod one_machine;
mod parse;
mod recent;
mod report;
mod sale;
mod settings;
mod settle;
mod stored;
mod viewer;
mod wire;
mod world;

pub use ha::kinds;
pub use settings::Settings;

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use journal::Journal;
use recent::Recent;
use world::{Injection, World};

/// Time limit of a run in addition to its faults. A run that takes longer hangs.
const OVERHEAD_LIMIT: Duration = Duration::from_secs(600);

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
            None => {
                let stack = one_machine::prepare(&settings).await?;
                run_in(&Arc::new(stack), &settings).await
            }
            Some(folder) => {
                let machines = ha::prepare(folder, &settings).await?;
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
    let journal = Arc::new(Journal::new(access.pages.len()));
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
        async move { member::supervise(world.members(), &journal).await }
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
    print!("{}", report::lines(&history));
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
