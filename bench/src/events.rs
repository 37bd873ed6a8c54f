//! Rounds of events: from a confirm, or a backlog, to RabbitMQ and a consumer.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{interval, sleep},
};

use crate::{
    bench::{Bench, Target, WARM_UP_SECONDS},
    broker::{Broker, Consumer},
    case::{Events, Sale, Server, Wanted},
    check::{self, Sold},
    database::{Database, Products},
    load::Script,
    round::{Cpu, Load, Round},
    server::{Running, Worker},
    stats::Latency,
};

/// Number of events in the backlog: the confirms of some seconds in a flash sale.
const BACKLOG: i32 = 50_000;

/// Warm-up before bare-publish is timed.
const WARM_UP: Duration = Duration::from_millis(500);

/// The steady load: one confirm every 10 ms. The first 0.5 s is not timed.
const STEADY_PERIOD: Duration = Duration::from_millis(10);
const STEADY_WARM_UP: usize = 50;

/// Interval and time limit of checks whether everything is published.
const POLL: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(60);

impl Bench {
    pub(crate) async fn events(
        &mut self,
        database: &Database,
        events: Events,
    ) -> anyhow::Result<Round> {
        let broker = self.broker.clone().context("AMQP_URL is not set")?;
        broker.fresh_queue().await?;
        match events {
            Events::Lifecycle => self.lifecycle(database, &broker).await,
            Events::Steady => self.steady(database, &broker).await,
            Events::Drain => self.drain(database, &broker).await,
            Events::BarePublish => self.bare_publish(database, &broker).await,
        }
    }

    /// From the first request to the receipt of the last event, including the time of a relay that falls behind.
    async fn lifecycle(&mut self, database: &Database, broker: &Broker) -> anyhow::Result<Round> {
        let products = database.open_sale(Sale::Open(1)).await?;
        let warm_up = database.open_sale(Sale::Open(1)).await?;
        let (api, relay) = self.api_and_relay(database).await?;
        let consumer = broker.consume().await?;
        let connections = self.connections;
        let warming = Target {
            script: lifecycle(database).await?,
            running: &[&api],
            products: warm_up,
            connections,
        };
        self.load(&warming, WARM_UP_SECONDS).await?;
        let before = api.settled_metrics().await?;
        let early = committed(database).await?;
        consumer.wait_for(early).await?;

        let target = Target {
            script: lifecycle(database).await?,
            products,
            ..warming
        };
        let cpu_before = self.cpu(database, &[&api, &relay]).await?;
        let began = Instant::now();
        let seen = self.load(&target, self.seconds).await?;
        let after = api.settled_metrics().await?;
        let events = committed(database).await?;
        let last = consumer.wait_for(events).await?;
        let cpu_after = self.cpu(database, &[&api, &relay]).await?;

        let answers = after.answers_since(&before);
        let unseen = check::unseen(connections, &seen, &answers);
        let wanted = events - early;
        let (good, done) = (seen.requests - seen.refused, answers.created + wanted);
        ensure!(
            (good..=good + unseen).contains(&done),
            "wrk saw {good} good answers; {} holds were made and {wanted} confirmed",
            answers.created
        );
        let sold = Sold::Answered {
            created: answers.created,
            unseen,
        };
        check::without_api(database, products, sold).await?;
        self.finish(database, &consumer, [api, relay]).await?;
        consumer.close();
        Ok(Round {
            wanted,
            seconds: (last - began).as_secs_f64(),
            latency: Some(seen.latency),
            quiet: None,
            cpu_seconds: Cpu {
                wrk: Some(seen.cpu_seconds),
                ..cpu_after.since(cpu_before)
            },
            load: Some(Load {
                apart: answers.apart(Wanted::Created),
                answers,
                batches: after.batches_since(&before),
                wrk: seen,
            }),
        })
    }

    /// One confirm at a time at a fixed rate. Each is timed from its answer, which follows the commit, to the receipt
    /// by the consumer.
    async fn steady(&mut self, database: &Database, broker: &Broker) -> anyhow::Result<Round> {
        let products = database.open_sale(Sale::Open(1)).await?;
        let (api, relay) = self.api_and_relay(database).await?;
        let consumer = broker.consume().await?;
        let count = STEADY_WARM_UP + self.seconds as usize * 100;
        let mut holds = Vec::new();
        for user in 1..=count {
            let body = json!({"product_id": products.first, "user_id": user});
            holds.push(id_of(&api.request("/reservations", Some(&body)).await?)?);
        }
        let cpu_before = self.cpu(database, &[&api, &relay]).await?;
        let began = Instant::now();
        let mut confirms = JoinSet::new();
        let mut ticks = interval(STEADY_PERIOD);
        for hold in holds.iter().copied() {
            ticks.tick().await;
            let confirm = api.request(&format!("/reservations/{hold}/confirm"), None);
            confirms.spawn(async move {
                confirm.await?;
                anyhow::Ok((hold, Instant::now()))
            });
        }
        let mut answered = HashMap::new();
        while let Some(confirm) = confirms.join_next().await {
            let (hold, at) = confirm??;
            answered.insert(hold, at);
        }
        let last = consumer.wait_for(count as u64).await?;
        let cpu_after = self.cpu(database, &[&api, &relay]).await?;

        check::without_api(database, products, Sold::exactly(count as u64)).await?;
        self.finish(database, &consumer, [api, relay]).await?;
        let events: Vec<(String, i64)> = sqlx::query_as(
            "-- bench: which event is whose
            select event_id::text, (payload ->> 'reservation_id')::bigint from outbox_events",
        )
        .fetch_all(&database.pool)
        .await?;
        let received = consumer.close();
        let mut times = HashMap::new();
        for (event, hold) in events {
            let (from, to) = (answered.get(&hold), received.get(event.as_str()));
            let (from, to) = from.zip(to).context("an event has no reservation")?;
            times.insert(hold, to.saturating_duration_since(*from));
        }
        let times: Option<Vec<Duration>> = holds[STEADY_WARM_UP..]
            .iter()
            .map(|hold| times.get(hold).copied())
            .collect();
        Ok(Round {
            wanted: count as u64,
            seconds: (last - began).as_secs_f64(),
            latency: Latency::of(&times.context("a hold has no event")?),
            cpu_seconds: cpu_after.since(cpu_before),
            ..Round::default()
        })
    }

