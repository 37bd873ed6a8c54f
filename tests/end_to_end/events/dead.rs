//! Events that cannot be published, permanently or temporarily.

use lapin::types::AMQPValue;
use serde_json::{Value, json};

use super::stage::{Broker, REFUSED, comes_to, ids, insert_events, rows};
use crate::support::{DEAD_LETTER_FIELDS, Peer, System, assert_fields, assert_utc, eventually};

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
    let mut relay = Peer::relay(&system, &broker.url, &settings).await;
    broker.receive(2).await;
    comes_to(&system, 2, "published_at is not null").await;
    relay.child.logs("these events are dead").await;

    let dead = dead_events(&system).await;
    assert_eq!(dead.len(), 3, "{dead:?}");
    for (event, id) in dead.iter().zip(1..) {
        assert_fields(event, &DEAD_LETTER_FIELDS);
        assert_eq!(event["id"], id);
        assert_eq!(event["attempts"], 1);
        let error = event["last_error"].as_str().unwrap();
        assert!(error.starts_with("cannot be read: "), "{error}");
        assert_utc(&event["dead_at"]);
    }
    assert_eq!(dead[0]["payload"], json!({"reservation_id": 1}));
    relay.counts("flashsale_events_dead", 3.0).await;

    // The repaired event can be parsed by a later release. The others become dead letters again.
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

/// All waiting events are due in this interval from now. When this returns, none is in flight, because a relay locks
/// its rows.
async fn try_all_in(system: &System, interval: &str) {
    let update = "update outbox_events set next_attempt_at = now() + $1::interval where published_at is null";
    sqlx::query(update)
        .bind(interval)
        .execute(&system.database.pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn no_event_dies_of_a_queue_that_is_full() {
    let broker = Broker::shared().await;
    broker
        .make_queue(&[
            ("x-max-length", AMQPValue::LongInt(1)),
            ("x-overflow", AMQPValue::LongString("reject-publish".into())),
        ])
        .await;
    broker.bind().await;
    let system = System::start().await;
    insert_events(&system, 1).await;
    // A single counted attempt would be the last.
    let settings = [
        ("RELAY_DECLARE_QUEUE", "false"),
        ("RELAY_MAX_ATTEMPTS", "1"),
    ];
    let mut relay = Peer::relay(&system, &broker.url, &settings).await;
    comes_to(&system, 1, "published_at is not null").await;
    // Now the queue is full.
    insert_events(&system, 3).await;
    relay.counts(REFUSED, 9.0).await;
    relay
        .child
        .logs("RabbitMQ refuses events, and not one alone")
        .await;
    let waiting = "published_at is null and dead_at is null and attempts = 0
        and last_error = 'refused by the broker, and not alone'";
    assert_eq!(rows(&system, waiting).await, 3);

    // With room for one event, the queue is full again for the next ones.
    let mut events = Vec::new();
    for published in 2..=4 {
        try_all_in(&system, "1 h").await;
        events.extend(broker.take_all().await);
        try_all_in(&system, "0").await;
        comes_to(&system, published, "published_at is not null").await;
    }
    events.extend(broker.take_all().await);
    assert_eq!(ids(&events).len(), 4);
    comes_to(&system, 4, "published_at is not null and attempts = 0").await;
    assert_eq!(dead_events(&system).await, [] as [Value; 0]);
}

/// Publishes the first event together with others that the broker accepts, until it has had this many attempts.
async fn try_with_neighbours(system: &System, attempts: i32) {
    let counted = format!("id = 1 and attempts = {attempts}");
    eventually(&counted, async || {
        let mut transaction = system.database.pool.begin().await.unwrap();
        sqlx::raw_sql(
            "update outbox_events set next_attempt_at = now() - interval '1 s' where id = 1;
            insert into outbox_events (event_type, payload)
            select event_type, payload - 'reference' from outbox_events where id = 1",
        )
        .execute(&mut *transaction)
        .await
        .unwrap();
        transaction.commit().await.unwrap();
        comes_to(system, 0, "id > 1 and published_at is null").await;
        (rows(system, &counted).await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_event_that_the_broker_refuses_alone_dies_after_its_attempts() {
    let broker = Broker::shared().await;
    broker.make_queue(&[]).await;
    broker.bind().await;
    broker.refuse_reference("A-7").await;
    let system = System::start().await;
    insert_events(&system, 1).await;
    sqlx::raw_sql("update outbox_events set payload = payload || '{\"reference\": \"A-7\"}'")
        .execute(&system.database.pool)
        .await
        .unwrap();
    let settings = [
        ("RELAY_DECLARE_QUEUE", "false"),
        ("RELAY_MAX_ATTEMPTS", "2"),
    ];
    let mut relay = Peer::relay(&system, &broker.url, &settings).await;
    // Without other events, the cause could be the queue.
    relay.counts(REFUSED, 3.0).await;
    assert_eq!(rows(&system, "dead_at is null and attempts = 0").await, 1);
    try_with_neighbours(&system, 1).await;
    assert_eq!(rows(&system, "dead_at is not null").await, 0);
    try_with_neighbours(&system, 2).await;
    relay.child.logs("these events are dead").await;
    let dead = dead_events(&system).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["id"], 1);
    assert_eq!(dead[0]["last_error"], "refused by the broker, alone");

    // After a requeue it has all its attempts again, and becomes a dead letter again.
    requeue(&system, 1).await;
    try_with_neighbours(&system, 2).await;
    assert_eq!(dead_events(&system).await.len(), 1);
    broker.refuse_nothing().await;
    requeue(&system, 1).await;
    comes_to(&system, 0, "published_at is null").await;
    requeue(&system, 0).await;
    assert_eq!(dead_events(&system).await, [] as [Value; 0]);
}
