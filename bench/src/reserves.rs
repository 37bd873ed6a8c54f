//! Rounds of reserves: wrk against one server, or several copies.

use anyhow::Context as _;

use crate::{
    bench::{Bench, Target, WARM_UP_SECONDS, settled_metrics},
    case::{Headers, Reserves, Sale, Server, Snapshot, Wanted},
    check::{self, Sold},
    database::{Database, Products},
    load::Script,
    round::{Cpu, Round, Timed},
    server::{ApiKey, Running},
    snapshot::{AGE_STEP_SECONDS, AGE_STEPS, HeldSnapshot},
};

impl Bench {
    pub(crate) async fn reserves(
        &mut self,
        database: &Database,
        reserves: Reserves,
    ) -> anyhow::Result<Round> {
        let sale = reserves.sale;
        let products = self.open_sale(database, reserves).await?;
        let warm_up = match sale {
            Sale::Open(_) => self.open_sale(database, reserves).await?,
            // The warm-up sells the product out.
            Sale::SoldOut => products,
        };
        let snapshot = match reserves.snapshot {
            Snapshot::None => None,
            Snapshot::Held => Some(HeldSnapshot::take(database).await?),
        };
        let key = match reserves.headers {
            Headers::ApiKey => Some(self.programs.new_api_key().await?),
            Headers::Plain | Headers::IdempotencyKey => None,
        };
        let copies = self.start_copies(database, reserves, key.as_ref()).await?;
        let running: Vec<&Running> = copies.iter().collect();
        let target = Target {
            script: script(reserves.headers, key.as_ref()),
            running: &running,
            products,
            connections: reserves.clients.connections(self.connections),
        };
        let warming = Target {
            products: warm_up,
            ..target
        };
        self.load(&warming, WARM_UP_SECONDS).await?;

        let mut loads = Vec::new();
        if snapshot.is_some() {
            loads = self.age(database, &target).await?;
        }
        loads.push(
            self.timed(database, &target, sale.wanted(), self.seconds)
                .await?,
        );
        if let Some(snapshot) = snapshot {
            snapshot.release().await?;
        }
        self.check(database, reserves, &target, &loads).await?;
        for copy in copies {
            copy.stop().await?;
        }
        let last = loads.pop().context("no load")?;
        Ok(last.round(sale.wanted()))
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

    async fn start_copies(
        &self,
        database: &Database,
        reserves: Reserves,
        key: Option<&ApiKey>,
    ) -> anyhow::Result<Vec<Running>> {
        let server = match (reserves.server, self.textbook_pool) {
            (Server::Textbook(_), Some(connections)) => Server::Textbook(connections),
            (server, _) => server,
        };
        let mut copies = Vec::new();
        for number in 1..=reserves.copies {
            let copy = self
                .programs
                .start_copy(server, number, &database.url, key)
                .await?;
            copies.push(copy);
        }
        Ok(copies)
    }

    /// Loads the servers for minutes before the timed load, and prints the rate.
    async fn age(
        &mut self,
        database: &Database,
        target: &Target<'_>,
    ) -> anyhow::Result<Vec<Timed>> {
        let mut loads = Vec::new();
        for step in 1..=AGE_STEPS {
            let timed = self
                .timed(database, target, Wanted::Created, AGE_STEP_SECONDS)
                .await?;
            println!(
                "    with the snapshot held, up to {:>3} s: {:>8.0} requests/s",
                step * AGE_STEP_SECONDS,
                timed.wanted as f64 / timed.seen.seconds
            );
            loads.push(timed);
        }
        Ok(loads)
    }

    /// A load whose expected answers are counted by wrk and by the servers.
    pub(crate) async fn timed(
        &mut self,
        database: &Database,
        target: &Target<'_>,
        wanted: Wanted,
        seconds: u32,
    ) -> anyhow::Result<Timed> {
        let running = target.running;
        let before = settled_metrics(running).await?;
        let cpu_before = self.cpu(database, running).await?;
        let seen = self.load(target, seconds).await?;
        let cpu_after = self.cpu(database, running).await?;
        let after = settled_metrics(running).await?;

        let answers = after.answers_since(&before);
        let unseen = check::unseen(target.connections, &seen, &answers);
        let wanted = check::wanted_answers(wanted, &seen, &answers, unseen)?;
        Ok(Timed {
            cpu_seconds: Cpu {
                wrk: Some(seen.cpu_seconds),
                ..cpu_after.since(cpu_before)
            },
            batches: after.batches_since(&before),
            seen,
            answers,
            wanted,
            unseen,
        })
    }

    /// Checks the rows after all loads, and that the requests had the right headers.
    async fn check(
        &mut self,
        database: &Database,
        reserves: Reserves,
        target: &Target<'_>,
        loads: &[Timed],
    ) -> anyhow::Result<()> {
        let wanted = loads.iter().map(|load| load.wanted).sum();
        let sold = match reserves.sale {
            Sale::Open(_) => Sold::Answered {
                created: wanted,
                unseen: loads.iter().map(|load| load.unseen).sum(),
            },
            Sale::SoldOut => Sold::All,
        };
        check::stored(
            reserves.server,
            target.running[0],
            database,
            &mut self.redis,
            target.products,
            sold,
        )
        .await?;
        match reserves.headers {
            Headers::Plain => Ok(()),
            Headers::IdempotencyKey => check::kept_keys(database, wanted).await,
            Headers::ApiKey => check::known_clients(target.running, wanted).await,
        }
    }
}

fn script(headers: Headers, key: Option<&ApiKey>) -> Script<'_> {
    match (headers, key) {
        (Headers::ApiKey, Some(key)) => Script::ApiKey(&key.secret),
        (Headers::IdempotencyKey, _) => Script::Keyed,
        (Headers::Plain | Headers::ApiKey, _) => Script::Reserve,
    }
}