    /// From the start of the relay, as after an outage, to the last mark.
    async fn drain(&mut self, database: &Database, broker: &Broker) -> anyhow::Result<Round> {
        let products = write_backlog(database).await?;
        database.tidy().await?;
        self.cluster.checkpoint().await?;
        let cpu_before = self.cpu(database, &[]).await?;
        let began = Instant::now();
        let worker = Worker::Relay;
        let relay = self.programs.start_worker(worker, &database.url).await?;
        all_published(database).await?;
        let taken = began.elapsed();
        let cpu_seconds = self.cpu(database, &[&relay]).await?.since(Cpu {
            server: Some(0.0),
            ..cpu_before
        });
        let wanted = BACKLOG.unsigned_abs().into();
        broker.wait_for_messages(wanted).await?;
        check::without_api(database, products, Sold::All).await?;
        ensure!(check::one_event_each(database).await? == wanted);
        relay.stop().await?;
        Ok(Round {
            wanted,
            seconds: taken.as_secs_f64(),
            cpu_seconds,
            ..Round::default()
        })
    }

    async fn bare_publish(
        &mut self,
        database: &Database,
        broker: &Broker,
    ) -> anyhow::Result<Round> {
        let (early, _) = broker.bare_publish(WARM_UP).await?;
        let cpu_before = self.cpu(database, &[]).await?;
        let time = Duration::from_secs(self.seconds.into());
        let (wanted, taken) = broker.bare_publish(time).await?;
        let cpu_after = self.cpu(database, &[]).await?;
        broker.wait_for_messages(early + wanted).await?;
        Ok(Round {
            wanted,
            seconds: taken.as_secs_f64(),
            cpu_seconds: cpu_after.since(cpu_before),
            ..Round::default()
        })
    }

    async fn api_and_relay(&self, database: &Database) -> anyhow::Result<(Running, Running)> {
        let (programs, url) = (&self.programs, &database.url);
        let relay = programs.start_worker(Worker::Relay, url).await?;
        Ok((programs.start(Server::Flashsale, url).await?, relay))
    }

    /// Each sale has one event, and the consumer has received it.
    async fn finish(
        &self,
        database: &Database,
        consumer: &Consumer,
        running: [Running; 2],
    ) -> anyhow::Result<()> {
        // The mark follows the receipt.
        all_published(database).await?;
        let confirmed = check::one_event_each(database).await?;
        consumer.wait_for(confirmed).await?;
        for process in running {
            process.stop().await?;
        }
        Ok(())
    }
}

/// The script that reserves and confirms from the current hold id on.
async fn lifecycle(database: &Database) -> anyhow::Result<Script<'static>> {
    let query = "-- bench: the next hold\nselect coalesce(max(id), 0) + 1 from reservations";
    let (first_hold,) = sqlx::query_as(query).fetch_one(&database.pool).await?;
    Ok(Script::Lifecycle { first_hold })
}

/// Number of events committed so far.
async fn committed(database: &Database) -> anyhow::Result<u64> {
    let count = "-- bench: count the events\nselect count(*) from outbox_events";
    let (count,): (i64,) = sqlx::query_as(count).fetch_one(&database.pool).await?;
    Ok(count.unsigned_abs())
}

/// Waits until the relay has marked every event.
async fn all_published(database: &Database) -> anyhow::Result<()> {
    let is_left = "-- bench: is anything left to publish
        select exists (select from outbox_events where published_at is null and dead_at is null)";
    let began = Instant::now();
    loop {
        let (is_left,): (bool,) = sqlx::query_as(is_left).fetch_one(&database.pool).await?;
        if !is_left {
            return Ok(());
        }
        ensure!(
            began.elapsed() < LIMIT,
            "the relay did not publish all events in time"
        );
        sleep(POLL).await;
    }
}

/// A product whose units are all confirmed, each with its event as confirm writes it.
async fn write_backlog(database: &Database) -> anyhow::Result<Products> {
    let (first,): (i64,) = sqlx::query_as(
        "-- bench: a backlog
        with product as (
          insert into products (name, stock, sold, total) values ('sold', 0, $1, $1) returning id
        ), sold as (
          insert into reservations (product_id, user_id, status, expires_at, confirmed_at)
          select p.id, 100000000000 + n, 'CONFIRMED', now() + interval '5 minutes', now()
          from product p, generate_series(1, $1) n
          returning id, product_id, user_id, quantity, confirmed_at
        ), events as (
          insert into outbox_events (event_type, payload)
          select 'ReservationConfirmed', jsonb_build_object('reservation_id', s.id, 'product_id', s.product_id,
            'user_id', s.user_id, 'quantity', s.quantity, 'confirmed_at', s.confirmed_at)
          from sold s
        )
        select id from product",
    )
    .bind(BACKLOG)
    .fetch_one(&database.pool)
    .await?;
    Ok(Products {
        first,
        count: 1,
        stock_each: BACKLOG,
    })
}

fn id_of(reservation: &Value) -> anyhow::Result<i64> {
    reservation["id"]
        .as_i64()
        .context("a reservation has no id")
}
