//! The AMQP part of the relay: a connection with one confirm channel, and messages published on it.

use std::{
    io,
    net::{Shutdown, TcpStream},
    os::fd::AsFd as _,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use futures_util::{
    FutureExt as _, StreamExt as _, TryFutureExt as _, future::BoxFuture, stream::FuturesUnordered,
};
use inventory::{event::Event, outbox::Claimed};
use lapin::{
    AsyncTcpStream, BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    ExchangeKind,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    runtime::default_runtime,
    tcp::{AMQPUriTcpExt as _, OwnedTLSConfig},
    types::{AMQPValue, FieldTable, ShortString},
    uri::{AMQPScheme, AMQPUri},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use trace::{Publishing, Span};

use crate::{
    confirms::{Confirms, Fate, Tag},
    uris,
};

pub const EXCHANGE: &str = "flashsale.events";
pub const QUEUE: &str = "reservation-confirmed";
pub(crate) const CONTENT_TYPE: &str = "application/json";
pub(crate) const APP_ID: &str = "flashsale-relay";
/// Persistent.
pub(crate) const DELIVERY_MODE: u8 = 2;
const RESERVATION_CONFIRMED: &str = "reservation.confirmed";

/// Time limit from the DNS lookup to the last declaration: some eight round trips.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);

/// How long [`Dialing`] waits for its attempts before it starts another one, and how many it keeps. A slow broker
/// answers an old attempt, and a broker that is back after an outage answers the newest one.
const ATTEMPT_EVERY: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 4;

/// The same with several nodes.
const NEXT_NODE_AFTER: Duration = Duration::from_secs(1);

/// An idle peer that vanishes is detected within twice this time; a busy one by [`is_alive`]. Long enough for a network
/// that delays every answer by half a minute.
const HEARTBEAT_SECONDS: u16 = 30;

/// How long a channel may bring nothing but refusals. At least in RabbitMQ 3.10, a channel can go on refusing messages
/// for a queue that accepts them again (its limit was lifted), while a new channel is accepted at once.
const ONLY_REFUSALS_LIMIT: Duration = Duration::from_secs(5);

/// Time limit of an orderly close.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// Pause after a failed attempt to connect while an old connection is still waited for.
const REDIAL_PAUSE: Duration = Duration::from_secs(1);

/// The broker, and whether the relay declares the queue.
pub struct Broker {
    /// The nodes of the broker.
    uris: Vec<AMQPUri>,
    /// Number of the node that the next attempt tries. A node that fails leaves its place to the next one.
    next: AtomicUsize,
    declare_queue: bool,
}

/// One event, ready to be sent.
pub struct Message {
    id: ShortString,
    kind: ShortString,
    pub(crate) routing_key: ShortString,
    headers: FieldTable,
    created_unix_seconds: u64,
    body: Vec<u8>,
}

impl Message {
    /// Fails if the row cannot be parsed as an event. A retry cannot help then.
    pub fn new(row: &Claimed) -> Result<Self, serde_json::Error> {
        let event = row.event()?;
        let (routing_key, version) = routing(&event);
        let mut headers = FieldTable::default();
        if let Some(version) = version {
            headers.insert("version".into(), AMQPValue::LongInt(version));
        }
        if let Some(reference) = event.reference() {
            headers.insert("reference".into(), AMQPValue::LongString(reference.into()));
        }
        // Of the request, and not of the span below: each delivery of an event has the same headers.
        if let Some(traceparent) = &row.traceparent {
            let traceparent = AMQPValue::LongString(traceparent.as_str().into());
            headers.insert("traceparent".into(), traceparent);
        }
        Ok(Self {
            id: row.event_id.to_string().into(),
            kind: row.event_type.as_str().into(),
            routing_key: routing_key.into(),
            headers,
            created_unix_seconds: row.created_at.unix_timestamp().try_into().unwrap_or(0),
            body: serde_json::to_vec(&event)?,
        })
    }

    /// The span of its sending, in the trace of the request that caused it.
    pub(crate) fn span(&self, traceparent: Option<&str>) -> Span {
        Span::of_publishing(&Publishing {
            exchange: EXCHANGE,
            routing_key: self.routing_key.as_str(),
            message_id: self.id.as_str(),
            traceparent,
        })
    }
}

/// An event's routing key and version. Consumers use the version to order the events of one reservation, which may
/// arrive in any order.
pub(crate) fn routing(event: &Event) -> (&'static str, Option<i32>) {
    match event {
        Event::ReservationCreated(_) => ("reservation.created", Some(1)),
        Event::ReservationConfirmed(_) => (RESERVATION_CONFIRMED, Some(2)),
        Event::ReservationCanceled(_) => ("reservation.canceled", Some(2)),
        Event::ReservationExpired(_) => ("reservation.expired", Some(2)),
        Event::ReservationReturned(_) => ("reservation.returned", Some(3)),
        Event::StockAdjusted(_) => ("stock.adjusted", None),
        // Of the offered hold, with its creation.
        Event::WaitlistOffered(_) => ("waitlist.offered", Some(1)),
    }
}

impl Broker {
    /// Fails if the URL, or one of several, is not understood.
    pub fn new(urls: &str, declare_queue: bool) -> anyhow::Result<Self> {
        let mut uris = uris::parse(urls)?;
        for uri in &mut uris {
            uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        }
        Ok(Self {
            uris,
            next: AtomicUsize::new(0),
            declare_queue,
        })
    }

    /// How long an attempt is waited for before another one starts. With several nodes, the next one is tried soon.
    fn attempt_every(&self) -> Duration {
        match self.uris.len() {
            1 => ATTEMPT_EVERY,
            _ => NEXT_NODE_AFTER,
        }
    }

    /// Connects to one of the nodes, and declares the topology, or checks it. After an error nothing stays open.
    pub async fn connect(&self) -> anyhow::Result<Publisher> {
        let node = self.next.fetch_add(1, Relaxed) % self.uris.len();
        let publisher = self.connect_to(&self.uris[node]).await?;
        self.next.store(node, Relaxed);
        Ok(publisher)
    }

    async fn connect_to(&self, uri: &AMQPUri) -> anyhow::Result<Publisher> {
        let alive = CancellationToken::new();
        // Dropping the guard closes the socket on every return path.
        let socket = alive.clone().drop_guard();
        let open = async {
            let connection = dial(uri, alive).await.context("cannot connect")?;
            let channel = open_channel(&connection, self.declare_queue).await?;
            anyhow::Ok((channel, connection))
        };
        let opened = within(CONNECT_LIMIT, open).await;
        let address = &uri.authority;
        let (channel, connection) =
            opened.with_context(|| format!("{}:{}", address.host, address.port))?;
        Ok(Publisher {
            channel,
            connection,
            declare_queue: self.declare_queue,
            confirms: Confirms::default(),
            next_tag: 0,
            only_refuses_since: None,
            _socket: socket,
        })
    }
}

/// lapin never abandons a connection. A close waits for the peer's answer, even while the peer is frozen or
/// blocks the connection, so that the request cannot even be written. A thread would remain, and messages could
/// still be sent later. Therefore a separate handle shuts the socket down.
async fn dial(uri: &AMQPUri, alive: CancellationToken) -> lapin::Result<Connection> {
    // No auto-recovery: it would continue on a new connection with the state of the old one.
    let properties = ConnectionProperties::default().with_connection_name("flashsale-relay".into());
    Connection::connector(
        uri.clone(),
        default_runtime()?,
        async move |uri: AMQPUri, runtime| {
            let config = OwnedTLSConfig::default();
            let mut plain = uri.clone();
            plain.scheme = AMQPScheme::AMQP;
            let dialing = plain.connect_with_config_async(config.as_ref(), &runtime);
            let stream = alive
                .run_until_cancelled(dialing)
                .await
                .ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))??;
            if let AsyncTcpStream::Plain(stream) = &stream {
                let socket = TcpStream::from(stream.get_ref().as_fd().try_clone_to_owned()?);
                let abandoned = alive.clone().cancelled_owned();
                tokio::spawn(async move {
                    abandoned.await;
                    // Fails if the peer has closed it already. That is fine.
                    let _ = socket.shutdown(Shutdown::Both);
                });
            }
            match uri.scheme {
                AMQPScheme::AMQP => Ok(stream),
                AMQPScheme::AMQPS => Ok(stream
                    .into_tls(&uri.authority.host, config.as_ref())
                    .await?),
            }
        },
        properties,
    )
    .await
}

