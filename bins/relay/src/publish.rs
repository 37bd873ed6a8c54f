//! The AMQP part of the relay: a connection with one confirm channel, and batches published on it.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{Shutdown, TcpStream},
    os::fd::AsFd as _,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
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
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

pub const EXCHANGE: &str = "flashsale.events";
pub const QUEUE: &str = "reservation-confirmed";
pub(crate) const CONTENT_TYPE: &str = "application/json";
pub(crate) const APP_ID: &str = "flashsale-relay";
/// Persistent.
pub(crate) const DELIVERY_MODE: u8 = 2;
const RESERVATION_CONFIRMED: &str = "reservation.confirmed";

/// Time limit from the DNS lookup to the last declaration.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// An idle peer that vanishes is detected within twice this time; a busy one by missing confirms.
const HEARTBEAT_SECONDS: u16 = 10;

/// How often the state of a blocked connection is checked.
const BLOCKED_POLL: Duration = Duration::from_millis(50);

/// The broker, and whether the relay declares the queue.
pub struct Broker {
    uri: AMQPUri,
    declare_queue: bool,
}

/// One event, ready to be sent.
pub struct Message {
    id: ShortString,
    kind: ShortString,
    routing_key: ShortString,
    headers: FieldTable,
    created_unix_seconds: u64,
    body: Vec<u8>,
}

/// Outcome of a published message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// The broker has stored it in every queue that is bound for it.
    Acked,
    /// No queue is bound for it.
    Returned,
    /// The broker refused this message, and accepted all others with its routing key.
    Refused,
    /// The broker refused it, but would have refused any message: for example, a queue is full.
    QueueRejected,
    /// No confirm came: the message may have arrived. Its row stays unpublished.
    Unknown,
}

