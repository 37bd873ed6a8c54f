//! Helpers for tests of events: a broker as clients see it, and rows in the outbox.

use std::collections::HashSet;

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicGetOptions, ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
        QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::sync::{Mutex, MutexGuard};

use crate::support::{ASYNCAPI, Server, System, eventually, test_server};

pub(super) const RETURNED: &str = "flashsale_events_returned_total";
pub(super) const REFUSED: &str = "flashsale_events_refused_total";
pub(super) const BROKER_ERRORS: &str = r#"flashsale_relay_errors_total{on="rabbitmq"}"#;

pub(super) const EXCHANGE: &str = "flashsale.events";
pub(super) const QUEUE: &str = "reservation-confirmed";
pub(super) const KEY: &str = "reservation.confirmed";

/// The exchange and the queue of [`Broker::refuse_reference`].
const REFUSING: &str = "flashsale-test-refusing";

/// The names of exchange and queue are fixed, so tests on one broker would receive each other's events. They run one
/// at a time, and each starts without a queue. A virtual host per test would need `rabbitmqctl`, which takes seconds
/// and cannot reach every broker in `TEST_AMQP_URL`.
static TURN: Mutex<()> = Mutex::const_new(());

/// A broker, as operators and consumers see it.
pub(crate) struct Broker {
    pub(crate) url: String,
    connection: Connection,
    channel: Channel,
    /// Used to get events. Recreated after each error: an error closes the channel, and sometimes also the
    /// connection.
    getter: Mutex<(Connection, Channel)>,
    _turn: Option<MutexGuard<'static, ()>>,
}

/// An event as a consumer receives it.
pub(crate) struct Event {
    /// Its `message_id`.
    pub(crate) id: String,
    pub(super) routing_key: String,
    pub(crate) body: Value,
    pub(super) properties: BasicProperties,
}

impl Event {
    /// A header with a text.
    #[cfg(feature = "otel")]
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let headers = self.properties.headers().as_ref()?;
        match headers.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            other => panic!("the header {name}: {other:?}"),
        }
    }

    /// Body, headers and properties match the AsyncAPI document for this type.
    #[track_caller]
    fn check(&self) {
        let event_type = self.body["event_type"].as_str().expect("no event_type");
        let address = &ASYNCAPI.document["channels"][event_type]["address"];
        assert_eq!(self.routing_key, *address, "{event_type}");
        let properties = json!({
            "message_id": self.id,
            "type": self.properties.kind().as_ref().map(ToString::to_string),
            "content_type": self.properties.content_type().as_ref().map(ToString::to_string),
            "delivery_mode": self.properties.delivery_mode(),
            "timestamp": self.properties.timestamp(),
            "app_id": self.properties.app_id().as_ref().map(ToString::to_string),
        });
        let headers = self.properties.headers().iter().flat_map(FieldTable::inner);
        let headers: Value = headers
            // A quorum queue adds a header with the number of deliveries.
            .filter(|(name, _)| name.as_str() != "x-delivery-count")
            .map(|(name, value)| (name.to_string(), plain(value)))
            .collect();
        for (part, value) in [
            ("payload", &self.body),
            ("headers", &headers),
            ("x-amqp-properties", &properties),
        ] {
            let pointer = format!("/components/messages/{event_type}/{part}");
            if let Err(reason) = ASYNCAPI.check(&pointer, value) {
                panic!("not as docs/asyncapi.json says: {part} of {event_type}: {reason}: {value}");
            }
        }
    }
}

/// A header's value without its AMQP type.
fn plain(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::LongInt(number) => json!(number),
        AMQPValue::LongString(text) => json!(text.to_string()),
        other => panic!("a header {other:?}"),
    }
}

impl Broker {
    /// The shared broker, reserved for this test.
    pub(crate) async fn shared() -> Self {
        let turn = TURN.lock().await;
        let mut broker = Self::at(test_server("TEST_AMQP_URL")).await;
        broker._turn = Some(turn);
        broker.delete_queue().await;
        broker
    }

    /// A private broker.
    pub(super) async fn on(server: &Server) -> Self {
        Self::at(server.url.clone()).await
    }

    async fn at(url: String) -> Self {
        let (connection, channel) = connect(&url).await.expect("no RabbitMQ");
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let (name, kind) = (EXCHANGE.into(), ExchangeKind::Topic);
        channel
            .exchange_declare(name, kind, durable, FieldTable::default())
            .await
            .unwrap();
        let getter = Mutex::new(connect(&url).await.unwrap());
        Self {
            url,
            connection,
            channel,
            getter,
            _turn: None,
        }
    }

    /// A new channel for a request that may fail: an error closes it.
    pub(super) async fn channel(&self) -> Channel {
        self.connection.create_channel().await.unwrap()
    }

    /// Creates the queue with these arguments and no binding.
    pub(crate) async fn make_queue(&self, arguments: &[(&str, AMQPValue)]) {
        let durable = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        self.channel
            .queue_declare(QUEUE.into(), durable, table(arguments))
            .await
            .unwrap();
    }

    pub(super) async fn delete_queue(&self) {
        self.channel
            .queue_delete(QUEUE.into(), QueueDeleteOptions::default())
            .await
            .unwrap();
    }

    pub(super) async fn delete_exchange(&self) {
        self.channel
            .exchange_delete(EXCHANGE.into(), ExchangeDeleteOptions::default())
            .await
            .unwrap();
    }