/// Attempts to connect that have no result yet.
pub(crate) struct Dialing<'a> {
    broker: &'a Broker,
    attempts: FuturesUnordered<BoxFuture<'a, anyhow::Result<Publisher>>>,
}

impl<'a> Dialing<'a> {
    pub(crate) fn new(broker: &'a Broker) -> Self {
        let attempts = FuturesUnordered::new();
        Self { broker, attempts }
    }

    /// Starts another attempt. The first one to succeed ends the others. An error of one attempt, or no result in time,
    /// is no end: the others continue with the next call.
    pub(crate) async fn attempt(&mut self) -> anyhow::Result<Publisher> {
        if self.attempts.len() < ATTEMPTS {
            self.attempts.push(self.broker.connect().boxed());
        }
        let limit = self.broker.attempt_every();
        let publisher = within(limit, self.attempts.select_next_some()).await?;
        self.attempts.clear();
        Ok(publisher)
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let done = timeout(limit, work).await;
    done.map_err(|_| anyhow!("no answer within {} s", limit.as_secs()))?
}

async fn open_channel(connection: &Connection, declare_queue: bool) -> anyhow::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    prepare(&channel, declare_queue).await?;
    Ok(channel)
}

/// Declares the topology, or only checks that the exchange exists: others own it.
async fn prepare(channel: &Channel, declare_queue: bool) -> anyhow::Result<()> {
    if declare_queue {
        return declare(channel).await;
    }
    exchange_exists(channel).await.with_context(|| {
        format!(
            "cannot find the exchange {EXCHANGE}; with RELAY_DECLARE_QUEUE=false its owner must declare it \
             (topic, durable)"
        )
    })
}

