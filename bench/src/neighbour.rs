//! Rounds of two products in one lane: one under load, and one with a single client, whose requests wait for the
//! other's batches.

use anyhow::ensure;

use crate::{
    bench::{Bench, Target, WARM_UP_SECONDS, settled_metrics},
    case::{Clients, Sale, Server, Wanted},
    check::{self, Sold},
    database::{Database, Products},
    load::{Script, Seen},
    round::{Cpu, Load, Round},
};

/// A single client beside a loaded product makes a few requests per second, and a percentile needs many.
pub(crate) const LEAST_SECONDS: u32 = 20;

impl Bench {
    pub(crate) async fn neighbour(
        &mut self,
        database: &Database,
        clients: Clients,
    ) -> anyhow::Result<Round> {
        let connections = clients.connections(self.connections);
        let seconds = self.seconds.max(LEAST_SECONDS);
        let (hot, quiet) = self.neighbours(database).await?;
        let warm_up = database.open_sale(Sale::Open(1)).await?;
        let server = Server::Flashsale;
        let running = self.programs.start(server, &database.url).await?;
        let under_load = Target {
            script: Script::Reserve,
            running: &[&running],
            products: hot,
            connections,
        };
        let alone = Target {
            products: quiet,
            connections: 1,
            ..under_load
        };
        let warming = Target {
            products: warm_up,
            ..under_load
        };
        self.load(&warming, WARM_UP_SECONDS).await?;

        let before = settled_metrics(&[&running]).await?;
        let cpu_before = self.cpu(database, &[&running]).await?;
        let (seen, seen_alone) =
            tokio::try_join!(self.load(&under_load, seconds), self.load(&alone, seconds))?;
        let cpu_after = self.cpu(database, &[&running]).await?;
        let after = settled_metrics(&[&running]).await?;

        let answers = after.answers_since(&before);
        let all = Seen::together(&[seen.clone(), seen_alone.clone()]);
        let unseen = check::unseen(connections + 1, &all, &answers);
        check::wanted_answers(Wanted::Created, &all, &answers, unseen)?;
        ensure!(
            seen_alone.requests > seen_alone.refused,
            "the quiet product was never reserved: {seen_alone:?}"
        );
        for (products, seen) in [(hot, &seen), (quiet, &seen_alone)] {
            let created = seen.requests - seen.refused;
            let sold = Sold::Answered { created, unseen };
            let redis = &mut self.redis;
            check::stored(server, &running, database, redis, products, sold).await?;
        }
        running.stop().await?;
        Ok(Round {
            wanted: seen.requests - seen.refused,
            seconds: seen.seconds,
            latency: Some(seen.latency),
            quiet: Some(seen_alone.latency),
            cpu_seconds: Cpu {
                wrk: Some(all.cpu_seconds),
                ..cpu_after.since(cpu_before)
            },
            load: Some(Load {
                answers,
                batches: after.batches_since(&before),
                apart: answers.apart(Wanted::Created),
                wrk: seen,
            }),
        })
    }

    /// Two products of the same lane: the API chooses the lane by the remainder of the product's id.
    async fn neighbours(&self, database: &Database) -> anyhow::Result<(Products, Products)> {
        let lanes = self.programs.reserve_lanes()?;
        let all = database.open_sale(Sale::Open(lanes + 1)).await?;
        let one = |first| Products {
            first,
            count: 1,
            ..all
        };
        Ok((one(all.first), one(all.first + i64::from(lanes))))
    }
}
