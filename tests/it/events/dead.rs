//! Events that cannot be published, ever or for now.

use lapin::types::AMQPValue;
use serde_json::{Value, json};

use super::stage::{Broker, REFUSED, Relay, comes_to, ids, insert_events, rows};
use crate::support::{System, assert_fields, assert_utc};

async fn dead_events(system: &System) -> Vec<Value> {
    let dead = system.get("/admin/outbox/dead").await.expect(200);
    dead.as_array().unwrap().clone()
}

async fn requeue(system: &System, wanted: u64) {
    let requeued = system.post("/admin/outbox/requeue").await.expect(200);
    assert_eq!(requeued, json!({"requeued": wanted}));
}

#[tokio::test]
async fn what_cannot_be_read_is_put_aside_and_can_be_tried_again() {
    let broker = Broker::shared().await;
    let system = System::start().await;
    for (kind, payload) in [
        ("ReservationConfirmed", r#"{"reservation_id": 1}"#),
        ("ReservationConfirmed", "[]"),
        ("ReservationLost", "{}"),
    ] {
        sqlx::query("insert into outbox_events (event_type, payload) values ($1, $2::jsonb)")
            .bind(kind)
            .bind(payload)
            .execute(&system.database.pool)
            .await
            .unwrap();
    }
    insert_events(&system, 2).await;
    let settings = [
        ("RELAY_BATCH_ROWS", "1"),
        ("RELAY_WORKERS", "1"),
        ("RELAY_MAX_ATTEMPTS", "1"),
    ];
    let mut relay = Relay::start(&system, &broker.url, &settings).await;
    broker.receive(2).await;
    comes_to(&system, 2, "published_at is not null").await;
    relay.child.logs("these events are dead").await;

    let dead = dead_events(&system).await;
    assert_eq!(dead.len(), 3, "{dead:?}");
    for (event, id) in dead.iter().zip(1..) {
        let fields = [
            "id",
            "event_id",
            "event_type",
            "payload",
            "attempts",
            "last_error",
            "dead_at",
        ];
        assert_fields(event, &fields);
        assert_eq!(event["id"], id);
        assert_eq!(event["attempts"], 1);
        let error = event["last_error"].as_str().unwrap();
        assert!(error.starts_with("cannot be read: "), "{error}");
        assert_utc(&event["dead_at"]);
    }
    assert_eq!(dead[0]["payload"], json!({"reservation_id": 1}));
    relay.counts("flashsale_events_dead", 3.0).await;

    // A later release can read the one that is mended here. The others die again.
    let mend = "update outbox_events set payload = (select payload from outbox_events where id = 4) where id = 1";
    sqlx::query(mend)
        .execute(&system.database.pool)
        .await
        .unwrap();
    requeue(&system, 3).await;
    let events = broker.receive(1).await;
    assert_eq!(dead[0]["event_id"], *events[0].id);
    comes_to(&system, 2, "dead_at is not null").await;
    let still_dead: Vec<_> = dead_events(&system)
        .await
        .iter()
        .map(|event| event["id"].clone())
        .collect();
    assert_eq!(still_dead, [2, 3]);
}

#[tokio::test]
async fn an_event_that_the_broker_refuses_dies_after_its_attempts() {
    let broker = Broker::shared().await;
    let full = AMQPValue::LongString("reject-publish".into());
    broker
        .make_queue(&[
            ("x-max-length", AMQPValue::LongInt(1)),
            ("x-overflow", full),
        ])
        .await;
    broker.bind().await;
    let system = System::start().await;
    insert_events(&system, 1).await;
    let settings = [
        ("RELAY_DECLARE_QUEUE", "false"),
        ("RELAY_MAX_ATTEMPTS", "2"),
    ];
    let relay = Relay::start(&system, &broker.url, &settings).await;
    comes_to(&system, 1, "published_at is not null").await;
    // Now the queue is full.
    insert_events(&system, 1).await;
    comes_to(
        &system,
        1,
        "attempts = 2 and dead_at is not null and published_at is null",
    )
    .await;
    let dead = dead_events(&system).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["last_error"], "refused by the broker");
    relay.counts(REFUSED, 2.0).await;

    // Requeued into a full queue, it has all its attempts again, and dies again.
    requeue(&system, 1).await;
    comes_to(&system, 1, "attempts = 2 and dead_at is not null").await;
    relay.counts(REFUSED, 4.0).await;
    let first = broker.take_all().await;
    assert_eq!(first.len(), 1);
    requeue(&system, 1).await;
    let second = broker.receive(1).await;
    assert_eq!(dead[0]["event_id"], *second[0].id);
    assert!(!ids(&first).contains(second[0].id.as_str()));
    comes_to(&system, 2, "published_at is not null").await;
    assert_eq!(rows(&system, "dead_at is not null").await, 0);
    requeue(&system, 0).await;
    assert_eq!(dead_events(&system).await, [] as [Value; 0]);
}