/// A passive declaration: needs no rights, and changes nothing.
async fn exchange_exists(channel: &Channel) -> lapin::Result<()> {
    let passive = ExchangeDeclareOptions {
        passive: true,
        ..Default::default()
    };
    channel
        .exchange_declare(
            EXCHANGE.into(),
            ExchangeKind::Topic,
            passive,
            FieldTable::default(),
        )
        .await
}

async fn declare(channel: &Channel) -> anyhow::Result<()> {
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel
        .exchange_declare(
            EXCHANGE.into(),
            ExchangeKind::Topic,
            durable,
            FieldTable::default(),
        )
        .await
        .with_context(|| format!("cannot declare the exchange {EXCHANGE} (topic, durable)"))?;
    let durable = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let mut quorum = FieldTable::default();
    quorum.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    channel.queue_declare(QUEUE.into(), durable, quorum).await.with_context(|| {
        format!(
            "cannot declare the queue {QUEUE} (quorum, durable); if it exists with other properties, \
             delete it, or set RELAY_DECLARE_QUEUE=false and bind it to {EXCHANGE}"
        )
    })?;
    let (key, arguments) = (RESERVATION_CONFIRMED.into(), FieldTable::default());
    channel
        .queue_bind(
            QUEUE.into(),
            EXCHANGE.into(),
            key,
            QueueBindOptions::default(),
            arguments,
        )
        .await
        .with_context(|| format!("cannot bind the queue {QUEUE}"))
}

/// A connection with one channel. Dropping it closes the connection at once.
pub struct Publisher {
    channel: Channel,
    connection: Connection,
    declare_queue: bool,
    confirms: Confirms,
    next_tag: Tag,
    /// Since when the channel has brought nothing but refusals.
    only_refuses_since: Option<Instant>,
    _socket: DropGuard,
}

