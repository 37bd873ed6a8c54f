//! A consumer with nothing in common with the service but the broker: it writes down what it gets.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{
    history::{Delivery, Sale},
    journal::{Journal, now},
    wire::instant,
};

const QUEUE: &str = "reservation-confirmed";

/// How many events the broker sends ahead of their acks: after a crash they come again.
const PREFETCH: u16 = 50;

/// A broker that is being killed may accept a connection and say nothing.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Consumes for ever, with a new connection whenever the old one is lost.
pub(crate) async fn run(url: String, journal: Arc<Journal>) {
    loop {
        // Why it was lost does not matter: what was not acked comes again.
        let _ = consume(&url, &journal).await;
        sleep(Duration::from_millis(200)).await;
    }
}

async fn consume(url: &str, journal: &Journal) -> anyhow::Result<()> {
    let open = async {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel
            .basic_qos(PREFETCH, BasicQosOptions::default())
            .await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let deliveries = channel
            .basic_consume(QUEUE.into(), "".into(), options, arguments)
            .await?;
        lapin::Result::Ok((connection, deliveries))
    };
    let (_connection, mut deliveries) = timeout(CONNECT_LIMIT, open).await??;
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery?;
        let id = delivery.properties.message_id().as_ref();
        journal.delivery(Delivery {
            at: now(),
            event: id.map(ToString::to_string).unwrap_or_default(),
            redelivered: delivery.redelivered,
            sale: read(&delivery.data),
        });
        // Only now that it is written down: were it acked before, it could be lost with us.
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Err(anyhow::anyhow!("the queue is gone")).context("consumer")
}

/// What a message tells, if it is an event of a sale.
pub(crate) fn read(body: &[u8]) -> Option<Sale> {
    let body: Value = serde_json::from_slice(body).ok()?;
    (body["event_type"] == "ReservationConfirmed").then_some(())?;
    sale(&body["payload"])
}

pub(crate) fn sale(payload: &Value) -> Option<Sale> {
    Some(Sale {
        hold: payload["reservation_id"].as_i64()?,
        product: payload["product_id"].as_i64()?,
        user: payload["user_id"].as_i64()?,
        quantity: payload["quantity"].as_i64()?,
        confirmed: instant(&payload["confirmed_at"])?,
    })
}
