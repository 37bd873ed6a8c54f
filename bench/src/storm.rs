//! Rounds of expiry: 100,000 holds of one product that fall due at the same moment.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::time::sleep;

use crate::{
    bench::{Bench, Target, WARM_UP_SECONDS},
    case::{Expiry, Sale, Server},
    check::{self, Sold},
    database::{Database, PLENTY, Products},
    load::Script,
    round::{Cpu, Round},
    server::{Running, Worker},
};

const HOLDS: i32 = 100_000;

/// Time from writing the holds to their deadline. It must suffice to write them, set their timers, and start the
/// processes.
const LEAD_SECONDS: i32 = 9;
/// Due long ago, for the whole round.
const DUE: i32 = -1;
const MUCH_LATER: i32 = 300;

/// Number of timers per round trip, as in the product.
const PIPELINE: i64 = 5_000;

/// Holds expired by the expirer.
const EXPIRED: &str = "flashsale_reservations_expired_total";

/// Interval between reads of the expirer's progress.
const POLL: Duration = Duration::from_millis(5);
const LIMIT: Duration = Duration::from_secs(60);

/// Duration of the timed reserves: shorter than a storm with them.
const RESERVE_SECONDS: u32 = 1;

/// The timed reserves begin this long before the deadline. Shops keep their connections open, and otherwise the slowest
/// hundredth would be those requests that wait until 256 connections are open.
const CONNECTING: Duration = Duration::from_millis(100);

/// The holds and their deadline.
struct Storm {
    products: Products,
    due_at: Instant,
}

impl Bench {
    pub(crate) async fn expiry(
        &mut self,
        database: &Database,
        expiry: Expiry,
    ) -> anyhow::Result<Round> {
        match expiry {
            Expiry::Storm => self.storm(database).await,
            Expiry::Bare => self.bare_expire(database).await,
            Expiry::ReservesInStorm => self.reserves_meanwhile(database, LEAD_SECONDS).await,
            Expiry::ReservesInQuiet => self.reserves_meanwhile(database, MUCH_LATER).await,
        }
    }

    /// As in production: the expirer runs, the holds have timers in Redis, and only these and its own clock wake it.
    /// Timed from the deadline to the commit of the last batch, including pauses.
    async fn storm(&mut self, database: &Database) -> anyhow::Result<Round> {
        let storm = self.prepare(database, LEAD_SECONDS).await?;
        let worker = Worker::Expirer;
        let expirer = self.programs.start_worker(worker, &database.url).await?;
        storm.wait(Duration::ZERO).await?;
        let cpu_before = self.cpu(database, &[&expirer]).await?;
        let done = drained(&expirer).await?;
        let cpu_seconds = self.cpu(database, &[&expirer]).await?.since(cpu_before);
        check_drained(database, storm.products, Sold::exactly(0)).await?;
        expirer.stop().await?;
        Ok(round((done - storm.due_at).as_secs_f64(), cpu_seconds))
    }

    /// The comparator: all holds in one statement, which is one transaction.
    async fn bare_expire(&mut self, database: &Database) -> anyhow::Result<Round> {
        let storm = self.prepare(database, DUE).await?;
        let cpu_before = self.cpu(database, &[]).await?;
        let began = Instant::now();
        sqlx::query(
            "-- bench: bare-expire
            with ended as (
              update reservations set status = 'EXPIRED', expired_at = expires_at
              where status = 'ACTIVE' and expires_at <= now()
              returning product_id, quantity
            )
            update products p set stock = p.stock + e.units, held = p.held - e.units
            from (select product_id, sum(quantity)::integer as units from ended group by 1) e
            where p.id = e.product_id",
        )
        .execute(&database.pool)
        .await?;
        let taken = began.elapsed();
        let cpu_seconds = self.cpu(database, &[]).await?.since(cpu_before);
        check_drained(database, storm.products, Sold::exactly(0)).await?;
        Ok(round(taken.as_secs_f64(), cpu_seconds))
    }