impl Publisher {
    /// Sends all messages at once, in order. Returns the tag of the first one; the others follow by one.
    /// [`Self::outcomes`] reports what became of them.
    pub(crate) fn send(&mut self, messages: Vec<Message>) -> Tag {
        let first = self.next_tag;
        for message in messages {
            let id = message.id.clone();
            let confirm = send(self.channel.clone(), message).boxed();
            self.confirms.push(self.next_tag, id, confirm);
            self.next_tag += 1;
        }
        first
    }

    /// Waits for the next outcomes. Never returns while nothing is in flight. After an error no more outcomes come.
    /// Dropping the future loses nothing.
    pub(crate) async fn outcomes(&mut self) -> anyhow::Result<Vec<(Tag, Fate)>> {
        let outcomes = self.confirms.next().await;
        let outcomes = outcomes.context("the broker went away, or closed the channel")?;
        for (_, fate) in &outcomes {
            match fate {
                Fate::Acked => self.only_refuses_since = None,
                Fate::QueueRejected => {
                    self.only_refuses_since.get_or_insert_with(Instant::now);
                }
                Fate::Returned | Fate::Refused | Fate::Unknown => {}
            }
        }
        Ok(outcomes)
    }

    /// Declares or checks the topology again. A message may be unroutable because the queue was deleted.
    pub(crate) async fn prepare(&mut self) -> anyhow::Result<()> {
        within(ATTEMPT_EVERY, prepare(&self.channel, self.declare_queue)).await
    }

    /// Whether more messages may be sent.
    pub(crate) fn is_usable(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Whether the broker closed the channel, but not the connection: one of the messages is the cause.
    pub(crate) fn lost_only_the_channel(&self) -> bool {
        self.connection.status().connected() && !self.channel.status().connected()
    }

    /// Whether the channel has brought nothing but refusals for some seconds.
    pub(crate) fn only_refuses(&self) -> bool {
        self.only_refuses_since
            .is_some_and(|since| since.elapsed() >= ONLY_REFUSALS_LIMIT)
    }

    /// Whether the broker accepts no messages on this connection (memory or disk alarm). A new connection would detect
    /// it only by publishing, and every attempt would leave another copy of its messages in the socket buffers.
    pub(crate) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Replaces the channel. No outcome of the old one is reported any more.
    pub(crate) async fn reopen(&mut self) -> anyhow::Result<()> {
        let opening = open_channel(&self.connection, self.declare_queue);
        let new = within(ATTEMPT_EVERY, opening).await?;
        let old = std::mem::replace(&mut self.channel, new);
        self.confirms = Confirms::default();
        self.only_refuses_since = None;
        within(
            CLOSE_LIMIT,
            old.close(200, "stopping".into()).map_err(Into::into),
        )
        .await
    }

    /// The channel, for [`is_alive`].
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Closes the connection properly. Otherwise the broker logs a warning.
    pub async fn close(self) {
        let _ = timeout(CLOSE_LIMIT, self.connection.close(200, "stopping".into())).await;
    }
}

/// Whether the peer of a channel without confirms still answers. A round trip on the channel races against a new
/// connection, which needs many round trips. However slow the broker or the network is, a living connection wins, and
/// a dead one loses as soon as the broker can be reached again.
pub(crate) async fn is_alive(channel: Channel, broker: &Broker) -> bool {
    let reached = async {
        let mut dialing = Dialing::new(broker);
        while dialing.attempt().await.is_err() {
            sleep(REDIAL_PAUSE).await;
        }
    };
    tokio::select! {
        answered = exchange_exists(&channel) => answered.is_ok(),
        () = reached => false,
    }
}

async fn send(channel: Channel, message: Message) -> lapin::Result<Confirmation> {
    let properties = BasicProperties::default()
        .with_message_id(message.id)
        .with_type(message.kind)
        .with_content_type(CONTENT_TYPE.into())
        .with_delivery_mode(DELIVERY_MODE)
        .with_headers(message.headers)
        .with_timestamp(message.created_unix_seconds)
        .with_app_id(APP_ID.into());
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let (exchange, routing_key) = (EXCHANGE.into(), message.routing_key);
    channel
        .basic_publish(exchange, routing_key, mandatory, &message.body, properties)
        .await?
        .await
}
