//! Rounds of reserves: wrk against one server.

use serde::Serialize;

use crate::{
    cases::{Clients, Reserves, Sale, Server},
    check::{self, Sold},
    database::{Database, Products},
    load::{self, Plan, Script, Seen},
    metrics::{Answers, Batches},
    rounds::{Bench, Cpu, Round},
    server::Running,
};

pub(crate) const WARM_UP_SECONDS: u32 = 1;

/// What wrk and the server say of a load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// The server's count of all of its answers.
    pub(crate) answers: Answers,
    pub(crate) wrk: Seen,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batches: Option<Batches>,
    /// Answers that are not what was asked for.
    pub(crate) apart: u64,
}

impl Bench {
    pub(crate) async fn reserves(
        &mut self,
        database: &Database,
        reserves: Reserves,
    ) -> anyhow::Result<Round> {
        let sale = reserves.sale;
        let connections = match reserves.clients {
            Clients::Many => self.connections,
            Clients::One => 1,
        };
        let products = self.open_sale(database, reserves).await?;
        let warm_up = match sale {
            Sale::Open(_) => self.open_sale(database, reserves).await?,
            // It is the warm-up that sells the product out.
            Sale::SoldOut => products,
        };
        let server = match (reserves.server, self.textbook_pool) {
            (Server::Textbook(_), Some(connections)) => Server::Textbook(connections),
            (server, _) => server,
        };
        let script = Script::Reserve;
        let running = self.programs.start(server, &database.url).await?;
        self.load(script, &running, warm_up, connections, WARM_UP_SECONDS)
            .await?;

        let before = running.settled_metrics().await?;
        let cpu_before = self.cpu(&[&running]).await?;
        let seen = self
            .load(script, &running, products, connections, self.seconds)
            .await?;
        let cpu_after = self.cpu(&[&running]).await?;
        let after = running.settled_metrics().await?;

        let answers = after.answers_since(&before);
        let unseen = check::unseen(connections, &seen, &answers);
        let wanted = check::wanted_answers(sale, &seen, &answers, unseen)?;
        let sold = match sale {
            Sale::Open(_) => Sold::Answered {
                created: wanted,
                unseen,
            },
            Sale::SoldOut => Sold::All,
        };
        check::stored(
            reserves.server,
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
            seconds: seen.seconds,
            latency: Some(seen.latency),
            cpu_seconds: Cpu {
                wrk: Some(seen.cpu_seconds),
                ..cpu_after.since(cpu_before)
            },
            load: Some(Load {
                answers,
                batches: after.batches_since(&before),
                apart: answers.apart(sale),
                wrk: seen,
            }),
        })
    }

    async fn open_sale(
        &mut self,
        database: &Database,
        reserves: Reserves,
    ) -> anyhow::Result<Products> {
        let products = database.open_sale(reserves.sale).await?;
        if reserves.server == Server::RedisGate {
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

    pub(crate) async fn load(
        &mut self,
        script: Script,
        running: &Running,
        products: Products,
        connections: u32,
        seconds: u32,
    ) -> anyhow::Result<Seen> {
        self.loads += 1;
        let plan = Plan {
            script,
            base_url: &running.base_url,
            connections,
            seconds,
            first_product: products.first,
            products: products.count,
            number: self.loads,
        };
        load::run(&plan, &self.folder).await
    }
}

impl Load {
    /// For the line of progress.
    pub(crate) fn words(&self) -> String {
        let mut words = String::new();
        if let Some(batches) = &self.batches {
            words += &format!("   {:.0} a batch", batches.mean_requests);
        }
        let (apart, errors) = (self.apart, self.wrk.socket_errors);
        if apart + errors > 0 {
            words += &format!("   NOT COUNTED: {apart} other answers, {errors} socket errors");
        }
        words
    }
}
