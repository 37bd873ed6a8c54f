//! Runs cases: both sides in turns, one load at a time, each round with a server and a database of its own.

use std::path::PathBuf;

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use serde::Serialize;

use crate::{
    cases::{Case, Clients, Figure, History, Sale, Server, Side},
    check::{self, Sold},
    database::{Cluster, Database, Products},
    history,
    load::{self, Plan, Seen},
    machine,
    metrics::{Answers, Batches},
    server::{Programs, Running},
    stats::{Goal, Summary, Verdict},
};

const WARM_UP_SECONDS: u32 = 1;
const HISTORY: &str = "bench_history";

/// Everything that the rounds of a run share.
pub(crate) struct Bench {
    pub(crate) cluster: Cluster,
    pub(crate) redis: MultiplexedConnection,
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
    pub(crate) ratio: Summary,
    pub(crate) verdict: Verdict,
    pub(crate) unit: &'static str,
    pub(crate) ours: Measured,
    pub(crate) theirs: Measured,
}

/// What one side of a case came to.
#[derive(Serialize)]
pub(crate) struct Measured {
    pub(crate) label: &'static str,
    #[serde(flatten)]
    pub(crate) summary: Summary,
    pub(crate) rounds: Vec<Round>,
}

/// One load on one server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    /// Answers that were asked for.
    pub(crate) wanted: u64,
    pub(crate) requests_per_second: f64,
    /// The server's count of all of its answers.
    pub(crate) answers: Answers,
    pub(crate) wrk: Seen,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batches: Option<Batches>,
    pub(crate) cpu_seconds: Cpu,
}

/// Processor time that the load cost, by process.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cpu {
    pub(crate) server: Option<f64>,
    pub(crate) postgres: Option<f64>,
    pub(crate) redis: Option<f64>,
    pub(crate) wrk: f64,
}

impl Figure {
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests/s",
            Self::P99 => "ms p99",
        }
    }

    fn of(self, round: &Round) -> f64 {
        match self {
            Self::RequestsPerSecond => round.requests_per_second,
            Self::P99 => round.wrk.p99_ms,
        }
    }
}

impl Bench {
    pub(crate) async fn run(&mut self, case: &'static Case) -> anyhow::Result<Outcome> {
        let needs_history = [&case.ours, &case.theirs]
            .iter()
            .any(|side| side.history == History::TenMillion);
        if needs_history && self.history.is_none() {
            let database = self.cluster.create(HISTORY).await?;
            history::write(&database).await?;
            self.history = Some(database);
        }
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for number in 1..=self.rounds {
            for (side, rounds) in [(&case.ours, &mut ours), (&case.theirs, &mut theirs)] {
                let clients = match case.clients {
                    Clients::Many => self.connections,
                    Clients::One => 1,
                };
                let round = self
                    .round(side, clients)
                    .await
                    .with_context(|| format!("{}, round {number}, {}", case.name, side.label))?;
                println!("  round {number}/{}  {}", self.rounds, line(side, &round));
                rounds.push(round);
            }
        }
        outcome(case, ours, theirs)
    }

    /// Drops the history, which is large.
    pub(crate) async fn clean_up(&mut self) -> anyhow::Result<()> {
        match self.history.take() {
            Some(database) => self.cluster.drop(&database.name).await,
            None => Ok(()),
        }
    }

    async fn round(&mut self, side: &Side, connections: u32) -> anyhow::Result<Round> {
        if let Some(database) = self
            .history
            .take_if(|_| side.history == History::TenMillion)
        {
            database.tidy().await?;
            self.cluster.checkpoint().await?;
            let round = self.round_in(&database, side, connections).await;
            self.history = Some(database);
            return round;
        }
        let database = self.cluster.create("bench_round").await?;
        let round = self.round_in(&database, side, connections).await;
        // This makes a checkpoint as well: what the round has written is not left to the next one.
        self.cluster.drop(&database.name).await?;
        round
    }

