//! The consumers in `examples/`: an event has its effect once, also if it comes again after a crash.

use std::process::Command;

use serde_json::json;

use super::{
    consumer::{publish, with_a_queue},
    stage::Broker,
};
use crate::support::{Database, Folder, Program, Tools, root};

const IDS: [&str; 3] = [
    "6f1d0e1e-8a52-4c53-9f4b-000000000001",
    "6f1d0e1e-8a52-4c53-9f4b-000000000002",
    "6f1d0e1e-8a52-4c53-9f4b-000000000003",
];

/// Publishes the event with this number.
async fn publish_event(broker: &Broker, number: usize) {
    let payload = json!({
        "reservation_id": number, "product_id": 1, "user_id": 42, "quantity": 1,
        "confirmed_at": "2026-02-14T12:01:00Z",
    });
    let body = json!({ "event_type": "ReservationConfirmed", "payload": payload });
    publish(broker, IDS[number], &body.to_string()).await;
}

async fn drops_repeats(broker: &Broker, start: impl Fn() -> Command) {
    let mut consumer = Program::start(&mut start());
    consumer.says("ready").await;
    for number in [0, 0, 1] {
        publish_event(broker, number).await;
    }
    for wanted in ["handled 0", "repeat 0", "handled 1"] {
        consumer.says(wanted).await;
    }
    // A crash. What it has handled is known to the next one.
    drop(consumer);
    for number in [1, 2] {
        publish_event(broker, number).await;
    }
    let mut consumer = Program::start(&mut start());
    for wanted in ["repeat 1", "handled 2"] {
        consumer.says(wanted).await;
    }
}

#[tokio::test]
async fn the_consumer_in_python_drops_repeats_after_a_crash() {
    let Some(tools) = Tools::python() else { return };
    let broker = with_a_queue().await;
    let folder = Folder::new();
    drops_repeats(&broker, || {
        let mut python = tools.program("python");
        python.arg(root().join("examples/consumer.py"));
        python.arg(folder.path().join("shop.sqlite"));
        python.env("AMQP_URL", &broker.url);
        python
    })
    .await;
}

#[tokio::test]
async fn the_consumer_in_javascript_drops_repeats_after_a_crash() {
    let Some(tools) = Tools::node() else { return };
    let broker = with_a_queue().await;
    let database = Database::create().await;
    let folder = Folder::new();
    // Node.js looks for packages beside the script.
    std::os::unix::fs::symlink(tools.packages(), folder.path().join("node_modules")).unwrap();
    let script = folder.path().join("consumer.mjs");
    std::fs::copy(root().join("examples/consumer.mjs"), &script).unwrap();
    drops_repeats(&broker, || {
        let mut node = Command::new("node");
        node.arg(&script).env("AMQP_URL", &broker.url);
        node.env("DATABASE_URL", format!("postgres:///{}", database.name()));
        node.envs(database.psql_environment());
        node
    })
    .await;
    let orders: i64 = sqlx::query_scalar("select count(*) from orders")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert_eq!(orders, 3);
}