impl Message {
    /// Fails if the row cannot be parsed as an event. A retry cannot help then.
    pub fn new(row: &Claimed) -> Result<Self, serde_json::Error> {
        let event = row.event()?;
        let (routing_key, version) = terms(&event);
        let mut headers = FieldTable::default();
        if let Some(version) = version {
            headers.insert("version".into(), AMQPValue::LongInt(version));
        }
        if let Some(reference) = event.reference() {
            headers.insert("reference".into(), AMQPValue::LongString(reference.into()));
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
}

/// An event's routing key and version. Consumers use the version to order the events of one reservation, which may
/// arrive in any order.
pub(crate) fn terms(event: &Event) -> (&'static str, Option<i32>) {
    match event {
        Event::ReservationCreated(_) => ("reservation.created", Some(1)),
        Event::ReservationConfirmed(_) => (RESERVATION_CONFIRMED, Some(2)),
        Event::ReservationCanceled(_) => ("reservation.canceled", Some(2)),
        Event::ReservationExpired(_) => ("reservation.expired", Some(2)),
        Event::ReservationReturned(_) => ("reservation.returned", Some(3)),
        Event::StockAdjusted(_) => ("stock.adjusted", None),
    }
}

impl Broker {
    pub fn new(url: &str, declare_queue: bool) -> anyhow::Result<Self> {
        // The parser's message could contain the URL and its password.
        let mut uri: AMQPUri = url.parse().map_err(|_| {
            anyhow!("AMQP_URL is not an AMQP URL (amqp://user:password@host:port/vhost)")
        })?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(Self { uri, declare_queue })
    }

    /// Connects and declares the topology. After an error nothing stays open.
    pub async fn connect(&self) -> anyhow::Result<Publisher> {
        let alive = CancellationToken::new();
        // Dropping the guard closes the socket on every return path.
        let socket = alive.clone().drop_guard();
        let open = async {
            let connection = self.dial(alive).await.context("cannot connect")?;
            let channel = connection.create_channel().await?;
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await?;
            declare(&channel, self.declare_queue).await?;
            anyhow::Ok((channel, connection))
        };
        let (channel, connection) = timeout(CONNECT_LIMIT, open)
            .await
            .map_err(|_| anyhow!("no answer within {} s", CONNECT_LIMIT.as_secs()))??;
        Ok(Publisher {
            channel,
            connection,
            declare_queue: self.declare_queue,
            settled: true,
            _socket: socket,
        })
    }

    /// lapin never abandons a connection. A close waits for the peer's answer, even while the peer is frozen or
    /// blocks the connection, so that the request cannot even be written. A thread would remain, and messages could
    /// still be sent later. Therefore a separate handle shuts the socket down.
    async fn dial(&self, alive: CancellationToken) -> lapin::Result<Connection> {
        // No auto-recovery: it would continue on a new connection with the state of the old one.
        let properties =
            ConnectionProperties::default().with_connection_name("flashsale-relay".into());
        Connection::connector(
            self.uri.clone(),
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
}

async fn declare(channel: &Channel, declare_queue: bool) -> anyhow::Result<()> {
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
    if !declare_queue {
        return Ok(());
    }
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

/// A connection with one channel, for one batch at a time. Dropping it closes the connection at once.
pub struct Publisher {
    channel: Channel,
    connection: Connection,
    declare_queue: bool,
    /// Whether every message so far has an outcome. If not, a late return could be attributed to a later batch, so
    /// the channel must not be used again.
    settled: bool,
    _socket: DropGuard,
}

impl Publisher {
    /// Sends all messages at once and waits until `deadline` for the outcome of each. An error says why some stayed
    /// [`Fate::Unknown`]. The publisher must not be used after an error.
    pub async fn publish(
        &mut self,
        messages: &[Message],
        deadline: Instant,
    ) -> (Vec<Fate>, anyhow::Result<()>) {
        self.settled = false;
        let mut fates = vec![Fate::Unknown; messages.len()];
        let mut returned = HashSet::new();
        let mut error = None;
        let channel = &self.channel;
        // `basic_publish` returns when the message is on the wire. Sent one after the other, each would cost a write
        // and two thread switches. Polled by one task they are sent together, in order.
        let mut confirms: FuturesUnordered<_> = messages
            .iter()
            .enumerate()
            .map(async |(index, message)| (index, send(channel, message).await))
            .collect();
        let settle = async {
            while let Some((index, confirm)) = confirms.next().await {
                let (fate, back) = match confirm {
                    Ok(Confirmation::Ack(back)) => (Fate::Acked, back),
                    Ok(Confirmation::Nack(back)) => (Fate::QueueRejected, back),
                    Ok(Confirmation::NotRequested) => (Fate::Unknown, None),
                    Err(cause) => {
                        error.get_or_insert(anyhow::Error::new(cause));
                        continue;
                    }
                };
                fates[index] = fate;
                returned.extend(back.and_then(|back| back.properties.message_id().clone()));
            }
        };
        let in_time = timeout_at(deadline, settle).await.is_ok();
        attribute(
            &mut fates,
            messages.iter().map(|message| &message.id),
            &returned,
        );
        classify_nacks(
            &mut fates,
            messages.iter().map(|message| &message.routing_key),
        );
        let unknown = fates.iter().filter(|fate| **fate == Fate::Unknown).count();
        self.settled = unknown == 0;
        let result = match error {
            None if self.settled => Ok(()),
            None if self.is_blocked() => Err(anyhow!(
                "the broker blocks publishers (memory or disk alarm)"
            )),
            None if in_time => Err(anyhow!("the channel lost its confirms")),
            None => Err(anyhow!(
                "{unknown} of {} confirms did not come in time",
                messages.len()
            )),
            Some(error) => Err(error.context("the broker went away, or closed the channel")),
        };
        (fates, result)
    }

    /// Declares the topology again. A message may be unroutable because the queue was deleted.
    pub async fn declare(&mut self) -> anyhow::Result<()> {
        match timeout(CONNECT_LIMIT, declare(&self.channel, self.declare_queue)).await {
            Ok(declared) => declared,
            Err(_) => bail!("no answer within {} s", CONNECT_LIMIT.as_secs()),
        }
    }

    /// Whether another batch may be published.
    pub fn is_usable(&self) -> bool {
        self.settled && self.connection.status().connected() && self.channel.status().connected()
    }

    fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Waits while the broker blocks this connection. A new connection would detect the block only by publishing, and
    /// every attempt would leave another copy of its batch in the socket buffers.
    pub async fn unblocked(&self) {
        while self.is_blocked() && self.connection.status().connected() {
            sleep(BLOCKED_POLL).await;
        }
    }

    /// Closes the connection properly. Otherwise the broker logs a warning.
    pub async fn close(self) {
        let _ = timeout(
            Duration::from_millis(500),
            self.connection.close(200, "stopping".into()),
        )
        .await;
    }
}

async fn send(channel: &Channel, message: &Message) -> lapin::Result<Confirmation> {
    let properties = BasicProperties::default()
        .with_message_id(message.id.clone())
        .with_type(message.kind.clone())
        .with_content_type(CONTENT_TYPE.into())
        .with_delivery_mode(DELIVERY_MODE)
        .with_headers(message.headers.clone())
        .with_timestamp(message.created_unix_seconds)
        .with_app_id(APP_ID.into());
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let (exchange, routing_key) = (EXCHANGE.into(), message.routing_key.clone());
    channel
        .basic_publish(exchange, routing_key, mandatory, &message.body, properties)
        .await?
        .await
}

/// Gives each return to its message.
///
/// With several messages in flight, lapin 4 hands the oldest return to whichever confirm comes next. The return
/// belongs to any message of this batch. A return comes before the ack of its own message, and every ack takes one
/// waiting return along. So once all confirms are here, all returns are here. And while no ack brought a return, no
/// acked message was returned. In between, when a confirm is missing and a return was seen, an unroutable message's
/// ack may have come with the return of another message while its own return still waits. Then no ack counts.
fn attribute<'a>(
    fates: &mut [Fate],
    ids: impl Iterator<Item = &'a ShortString>,
    returned: &HashSet<ShortString>,
) {
    let doubtful = !returned.is_empty() && fates.contains(&Fate::Unknown);
    for (fate, id) in fates.iter_mut().zip(ids) {
        if returned.contains(id) {
            *fate = Fate::Returned;
        } else if doubtful && *fate == Fate::Acked {
            *fate = Fate::Unknown;
        }
    }
}

/// Distinguishes the refusal of one message from the refusal of a full queue. If the broker accepted all other
/// messages of the routing key, and at least one of them later, then the queues had room, and only this message was
/// refused. The rule can fail when a consumer frees room in the middle of a batch. Therefore an event has several
/// attempts.
fn classify_nacks<'a>(fates: &mut [Fate], keys: impl Iterator<Item = &'a ShortString>) {
    let mut by_key: HashMap<_, Vec<usize>> = HashMap::new();
    if fates.contains(&Fate::QueueRejected) {
        for (index, key) in keys.enumerate() {
            by_key.entry(key).or_default().push(index);
        }
    }
    for indexes in by_key.values() {
        let mut others = indexes.iter().filter(|&&index| fates[index] != Fate::Acked);
        if let (Some(&one), None) = (others.next(), others.next())
            && fates[one] == Fate::QueueRejected
            && indexes.last() != Some(&one)
        {
            fates[one] = Fate::Refused;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fate::*, *};

    fn judged<const N: usize>(messages: [(&str, Fate); N]) -> [Fate; N] {
        let keys = messages.map(|(key, _)| ShortString::from(key));
        let mut fates = messages.map(|(_, fate)| fate);
        classify_nacks(&mut fates, keys.iter());
        fates
    }

    #[test]
    fn a_message_is_refused_alone_between_others_that_are_taken() {
        let (yes, no) = (("a", Acked), ("a", QueueRejected));
        assert_eq!(judged([yes, no, yes]), [Acked, Refused, Acked]);
        assert_eq!(judged([no, yes]), [Refused, Acked]);
        // A queue that becomes full, one that is full, and one that is being consumed.
        assert_eq!(judged([yes, yes, no]), [Acked, Acked, QueueRejected]);
        assert_eq!(judged([no]), [QueueRejected]);
        assert_eq!(judged([no, no]), [QueueRejected, QueueRejected]);
        assert_eq!(
            judged([no, yes, no, yes])[..3],
            [QueueRejected, Acked, QueueRejected]
        );
        // Other routing keys lead to other queues, and of some messages the outcome is unknown.
        assert_eq!(judged([no, ("b", Acked)]), [QueueRejected, Acked]);
        assert_eq!(
            judged([no, ("b", QueueRejected), yes, ("b", Acked)])[..2],
            [Refused, Refused]
        );
        assert_eq!(judged([no, ("a", Unknown), yes])[0], QueueRejected);
    }

    fn attributed(fates: &[Fate], returned: &[&str]) -> Vec<Fate> {
        let ids: Vec<ShortString> = ["a", "b", "c"].map(Into::into).into();
        let returned = returned.iter().map(|id| (*id).into()).collect();
        let mut fates = fates.to_vec();
        attribute(&mut fates, ids.iter(), &returned);
        fates
    }

    #[test]
    fn returns_go_by_message_id_and_cast_doubt_on_an_incomplete_batch() {
        assert_eq!(
            attributed(&[Acked, Acked, Acked], &["b"]),
            [Acked, Returned, Acked]
        );
        assert_eq!(
            attributed(&[Acked, Unknown, Acked], &[]),
            [Acked, Unknown, Acked]
        );
        assert_eq!(
            attributed(&[Acked, Unknown, QueueRejected], &["b"]),
            [Unknown, Returned, QueueRejected]
        );
        assert_eq!(
            attributed(&[Acked, Unknown, Acked], &["c"]),
            [Unknown, Unknown, Returned]
        );
    }

    #[test]
    fn a_bad_url_is_not_repeated() {
        let error = Broker::new("amqp//guest:secret@host", true)
            .map(|_| ())
            .expect_err("no URL");
        assert!(!format!("{error:#}").contains("secret"));
    }
}
