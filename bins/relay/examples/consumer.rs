//! An example consumer of events, as a start for your own. It prints each event once, one per line.
//!
//! Delivery is at least once: after a crash or an outage an event can come again, with the same `message_id`. This
//! example stores the latest ids in memory, which is enough for printing. A consumer that changes a database should
//! insert the id into a table in the same transaction, with the id as primary key, and ack after the commit. A repeat
//! then violates the primary key, and the consumer acks it without any effect.

use std::{
    collections::{HashSet, VecDeque},
    io::Write as _,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Parser;
use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::{FieldTable, ShortString},
};

const EXCHANGE: &str = "flashsale.events";
const ROUTING_KEY: &str = "reservation.confirmed";

/// Most events that the broker sends before their acks.
const PREFETCH: u16 = 200;

/// Number of stored ids. An example: a replay can bring older events.
const REMEMBERED_IDS: usize = 100_000;

/// Prints `ready` once it is consuming, and then each event's body on a line of its own.
#[derive(Parser)]
struct Args {
    #[arg(
        long,
        env = "AMQP_URL",
        hide_env_values = true,
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2f"
    )]
    amqp_url: String,

    /// The queue to consume. It must exist; by default the relay declares it.
    #[arg(long, default_value = "reservation-confirmed")]
    queue: String,

    /// Use a temporary queue instead. It gets copies of new events, so other consumers still get all events.
    #[arg(long)]
    tap: bool,

    /// End after this many events.
    #[arg(long)]
    count: Option<u64>,

    /// Fail after this number of seconds.
    #[arg(long)]
    timeout_seconds: Option<u64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.timeout_seconds {
        Some(seconds) => {
            match tokio::time::timeout(Duration::from_secs(seconds), consume(&args)).await {
                Ok(done) => done,
                Err(_) => bail!("not done within {seconds} s"),
            }
        }
        None => consume(&args).await,
    }
}

async fn consume(args: &Args) -> anyhow::Result<()> {
    let connection = Connection::connect(&args.amqp_url, ConnectionProperties::default())
        .await
        .context("cannot connect to RabbitMQ")?;
    let channel = connection.create_channel().await?;
    let queue = if args.tap {
        tap(&channel).await?
    } else {
        args.queue.as_str().into()
    };
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await?;
    let mut deliveries = channel
        .basic_consume(
            queue,
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .context("cannot consume the queue")?;
    say(b"ready")?;

    let mut seen = Seen::default();
    let mut events = 0;
    while args.count.is_none_or(|count| events < count) {
        let Some(delivery) = deliveries.next().await else {
            bail!("the queue is gone")
        };
        let delivery = delivery.context("the connection to RabbitMQ is lost")?;
        if seen.is_new(delivery.properties.message_id().as_ref()) {
            say(&delivery.data)?;
            events += 1;
        }
        // Ack only after the work: after a crash before the ack, the broker delivers the event again.
        delivery.ack(BasicAckOptions::default()).await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// Declares a queue for this connection only. The broker deletes it when the connection ends.
async fn tap(channel: &Channel) -> anyhow::Result<ShortString> {
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
        .await?;
    let ours = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..Default::default()
    };
    let queue = channel
        .queue_declare("".into(), ours, FieldTable::default())
        .await?;
    let (name, key) = (queue.name().clone(), ROUTING_KEY.into());
    channel
        .queue_bind(
            name.clone(),
            EXCHANGE.into(),
            key,
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok(name)
}

/// Prints a line and flushes, so that a reader of a pipe gets it at once.
fn say(line: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(line)?;
    out.write_all(b"\n")?;
    out.flush().context("cannot write to stdout")
}

#[derive(Default)]
struct Seen {
    ids: HashSet<ShortString>,
    oldest_first: VecDeque<ShortString>,
}

impl Seen {
    /// Whether the event is new. An event without an id always counts as new.
    fn is_new(&mut self, id: Option<&ShortString>) -> bool {
        let Some(id) = id else { return true };
        let new = self.ids.insert(id.clone());
        if new {
            self.oldest_first.push_back(id.clone());
        }
        if self.oldest_first.len() > REMEMBERED_IDS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.ids.remove(&oldest);
        }
        new
    }
}
