//! RabbitMQ: the product's queue, an independent consumer, and the comparator `bare-publish`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use flashsale_relay::publish::{self, EXCHANGE, QUEUE};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use inventory::{
    Quantity,
    event::{Event, ReservationConfirmed},
};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{FieldTable, ShortString},
};
use runtime::lock;
use time::OffsetDateTime;
use tokio::{task::JoinHandle, time::sleep};

use crate::machine;

const ROUTING_KEY: &str = "reservation.confirmed";

/// Number of unconfirmed messages of bare-publish.
const WINDOW: usize = 1_000;

/// Maximum number of unacked messages, and of events per ack.
const PREFETCH: u16 = 10_000;
const ACK_EVERY: usize = 500;
/// A consumer without messages for this time acks everything received.
const IDLE: Duration = Duration::from_millis(20);

/// Longer waits mean that something was lost.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Broker {
    connection: Connection,
    url: String,
    pid: Option<u32>,
}

/// Receives everything in the queue, and records the time.
pub(crate) struct Consumer {
    received: Arc<Mutex<Received>>,
    task: JoinHandle<anyhow::Result<()>>,
}

#[derive(Default)]
struct Received {
    /// Time of the first delivery by message id.
    events: HashMap<ShortString, Instant>,
    last: Option<Instant>,
}

impl Broker {
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default())
            .await
            .context("cannot connect to RabbitMQ (AMQP_URL)")?;
        let port = url.rsplit_once(':').and_then(|(_, rest)| {
            rest.split('/')
                .next()
                .map(|port| format!("RABBITMQ_NODE_PORT={port}"))
        });
        Ok(Self {
            connection,
            url: url.to_owned(),
            pid: port.and_then(|port| machine::with_environment("beam.smp", &port)),
        })
    }

    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        machine::cpu_seconds(self.pid?)
    }

    /// The same topology as the relay's, with an empty queue.
    pub(crate) async fn fresh_queue(&self) -> anyhow::Result<()> {
        let channel = self.connection.create_channel().await?;
        channel
            .queue_delete(QUEUE.into(), QueueDeleteOptions::default())
            .await?;
        let publisher = publish::Broker::new(&self.url, true)?.connect().await?;
        publisher.close().await;
        channel.close(200, "done".into()).await?;
        Ok(())
    }

    /// Waits until the queue has this many messages. RabbitMQ updates the count shortly after its confirms.
    pub(crate) async fn wait_for_messages(&self, messages: u64) -> anyhow::Result<()> {
        let channel = self.connection.create_channel().await?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let began = Instant::now();
        loop {
            let queue = channel
                .queue_declare(QUEUE.into(), passive, FieldTable::default())
                .await?;
            let count = u64::from(queue.message_count());
            if count >= messages {
                return Ok(channel.close(200, "done".into()).await?);
            }
            ensure!(
                began.elapsed() < LIMIT,
                "{messages} events were published, {count} are in the queue"
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn consume(&self) -> anyhow::Result<Consumer> {
        let channel = self.connection.create_channel().await?;
        channel
            .basic_qos(PREFETCH, BasicQosOptions::default())
            .await?;
        let deliveries = channel
            .basic_consume(
                QUEUE.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        let received = Arc::<Mutex<Received>>::default();
        let task = tokio::spawn(receive(deliveries, received.clone()));
        Ok(Consumer { received, task })
    }

    /// Publishes for this time. Returns the number of confirmed messages and the time taken: the limit set by the
    /// broker. Durability and message size are the same as the relay's.
    pub(crate) async fn bare_publish(&self, time: Duration) -> anyhow::Result<(u64, Duration)> {
        let channel = self.connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let (mut confirmed, mut number) = (0, 0);
        let mut window = FuturesUnordered::new();
        let began = Instant::now();
        loop {
            while window.len() < WINDOW && began.elapsed() < time {
                number += 1;
                window.push(send(&channel, number));
            }
            match window.next().await {
                Some(Ok(Confirmation::Ack(None))) => confirmed += 1,
                Some(other) => bail!("bare-publish was not confirmed: {other:?}"),
                None => break,
            }
        }
        let taken = began.elapsed();
        channel.close(200, "done".into()).await?;
        Ok((confirmed, taken))
    }
}

async fn send(channel: &Channel, number: i64) -> anyhow::Result<Confirmation> {
    let event = Event::ReservationConfirmed(ReservationConfirmed {
        reservation_id: number.try_into()?,
        product_id: 1.try_into()?,
        user_id: (100_000_000_000 + number).try_into()?,
        quantity: Quantity::ONE,
        confirmed_at: OffsetDateTime::now_utc(),
        reference: None,
    });
    let properties = BasicProperties::default()
        .with_message_id(format!("00000000-0000-4000-8000-{number:012}").into())
        .with_type("ReservationConfirmed".into())
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_timestamp(number.unsigned_abs())
        .with_app_id("flashsale-relay".into());
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let body = serde_json::to_vec(&event)?;
    let publish = channel.basic_publish(
        EXCHANGE.into(),
        ROUTING_KEY.into(),
        mandatory,
        &body,
        properties,
    );
    Ok(publish.await?.await?)
}

async fn receive(
    mut deliveries: lapin::Consumer,
    received: Arc<Mutex<Received>>,
) -> anyhow::Result<()> {
    let (mut last, mut unacked) = (None, 0);
    loop {
        if let Ok(delivery) = tokio::time::timeout(IDLE, deliveries.next()).await {
            let delivery = delivery.context("the queue was deleted")??;
            lock(&received).note(&delivery)?;
            last = Some(delivery);
            unacked += 1;
            if unacked < ACK_EVERY {
                continue;
            }
        }
        if let Some(last) = last.take() {
            last.ack(BasicAckOptions { multiple: true }).await?;
        }
        unacked = 0;
    }
}

impl Received {
    fn note(&mut self, delivery: &Delivery) -> anyhow::Result<()> {
        let now = Instant::now();
        let id = delivery.properties.message_id().clone();
        let id = id.context("an event has no message_id")?;
        self.events.entry(id).or_insert(now);
        self.last = Some(now);
        Ok(())
    }
}

impl Consumer {
    /// Waits for this many different events since the start. Returns the time of the last one.
    pub(crate) async fn wait_for(&self, events: u64) -> anyhow::Result<Instant> {
        let began = Instant::now();
        loop {
            let (count, last) = {
                let received = lock(&self.received);
                (received.events.len() as u64, received.last)
            };
            if let Some(last) = last.filter(|_| count >= events) {
                return Ok(last);
            }
            ensure!(!self.task.is_finished(), "the consumer has lost its queue");
            ensure!(
                began.elapsed() < LIMIT,
                "{events} events were committed, but {count} were received"
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops it. Returns the time of each event by its id.
    pub(crate) fn close(self) -> HashMap<ShortString, Instant> {
        self.task.abort();
        std::mem::take(&mut lock(&self.received).events)
    }
}
