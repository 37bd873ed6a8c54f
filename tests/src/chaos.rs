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

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use clients::Recent;
use injector::{Injected, Injection, Injector};
use journal::{Journal, Rules, lock};
use settle::RECOVERY_LIMIT;
use stack::{APIS, MEMBERS, Stack};

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
}

/// Runs once and prints the progress. Returns the number of violations. An error is one of the harness itself.
pub async fn run(settings: Settings) -> anyhow::Result<usize> {
    let limit = settings.faults + OVERHEAD_LIMIT;
    match timeout(limit, run_to_the_end(&settings)).await {
        Ok(violations) => violations,
        Err(_) => bail!("the run did not finish within {} s", limit.as_secs()),
    }
}

async fn run_to_the_end(settings: &Settings) -> anyhow::Result<usize> {
    fs::create_dir_all(&settings.logs).context("cannot create the folder for the logs")?;
    println!(
        "seed {}: {} s of faults; the processes' logs are in {}",
        settings.seed,
        settings.faults.as_secs(),
        settings.logs.display()
    );
    let stack = Arc::new(prepare(settings).await?);
    let journal = Arc::new(Journal::new(Rules {
        hold_micros: i64::from(HOLD_SECONDS) * 1_000_000,
        max_hold_micros: i64::from(MAX_HOLD_SECONDS) * 1_000_000,
        max_per_user: MAX_PER_USER,
    }));
    let mut background = JoinSet::new();
    background.spawn({
        let (url, journal) = (stack.rabbitmq.url.clone(), journal.clone());
        async move {
            consumer::run(url, journal).await;
            Ok(())
        }
    });
    background.spawn({
        let (stack, journal) = (stack.clone(), journal.clone());
        async move { stack.supervise(&journal).await }
    });
    for api in 0..APIS {
        background.spawn(viewer::watch(api, stack.clone(), journal.clone()));
    }
    let acts = act(settings, &stack, &journal);
    let (injected, skipped) = tokio::select! {
        done = acts => done?,
        // Neither task ends unless it fails.
        Some(failed) = background.join_next() => bail!("the harness failed: {failed:?}"),
    };
    let stored = settle::settle(&stack, &journal).await?;
    background.shutdown().await;
    settle::shut_down(&stack, &journal).await?;

    let (history, mut violations) = journal.close(stored);
    violations.extend(checker::check(&history));
    print!("{}", report::faults(&history, &injected, skipped));
    print!("{}", report::operations(&history));
    print!("{}", report::deliveries(&history));
    print!("{}", report::views(&history));
    print!("{}", report::recovery(&injected));
    print!("{}", report::violations(&history, &violations));
    println!("violations: {}", violations.len());
    Ok(violations.len())
}

/// Starts everything and makes sure that the queue is durable.
async fn prepare(settings: &Settings) -> anyhow::Result<Stack> {
    let stack = Stack::start(HOLD_SECONDS, MAX_HOLD_SECONDS, &settings.logs).await?;
    for member in 0..MEMBERS.len() {
        stack.start_member(member).await?;
    }
    let ready = timeout(RECOVERY_LIMIT, recovery::all_well(&stack));
    ready
        .await
        .context("not everything is ready at the start")?;
    consumer::bind_to_all(&stack.rabbitmq.url).await?;
    // RabbitMQ 3.10 can lose a quorum queue and all its confirmed messages when it is killed within seconds of the
    // declaration. That is not a failure of the service. An orderly restart makes the queue permanent.
    let rabbitmq = stack.rabbitmq.clone();
    spawn_blocking(move || {
        rabbitmq.stop();
        rabbitmq.start();
    })
    .await?;
    let ready = timeout(RECOVERY_LIMIT, recovery::all_well(&stack));
    ready
        .await
        .context("not everything is ready after RabbitMQ's restart")?;
    Ok(stack)
}

/// Runs clients and faults together, then clients alone until everything works again.
async fn act(
    settings: &Settings,
    stack: &Arc<Stack>,
    journal: &Arc<Journal>,
) -> anyhow::Result<(Vec<Injected>, usize)> {
    let (recent, stop) = (Arc::new(Recent::default()), CancellationToken::new());
    let mut clients = clients::start(settings.seed, stack, journal, &recent, &stop)?;
    let injected = Arc::default();
    let injector = Injector {
        stack: stack.clone(),
        journal: journal.clone(),
        recent,
        injected: Arc::clone(&injected),
    };
    let plan = plan::plan(settings.seed, settings.faults);
    let Injection {
        mut recovering,
        skipped,
    } = injector.run(plan).await?;
    // The last fault is over. From here on everything must recover.
    let recovered = timeout(RECOVERY_LIMIT, async {
        while let Some(recovered) = recovering.join_next().await {
            recovered?;
        }
        anyhow::Ok(())
    });
    if let Ok(recovered) = recovered.await {
        recovered?;
    }
    settle::wait_for_health(stack, journal).await;
    stop.cancel();
    while let Some(ended) = clients.join_next().await {
        ended?;
    }
    let mut injected: Vec<Injected> = lock(&injected).clone();
    injected.sort_by_key(|one| one.began);
    for one in injected.iter().filter(|one| one.recovered.is_none()) {
        journal.service_failed(format!("what this hit does not work again: {}", one.fault));
    }
    Ok((injected, skipped))
}
