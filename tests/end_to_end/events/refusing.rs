//! Channels that refuse all messages, and users of RabbitMQ with few rights.

use lapin::types::AMQPValue;

use super::stage::{BROKER_ERRORS, Broker, KEY, REFUSED, comes_to, insert_events, rows};
use crate::support::{Peer, Server, Service, System};

const OWN_TOPOLOGY: (&str, &str) = ("RELAY_DECLARE_QUEUE", "false");

/// RabbitMQ 3.10 goes on refusing on a channel that has met the limit of a quorum queue, also after the limit is gone.
#[tokio::test]
async fn a_channel_that_only_refuses_is_replaced() {
    let server = Server::start_new(Service::Rabbitmq);
    let broker = Broker::on(&server).await;
    let quorum = AMQPValue::LongString("quorum".into());
    broker.make_queue(&[("x-queue-type", quorum)]).await;
    broker.bind().await;
    let limit = r#"{"max-length": 1, "overflow": "reject-publish"}"#;
    let policy = ["set_policy", "limit", "^reservation-confirmed$", limit];
    server.rabbitmqctl(&policy).unwrap();
    let system = System::start().await;
    let settings = [
        OWN_TOPOLOGY,
        ("RELAY_MAX_ATTEMPTS", "1"),
        ("RELAY_WORKERS", "1"),
    ];
    let relay = Peer::relay(&system, &server.url, &settings).await;
    relay.sees_rabbitmq("up").await;
    let mut inserted = 0;
    while relay.metric(REFUSED).await == 0.0 {
        insert_events(&system, 10).await;
        inserted += 10;
        comes_to(&system, 0, "published_at is null and last_error is null").await;
    }
    server.rabbitmqctl(&["clear_policy", "limit"]).unwrap();
    // The channel is young, and refuses these, too.
    insert_events(&system, 10).await;
    inserted += 10;
    comes_to(
        &system,
        inserted,
        "published_at is not null and attempts = 0",
    )
    .await;
    broker.receive(inserted.try_into().unwrap()).await;
}

/// The rights of docs/operating.md, as arguments of `rabbitmqctl set_permissions`: configure, write, read.
const TO_WRITE: [&str; 3] = ["^$", r"^flashsale\.events$", "^$"];
const TO_DECLARE: [&str; 3] = [
    r"^(flashsale\.events|reservation-confirmed)$",
    r"^(flashsale\.events|reservation-confirmed)$",
    r"^flashsale\.events$",
];

#[tokio::test]
async fn the_relay_needs_only_the_documented_rights() {
    let server = Server::start_new(Service::Rabbitmq);
    server
        .rabbitmqctl(&["add_user", "relay", "of-relay"])
        .unwrap();
    let url = server.url.replace("guest:guest", "relay:of-relay");
    let documented = include_str!("../../../docs/operating.md");
    let grant = |rights: [&str; 3]| {
        let command = format!("set_permissions relay '{}'", rights.join("' '"));
        assert!(documented.contains(&command), "{command}");
        let arguments = [&["set_permissions", "relay"], &rights[..]].concat();
        server.rabbitmqctl(&arguments).unwrap();
    };
    let system = System::start().await;

    // Nothing exists yet. Others own the topology, and declare it late.
    grant(TO_WRITE);
    insert_events(&system, 3).await;
    let mut relay = Peer::relay(&system, &url, &[OWN_TOPOLOGY]).await;
    relay
        .child
        .logs("cannot find the exchange flashsale.events")
        .await;
    relay.counts(BROKER_ERRORS, 3.0).await;
    assert_eq!(rows(&system, "xmax = 0").await, 3, "claimed");
    let broker = Broker::on(&server).await;
    broker.make_queue(&[]).await;
    broker.bind().await;
    broker.receive(3).await;
    comes_to(&system, 3, "published_at is not null").await;

    // One event that the user may not write does not stop the others.
    let topics = ["set_topic_permissions", "relay", "flashsale.events"];
    let topics = [&topics[..], &[r"^reservation\.", "^$"]].concat();
    server.rabbitmqctl(&topics).unwrap();
    system
        .database
        .execute(
            "insert into outbox_events (event_type, payload) values ('StockAdjusted',
            '{\"adjustment_id\": 1, \"product_id\": 1, \"delta\": 1, \"reason\": \"found\", \"stock\": 1, \"total\": 1,
            \"adjusted_at\": \"2026-02-14T12:30:00Z\"}')",
        )
        .await;
    insert_events(&system, 30).await;
    comes_to(&system, 33, "published_at is not null").await;
    broker.receive(30).await;
    comes_to(
        &system,
        1,
        "published_at is null and last_error like '%ACCESS_REFUSED%'",
    )
    .await;
    drop(relay);

    // The relay owns the topology.
    server
        .rabbitmqctl(&["clear_topic_permissions", "relay"])
        .unwrap();
    system.database.execute("delete from outbox_events").await;
    broker.delete_queue().await;
    broker.delete_exchange().await;
    grant(TO_DECLARE);
    insert_events(&system, 3).await;
    let _relay = Peer::relay(&system, &url, &[]).await;
    comes_to(&system, 3, "published_at is not null").await;
    assert_eq!(broker.receive(3).await[0].routing_key, KEY);
}