    /// Reserves of the product with these holds, from just before the deadline on. If the deadline is far away, from now on.
    async fn reserves_meanwhile(
        &mut self,
        database: &Database,
        lead_seconds: i32,
    ) -> anyhow::Result<Round> {
        let storm = self.prepare(database, lead_seconds).await?;
        let is_storm = lead_seconds == LEAD_SECONDS;
        let warm_up = database.open_sale(Sale::Open(1)).await?;
        let api = self
            .programs
            .start(Server::Flashsale, &database.url)
            .await?;
        let worker = Worker::Expirer;
        let expirer = self.programs.start_worker(worker, &database.url).await?;
        let connections = self.connections;
        let warming = Target {
            script: Script::Reserve,
            running: &[&api],
            products: warm_up,
            connections,
        };
        self.load(&warming, WARM_UP_SECONDS).await?;
        let before = api.settled_metrics().await?;
        if is_storm {
            storm.wait(CONNECTING).await?;
        }
        let cpu_before = self.cpu(database, &[&api, &expirer]).await?;
        let target = Target {
            products: storm.products,
            ..warming
        };
        let seen = self.load(&target, RESERVE_SECONDS).await?;
        let cpu_seconds = self
            .cpu(database, &[&api, &expirer])
            .await?
            .since(cpu_before);
        if is_storm {
            ensure!(
                expirer.counter(EXPIRED).await? < HOLDS.unsigned_abs().into(),
                "the storm ended before the reserves"
            );
            drained(&expirer).await?;
        }
        let answers = api.settled_metrics().await?.answers_since(&before);
        let sold = Sold::Answered {
            created: answers.created,
            unseen: check::unseen(connections, &seen, &answers),
        };
        if is_storm {
            check_drained(database, storm.products, sold).await?;
        }
        for process in [api, expirer] {
            process.stop().await?;
        }
        Ok(Round {
            wanted: answers.created,
            latency: Some(seen.latency),
            ..round(seen.seconds, cpu_seconds)
        })
    }

    /// Writes the holds and sets their timers. As for older holds, the tables are vacuumed and the pages written.
    /// They are not analyzed, because production cannot rely on that.
    async fn prepare(&mut self, database: &Database, lead_seconds: i32) -> anyhow::Result<Storm> {
        let (product, first, last, deadline_ms): (i64, i64, i64, i64) = sqlx::query_as(
            "-- bench: holds that fall due together
            with product as (
              insert into products (name, stock, held, total) values ('storm', $1, $2, $1 + $2) returning id
            ), held as (
              insert into reservations (product_id, user_id, expires_at)
              select p.id, 100000000000 + n, date_trunc('second', now()) + make_interval(secs => $3)
              from product p, generate_series(1, $2) n
              returning id, expires_at
            )
            select (select id from product), min(id), max(id),
              (extract(epoch from min(expires_at)) * 1000)::bigint
            from held",
        )
        .bind(PLENTY)
        .bind(HOLDS)
        .bind(lead_seconds)
        .fetch_one(&database.pool)
        .await?;
        if lead_seconds > 0 {
            for start in (first..=last).step_by(PIPELINE as usize) {
                let mut timers = redis::pipe();
                for id in start..=last.min(start + PIPELINE - 1) {
                    let key = format!("reservation:{id}");
                    timers
                        .cmd("SET")
                        .arg(key)
                        .arg(1)
                        .arg("PXAT")
                        .arg(deadline_ms);
                }
                timers.exec_async(&mut self.redis).await?;
            }
        }
        database.vacuum().await?;
        self.cluster.checkpoint().await?;
        let (left,): (f64,) = sqlx::query_as(
            "select greatest(0, extract(epoch from to_timestamp($1 / 1000.0::float8) - clock_timestamp()))::float8",
        )
        .bind(deadline_ms)
        .fetch_one(&database.pool)
        .await?;
        Ok(Storm {
            products: Products {
                first: product,
                count: 1,
                stock_each: PLENTY + HOLDS,
            },
            due_at: Instant::now() + Duration::from_secs_f64(left),
        })
    }
}

impl Storm {
    /// Until so long before the holds fall due.
    async fn wait(&self, before: Duration) -> anyhow::Result<()> {
        let until = self.due_at - before;
        let left = until.checked_duration_since(Instant::now());
        sleep(left.context("the setup was complete too late for the deadline of the holds")?).await;
        Ok(())
    }
}

/// Waits until the expirer has expired every hold, by its own counter, which follows each commit.
async fn drained(expirer: &Running) -> anyhow::Result<Instant> {
    let began = Instant::now();
    while expirer.counter(EXPIRED).await? < HOLDS.unsigned_abs().into() {
        ensure!(
            began.elapsed() < LIMIT,
            "the expirer did not expire all holds in time"
        );
        sleep(POLL).await;
    }
    Ok(Instant::now())
}

/// The audit is clean, no hold is past its deadline, and only newer reserves are held.
async fn check_drained(
    database: &Database,
    products: Products,
    reserved: Sold,
) -> anyhow::Result<()> {
    check::without_api(database, products, reserved).await?;
    let (expired,): (i64,) = sqlx::query_as(
        "-- bench: count what has expired
        select count(*) from reservations where status = 'EXPIRED' and expired_at = expires_at",
    )
    .fetch_one(&database.pool)
    .await?;
    ensure!(
        expired == i64::from(HOLDS),
        "{expired} of {HOLDS} holds have expired"
    );
    Ok(())
}

fn round(seconds: f64, cpu_seconds: Cpu) -> Round {
    Round {
        wanted: HOLDS.unsigned_abs().into(),
        seconds,
        cpu_seconds,
        ..Round::default()
    }
}
