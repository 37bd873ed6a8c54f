//! Runs cases: both sides in turns, one load at a time, each round with a server and a database of its own.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use serde::Serialize;

use crate::{
    broker::Broker,
    cases::{Case, Figure, History, Reserves, Side, Work},
    database::{Cluster, Database},
    history, machine,
    reserves::Load,
    server::{Programs, Running},
    stats::{Goal, Latency, Summary, Verdict},
};

const HISTORY: &str = "bench_history";

/// Everything that the rounds of a run share.
pub(crate) struct Bench {
    pub(crate) cluster: Cluster,
    pub(crate) redis: MultiplexedConnection,
    /// RabbitMQ, if a case needs it.
    pub(crate) broker: Option<Arc<Broker>>,
    pub(crate) programs: Programs,
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) connections: u32,
    /// In place of the cases' own choices of connections for textbook.
    pub(crate) textbook_pool: Option<u32>,
    /// Where wrk's script goes.
    pub(crate) folder: PathBuf,
    /// The database with the history, once it has been written.
    pub(crate) history: Option<Database>,
    pub(crate) loads: u64,
}

/// What a case came to.
#[derive(Serialize)]
pub(crate) struct Outcome {
    #[serde(skip)]
    pub(crate) name: &'static str,
    #[serde(skip)]
    pub(crate) title: &'static str,
    #[serde(flatten)]
    pub(crate) goal: Goal,
    /// Ours to theirs; ours itself where there is no other side.
    pub(crate) ratio: Summary,
    pub(crate) verdict: Verdict,
    pub(crate) unit: &'static str,
    pub(crate) ours: Measured,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) theirs: Option<Measured>,
}

/// What one side of a case came to.
#[derive(Serialize)]
pub(crate) struct Measured {
    pub(crate) label: &'static str,
    #[serde(flatten)]
    pub(crate) summary: Summary,
    pub(crate) rounds: Vec<Round>,
}

/// One run of one side.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    /// Units of work: answers that were asked for, events, or holds.
    pub(crate) wanted: u64,
    pub(crate) seconds: f64,
    #[serde(flatten)]
    pub(crate) latency: Option<Latency>,
    pub(crate) cpu_seconds: Cpu,
    #[serde(flatten)]
    pub(crate) load: Option<Load>,
}

/// Processor time that the work cost, by process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Cpu {
    /// Of the processes that were started for the round.
    pub(crate) server: Option<f64>,
    pub(crate) postgres: Option<f64>,
    pub(crate) redis: Option<f64>,
    pub(crate) rabbitmq: Option<f64>,
    pub(crate) wrk: Option<f64>,
}

impl Figure {
    /// `None` where the round has no such figure.
    fn of(self, round: &Round) -> Option<f64> {
        match self {
            Self::PerSecond(_) => Some(round.wanted as f64 / round.seconds),
            Self::P50 => Some(round.latency?.p50_ms),
            Self::P99 => Some(round.latency?.p99_ms),
            Self::Seconds => Some(round.seconds),
        }
    }
}

impl Bench {
    pub(crate) async fn run(&mut self, case: &'static Case) -> anyhow::Result<Outcome> {
        if case.needs(has_history) && self.history.is_none() {
            let database = self.cluster.create(HISTORY).await?;
            history::write(&database).await?;
            self.history = Some(database);
        }
        let mut sides: Vec<(&Side, Vec<Round>)> =
            case.sides().map(|side| (side, Vec::new())).collect();
        for number in 1..=self.rounds {
            for (side, rounds) in &mut sides {
                let round = self
                    .round(side)
                    .await
                    .with_context(|| format!("{}, round {number}, {}", case.name, side.label))?;
                let line = line(side, case.figure, &round);
                println!("  round {number}/{}  {line}", self.rounds);
                rounds.push(round);
            }
        }
        outcome(case, sides)
    }

    /// Drops the history, which is large.
    pub(crate) async fn clean_up(&mut self) -> anyhow::Result<()> {
        match self.history.take() {
            Some(database) => self.cluster.drop(&database.name).await,
            None => Ok(()),
        }
    }

