//! A consumer that shares only the broker with the service. It records every message.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::{
    Connection, ConnectionProperties,
    message::Delivery as Message,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions},
    types::FieldTable,
    uri::AMQPUri,
};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{
    access::Access,
    clock::now,
    history::{Delivery, Told},
    journal::Journal,
    parse::told,
};

const EXCHANGE: &str = "flashsale.events";
const QUEUE: &str = "reservation-confirmed";

/// Number of unacked events that the broker may send. After a crash they are delivered again.
const PREFETCH: u16 = 50;

/// A broker that is being killed may accept a connection and not answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Seconds between two heartbeats. A connection ends after two that did not come: there is no other way to see that a
/// proxy hangs. With the broker's 60 s no event would come for as long as it hangs, and that would look like a fault of
/// the service.
const HEARTBEAT: u16 = 3;

/// Binds the relays' queue to every event type.
pub(crate) async fn bind_to_all(url: &str) -> anyhow::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    for key in ["reservation.*", "stock.adjusted", "waitlist.offered"] {
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        channel
            .queue_bind(
                QUEUE.into(),
                EXCHANGE.into(),
                key.into(),
                options,
                arguments,
            )
            .await?;
    }
    Ok(())
}

/// Consumes forever, and reconnects to the next broker whenever the connection is lost.
pub(crate) async fn run(access: Arc<Access>, journal: Arc<Journal>) {
    for url in access.amqp.iter().cycle() {
        // The error is ignored: unacked messages are delivered again.
        let _ = consume(url, &journal).await;
        sleep(Duration::from_millis(200)).await;
    }
}

/// Until the connection is lost.
///
/// Only the connecting has a time limit, and the heartbeats find a peer that has vanished. If this future were dropped
/// while the broker starts the consumer, lapin would keep the connection open. The broker would send events there that
/// nobody receives, and would keep them for as long as this process runs.
async fn consume(url: &str, journal: &Journal) -> anyhow::Result<()> {
    let mut uri: AMQPUri = url.parse().map_err(anyhow::Error::msg)?;
    uri.query.heartbeat = Some(HEARTBEAT);
    let connecting = Connection::connect_uri(uri, ConnectionProperties::default());
    let connection = timeout(CONNECT_LIMIT, connecting).await??;
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut deliveries = channel
        .basic_consume(QUEUE.into(), "".into(), options, arguments)
        .await?;
    loop {
        let delivery = deliveries.next().await.context("the queue is gone")??;
        let id = delivery.properties.message_id().as_ref();
        journal.delivery(Delivery {
            at: now(),
            event: id.map(ToString::to_string).unwrap_or_default(),
            redelivered: delivery.redelivered,
            version: version(&delivery),
            told: read(&delivery.data),
        });
        // Acked only after it is recorded. Otherwise a crash could lose it.
        delivery.ack(BasicAckOptions::default()).await?;
    }
}

fn version(message: &Message) -> Option<i64> {
    let headers = message.properties.headers().as_ref()?;
    let version = headers.inner().get("version")?;
    version.as_long_int().map(i64::from)
}

/// Parses a message. `None`: not an event.
fn read(body: &[u8]) -> Option<Told> {
    let body: Value = serde_json::from_slice(body).ok()?;
    told(body["event_type"].as_str()?, &body["payload"])
}