    /// Makes the broker refuse events with this reference: a full queue is bound for them alone.
    pub(super) async fn refuse_reference(&self, reference: &str) {
        // Both are deleted with the queue, and the queue with the connection.
        let by_header = ExchangeDeclareOptions {
            auto_delete: true,
            ..Default::default()
        };
        let exclusive = QueueDeclareOptions {
            exclusive: true,
            ..Default::default()
        };
        let no_room = table(&[
            ("x-max-length", AMQPValue::LongInt(0)),
            ("x-overflow", AMQPValue::LongString("reject-publish".into())),
        ]);
        let matching = table(&[("reference", AMQPValue::LongString(reference.into()))]);
        let (channel, refusing) = (&self.channel, REFUSING);
        channel
            .exchange_declare(
                refusing.into(),
                ExchangeKind::Headers,
                by_header,
                table(&[]),
            )
            .await
            .unwrap();
        channel
            .queue_declare(refusing.into(), exclusive, no_room)
            .await
            .unwrap();
        let options = QueueBindOptions::default();
        channel
            .queue_bind(
                refusing.into(),
                refusing.into(),
                "".into(),
                options,
                matching,
            )
            .await
            .unwrap();
        let options = ExchangeBindOptions::default();
        channel
            .exchange_bind(
                refusing.into(),
                EXCHANGE.into(),
                KEY.into(),
                options,
                table(&[]),
            )
            .await
            .unwrap();
    }

    /// Accepts all events again.
    pub(super) async fn refuse_nothing(&self) {
        self.channel
            .queue_delete(REFUSING.into(), QueueDeleteOptions::default())
            .await
            .unwrap();
    }

    pub(super) async fn has_queue(&self) -> bool {
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let channel = self.channel().await;
        channel
            .queue_declare(QUEUE.into(), passive, FieldTable::default())
            .await
            .is_ok()
    }

    pub(super) async fn bind(&self) {
        self.bind_to(KEY).await;
    }

    pub(crate) async fn bind_to(&self, key: &str) {
        let options = QueueBindOptions::default();
        self.channel
            .queue_bind(
                QUEUE.into(),
                EXCHANGE.into(),
                key.into(),
                options,
                FieldTable::default(),
            )
            .await
            .unwrap();
    }

    pub(super) async fn unbind(&self) {
        self.channel
            .queue_unbind(
                QUEUE.into(),
                EXCHANGE.into(),
                KEY.into(),
                FieldTable::default(),
            )
            .await
            .unwrap();
    }

    /// Removes all messages from the queue. Empty if there is no queue.
    pub(super) async fn take_all(&self) -> Vec<Event> {
        let mut getter = self.getter.lock().await;
        let mut events = Vec::new();
        let no_ack = BasicGetOptions { no_ack: true };
        loop {
            let message = match getter.1.basic_get(QUEUE.into(), no_ack).await {
                Ok(Some(message)) => message,
                Ok(None) => return events,
                Err(_) => {
                    if let Ok(new) = connect(&self.url).await {
                        *getter = new;
                    }
                    return events;
                }
            };
            let properties = message.delivery.properties;
            let id = properties.message_id().as_ref().expect("no message_id");
            events.push(Event {
                id: id.to_string(),
                routing_key: message.delivery.routing_key.to_string(),
                body: serde_json::from_slice(&message.delivery.data).expect("a body of JSON"),
                properties,
            });
        }
    }

    /// Waits for this many different events. Returns all deliveries, including repeats. Each must match the AsyncAPI
    /// document.
    pub(crate) async fn receive(&self, wanted: usize) -> Vec<Event> {
        let events = self.receive_any(wanted).await;
        events.iter().for_each(Event::check);
        events
    }

    /// The same for messages that are not from the relay.
    pub(super) async fn receive_any(&self, wanted: usize) -> Vec<Event> {
        let mut events = Vec::new();
        eventually(&format!("{wanted} events"), async || {
            events.extend(self.take_all().await);
            (ids(&events).len() >= wanted).then_some(())
        })
        .await;
        assert_eq!(ids(&events).len(), wanted, "unexpected events");
        events
    }
}

async fn connect(url: &str) -> lapin::Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    table
}

pub(super) fn ids(events: &[Event]) -> HashSet<&str> {
    events.iter().map(|event| event.id.as_str()).collect()
}

/// Sells one unit. Returns the reservation.
pub(super) async fn sell(system: &System, product: i64, user: i64) -> Value {
    let hold = system.reserve(product, user).await;
    system.confirm(&hold).await
}

/// Inserts events into the outbox, as if this many reservations were confirmed at once.
pub(super) async fn insert_events(system: &System, events: i32) {
    let insert = "insert into outbox_events (event_type, payload)
        select 'ReservationConfirmed', jsonb_build_object('reservation_id', n, 'product_id', 1,
            'user_id', n, 'quantity', 1, 'confirmed_at', clock_timestamp())
        from generate_series(1, $1) n";
    sqlx::query(insert)
        .bind(events)
        .execute(&system.database.pool)
        .await
        .unwrap();
}

/// Number of outbox rows with this condition.
pub(super) async fn rows(system: &System, condition: &str) -> i64 {
    let count = format!("select count(*) from outbox_events where {condition}");
    sqlx::query_scalar(AssertSqlSafe(count))
        .fetch_one(&system.database.pool)
        .await
        .unwrap()
}

/// Waits until this many outbox rows have this condition.
pub(super) async fn comes_to(system: &System, wanted: i64, condition: &str) {
    eventually(&format!("{wanted} rows where {condition}"), async || {
        (rows(system, condition).await == wanted).then_some(())
    })
    .await;
}
