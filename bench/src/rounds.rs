//! Runs cases: both sides alternate, one load at a time. Each round has its own server and database.

use anyhow::Context as _;

use crate::{
    bench::Bench,
    case::{Case, Side, Standby, Work},
    database::{Cluster, Database},
    history,
    outcome::{self, Outcome, Turns},
    round::Round,
};

const HISTORY: &str = "bench_history";

impl Bench {
    /// Runs a case, unless an earlier case had the same sides: then its rounds are used.
    pub(crate) async fn run(
        &mut self,
        case: &'static Case,
        earlier: &[Outcome],
    ) -> anyhow::Result<Outcome> {
        if let Some(outcome) = Outcome::of_earlier(case, earlier)? {
            println!(
                "  the same rounds as {}",
                outcome.same_rounds_as.unwrap_or_default()
            );
            return Ok(outcome);
        }
        if case.needs(Work::has_history) && self.history.is_none() {
            let database = self.cluster.create(HISTORY, &self.programs).await?;
            history::write(&database).await?;
            self.history = Some(database);
        }
        let mut turns: Vec<Turns> = case
            .sides()
            .map(|side| Turns {
                label: side.label,
                rounds: Vec::new(),
            })
            .collect();
        for number in 1..=self.rounds {
            for (side, turns) in case.sides().zip(&mut turns) {
                let round = self
                    .round(side)
                    .await
                    .with_context(|| format!("{}, round {number}, {}", case.name, side.label))?;
                let line = outcome::line(side, case.figure, &round);
                println!("  round {number}/{}  {line}", self.rounds);
                turns.rounds.push(round);
            }
        }
        Outcome::of(case, &turns)
    }

    /// Drops the history, which is large.
    pub(crate) async fn clean_up(&mut self) -> anyhow::Result<()> {
        match self.history.take() {
            Some(database) => self.cluster.drop(&database.name).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn round(&mut self, side: &Side) -> anyhow::Result<Round> {
        if let Some(database) = self.history.take_if(|_| side.work.has_history()) {
            database.tidy().await?;
            self.cluster.checkpoint().await?;
            let round = self.round_in(&database, side).await;
            self.history = Some(database);
            return round;
        }
        let cluster = match (side.work.standby(), &mut self.replicated) {
            (Standby::None, _) => self.cluster.clone(),
            (standby, Some(replicated)) => {
                replicated.place(standby).await?;
                replicated.cluster.clone()
            }
            (_, None) => anyhow::bail!("SYNC_DATABASE_URL is not set"),
        };
        self.round_on(&cluster, side).await
    }

    /// Runs the round in a new database.
    async fn round_on(&mut self, cluster: &Cluster, side: &Side) -> anyhow::Result<Round> {
        let database = cluster.create("bench_round", &self.programs).await?;
        let round = self.round_in(&database, side).await;
        // The drop also makes a checkpoint, so the next round does not pay for this one's writes.
        cluster.drop(&database.name).await?;
        round
    }

    async fn round_in(&mut self, database: &Database, side: &Side) -> anyhow::Result<Round> {
        redis::cmd("FLUSHDB").exec_async(&mut self.redis).await?;
        match side.work {
            Work::Reserves(reserves) => self.reserves(database, reserves).await,
            Work::Reads(server) => self.reads(database, server).await,
            Work::Events(events) => self.events(database, events).await,
            Work::Expiry(expiry) => self.expiry(database, expiry).await,
            Work::Neighbour(clients) => self.neighbour(database, clients).await,
        }
    }
}