    async fn round(&mut self, side: &Side) -> anyhow::Result<Round> {
        if let Some(database) = self.history.take_if(|_| has_history(side.work)) {
            database.tidy().await?;
            self.cluster.checkpoint().await?;
            let round = self.round_in(&database, side).await;
            self.history = Some(database);
            return round;
        }
        let database = self.cluster.create("bench_round").await?;
        let round = self.round_in(&database, side).await;
        // This makes a checkpoint as well: what the round has written is not left to the next one.
        self.cluster.drop(&database.name).await?;
        round
    }

    async fn round_in(&mut self, database: &Database, side: &Side) -> anyhow::Result<Round> {
        redis::cmd("FLUSHDB").exec_async(&mut self.redis).await?;
        match side.work {
            Work::Reserves(reserves) => self.reserves(database, reserves).await,
            Work::Events(events) => self.events(database, events).await,
            Work::Expiry(expiry) => self.expiry(database, expiry).await,
        }
    }

    /// What the processes have used so far, those that were started for the round together.
    pub(crate) async fn cpu(&mut self, running: &[&Running]) -> anyhow::Result<Cpu> {
        let info: String = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut self.redis)
            .await?;
        let redis = info
            .lines()
            .find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok())
            .and_then(|pid| machine::named(pid, "redis"));
        let of_ours = running
            .iter()
            .map(|running| machine::cpu_seconds(running.pid));
        Ok(Cpu {
            server: of_ours.sum(),
            postgres: self.cluster.pid().await?.and_then(machine::cpu_seconds),
            redis: redis.and_then(machine::cpu_seconds),
            rabbitmq: self.broker.as_ref().and_then(|broker| broker.cpu_seconds()),
            wrk: None,
        })
    }
}

impl Cpu {
    pub(crate) fn since(self, before: Self) -> Self {
        let used = |after: Option<f64>, before: Option<f64>| Some(after? - before?);
        Self {
            server: used(self.server, before.server),
            postgres: used(self.postgres, before.postgres),
            redis: used(self.redis, before.redis),
            rabbitmq: used(self.rabbitmq, before.rabbitmq),
            wrk: None,
        }
    }
}

fn has_history(work: Work) -> bool {
    let ten_million = History::TenMillion;
    matches!(work, Work::Reserves(Reserves { history, .. }) if history == ten_million)
}

fn outcome(case: &Case, sides: Vec<(&Side, Vec<Round>)>) -> anyhow::Result<Outcome> {
    let mut measured = Vec::new();
    for (side, rounds) in sides {
        let figures: Option<Vec<f64>> = rounds.iter().map(|round| case.figure.of(round)).collect();
        let figures = figures.with_context(|| format!("{} has no figure", side.label))?;
        let summary = Summary::of(&figures).context("no rounds")?;
        let label = side.label;
        measured.push((
            Measured {
                label,
                summary,
                rounds,
            },
            figures,
        ));
    }
    let mut measured = measured.into_iter();
    let (ours, our_figures) = measured.next().context("no side")?;
    let theirs = measured.next();
    let ratio = match &theirs {
        Some((_, their_figures)) => Summary::of_ratios(&our_figures, their_figures),
        None => Some(ours.summary),
    };
    let ratio = ratio.with_context(|| format!("{} has no ratio", case.name))?;
    Ok(Outcome {
        name: case.name,
        title: case.title,
        goal: case.goal,
        ratio,
        verdict: case.goal.verdict(ratio.median),
        unit: case.figure.unit(),
        ours,
        theirs: theirs.map(|(theirs, _)| theirs),
    })
}

/// A line of progress.
fn line(side: &Side, figure: Figure, round: &Round) -> String {
    let mut line = format!("{:<16}", side.label);
    line += &match figure {
        Figure::PerSecond(unit) => {
            format!(" {:>8.0} {unit}", round.wanted as f64 / round.seconds)
        }
        Figure::P50 | Figure::P99 | Figure::Seconds => format!(" {:>8.3} s", round.seconds),
    };
    if let Some(Latency { p50_ms, p99_ms }) = round.latency {
        line += &format!("   p50 {p50_ms:>7.2} ms   p99 {p99_ms:>7.2} ms");
    }
    line + &round.load.as_ref().map(Load::words).unwrap_or_default()
}