    async fn round_in(
        &mut self,
        database: &Database,
        side: &Side,
        connections: u32,
    ) -> anyhow::Result<Round> {
        redis::cmd("FLUSHDB").exec_async(&mut self.redis).await?;
        let products = self.open_sale(database, side).await?;
        let warm_up = match side.sale {
            Sale::Open(_) => self.open_sale(database, side).await?,
            // It is the warm-up that sells the product out.
            Sale::SoldOut => products,
        };
        let server = match (side.server, self.textbook_pool) {
            (Server::Textbook(_), Some(connections)) => Server::Textbook(connections),
            (server, _) => server,
        };
        let running = self.programs.start(server, &database.url).await?;
        self.load(&running, warm_up, connections, WARM_UP_SECONDS)
            .await?;

        let before = running.settled_metrics().await?;
        let cpu_before = self.cpu(&running).await?;
        let seen = self
            .load(&running, products, connections, self.seconds)
            .await?;
        let cpu_after = self.cpu(&running).await?;
        let after = running.settled_metrics().await?;

        let answers = after.answers_since(&before);
        let unseen = check::unseen(connections, &seen, &answers);
        let wanted = check::wanted_answers(side.sale, &seen, &answers, unseen)?;
        let sold = match side.sale {
            Sale::Open(_) => Sold::Answered {
                created: wanted,
                unseen,
            },
            Sale::SoldOut => Sold::All,
        };
        check::stored(
            side.server,
            &running,
            database,
            &mut self.redis,
            products,
            sold,
        )
        .await?;
        running.stop().await?;
        Ok(Round {
            wanted,
            requests_per_second: wanted as f64 / seen.seconds,
            answers,
            batches: after.batches_since(&before),
            cpu_seconds: cpu_after.since(cpu_before, seen.cpu_seconds),
            wrk: seen,
        })
    }

    async fn open_sale(&mut self, database: &Database, side: &Side) -> anyhow::Result<Products> {
        let products = database.open_sale(side.sale).await?;
        if side.server == Server::RedisGate {
            for id in products.first..products.first + i64::from(products.count) {
                redis::cmd("SET")
                    .arg(format!("stock:{id}"))
                    .arg(products.stock_each)
                    .exec_async(&mut self.redis)
                    .await?;
            }
        }
        Ok(products)
    }

    async fn load(
        &mut self,
        running: &Running,
        products: Products,
        connections: u32,
        seconds: u32,
    ) -> anyhow::Result<Seen> {
        self.loads += 1;
        let plan = Plan {
            base_url: &running.base_url,
            connections,
            seconds,
            first_product: products.first,
            products: products.count,
            number: self.loads,
        };
        load::run(&plan, &self.folder).await
    }

    async fn cpu(&mut self, running: &Running) -> anyhow::Result<Cpu> {
        let info: String = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut self.redis)
            .await?;
        let redis = info
            .lines()
            .find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok())
            .and_then(|pid| machine::named(pid, "redis"));
        Ok(Cpu {
            server: machine::cpu_seconds(running.pid),
            postgres: self.cluster.pid().await?.and_then(machine::cpu_seconds),
            redis: redis.and_then(machine::cpu_seconds),
            wrk: 0.0,
        })
    }
}

impl Cpu {
    fn since(self, before: Self, wrk: f64) -> Self {
        let used = |after: Option<f64>, before: Option<f64>| Some(after? - before?);
        Self {
            server: used(self.server, before.server),
            postgres: used(self.postgres, before.postgres),
            redis: used(self.redis, before.redis),
            wrk,
        }
    }
}

fn outcome(case: &Case, ours: Vec<Round>, theirs: Vec<Round>) -> anyhow::Result<Outcome> {
    let figures = |rounds: &[Round]| -> Vec<f64> {
        rounds.iter().map(|round| case.figure.of(round)).collect()
    };
    let (our_figures, their_figures) = (figures(&ours), figures(&theirs));
    let ratio = Summary::of_ratios(&our_figures, &their_figures)
        .with_context(|| format!("{} has no ratio", case.name))?;
    let measured = |side: &Side, figures: &[f64], rounds| -> anyhow::Result<Measured> {
        Ok(Measured {
            label: side.label,
            summary: Summary::of(figures).context("no rounds")?,
            rounds,
        })
    };
    Ok(Outcome {
        name: case.name,
        title: case.title,
        goal: case.goal,
        ratio,
        verdict: case.goal.verdict(ratio.median),
        unit: case.figure.unit(),
        ours: measured(&case.ours, &our_figures, ours)?,
        theirs: measured(&case.theirs, &their_figures, theirs)?,
    })
}

/// A line of progress.
fn line(side: &Side, round: &Round) -> String {
    let Round {
        requests_per_second,
        wrk,
        answers,
        ..
    } = round;
    let mut line = format!(
        "{:<16} {requests_per_second:>8.0} req/s   p50 {:>7.2} ms   p99 {:>7.2} ms",
        side.label, wrk.p50_ms, wrk.p99_ms
    );
    if let Some(batches) = &round.batches {
        line += &format!("   {:.0} a batch", batches.mean_requests);
    }
    let apart = answers.unavailable
        + answers.other
        + if side.sale == Sale::SoldOut {
            0
        } else {
            answers.conflict
        };
    if apart + wrk.socket_errors > 0 {
        line += &format!(
            "   NOT COUNTED: {apart} other answers, {} socket errors",
            wrk.socket_errors
        );
    }
    line
}
