//! The example consumer.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
};

use lapin::{BasicProperties, options::BasicPublishOptions, types::AMQPValue};

use super::stage::{Broker, EXCHANGE, KEY};

/// A running consumer. Dropping it kills it.
struct Consumer {
    process: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Consumer {
    /// Set `--timeout-seconds`: reading from it ends when it ends.
    fn start(broker: &Broker, arguments: &[&str]) -> Self {
        let mut binary = std::env::current_exe().unwrap();
        binary.pop();
        binary.pop();
        let binary: PathBuf = binary.join("examples/consumer");
        let mut process = Command::new(&binary)
            .env_clear()
            .env("AMQP_URL", &broker.url)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{error}: {}: cargo build --workspace --examples",
                    binary.display()
                )
            });
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// The next line of its output, or `None` at its end.
    fn line(&mut self) -> Option<String> {
        self.lines.next().map(Result::unwrap)
    }

    fn succeeds(&mut self) -> bool {
        self.process.wait().unwrap().success()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(super) async fn publish(broker: &Broker, id: &str, body: &str) {
    let channel = broker.channel().await;
    let properties = BasicProperties::default().with_message_id(id.into());
    channel
        .basic_publish(
            EXCHANGE.into(),
            KEY.into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            properties,
        )
        .await
        .unwrap();
    // The answer to the close arrives after the message was stored.
    channel.close(200, "done".into()).await.unwrap();
}

pub(super) async fn with_a_queue() -> Broker {
    let broker = Broker::shared().await;
    let quorum = AMQPValue::LongString("quorum".into());
    broker.make_queue(&[("x-queue-type", quorum)]).await;
    broker.bind().await;
    broker
}

#[tokio::test]
async fn it_prints_each_event_once_and_ends_after_so_many() {
    let broker = with_a_queue().await;
    for (id, body) in [
        ("a", "1"),
        ("a", "1"),
        ("b", "2"),
        ("a", "1"),
        ("c", "3"),
        ("d", "4"),
    ] {
        publish(&broker, id, body).await;
    }
    let mut consumer = Consumer::start(&broker, &["--count", "3", "--timeout-seconds", "60"]);
    for wanted in ["ready", "1", "2", "3"] {
        assert_eq!(consumer.line().as_deref(), Some(wanted));
    }
    assert_eq!(consumer.line(), None);
    assert!(consumer.succeeds());
    // Repeats are acked, and messages beyond the count stay in the queue.
    let mut next = Consumer::start(&broker, &["--count", "1", "--timeout-seconds", "60"]);
    assert_eq!(next.line().as_deref(), Some("ready"));
    assert_eq!(next.line().as_deref(), Some("4"));
}

#[tokio::test]
async fn a_tap_takes_no_event_from_anybody() {
    let broker = with_a_queue().await;
    publish(&broker, "a", "1").await;
    let mut tap = Consumer::start(
        &broker,
        &["--tap", "--count", "1", "--timeout-seconds", "60"],
    );
    assert_eq!(tap.line().as_deref(), Some("ready"));
    publish(&broker, "b", "2").await;
    assert_eq!(
        tap.line().as_deref(),
        Some("2"),
        "what came before it is not its business"
    );
    assert!(tap.succeeds());
    broker.receive_any(2).await;
}

#[tokio::test]
async fn it_fails_where_there_is_nothing_to_consume() {
    let broker = Broker::shared().await;
    let mut consumer = Consumer::start(&broker, &[]);
    assert_eq!(consumer.line(), None);
    assert!(!consumer.succeeds());
    broker.make_queue(&[]).await;
    let mut consumer = Consumer::start(&broker, &["--count", "1", "--timeout-seconds", "1"]);
    assert_eq!(consumer.line().as_deref(), Some("ready"));
    assert_eq!(consumer.line(), None);
    assert!(!consumer.succeeds());
}
