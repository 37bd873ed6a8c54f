//! Queues and bindings that are missing, late, or different from the relay's.

use lapin::types::AMQPValue;
use tokio::time::timeout;

use super::stage::{BROKER_ERRORS, Broker, RETURNED, comes_to, ids, insert_events, rows};
use crate::support::{PATIENCE, Peer, System};

/// The consumers own the queue.
const OWN_TOPOLOGY: (&str, &str) = ("RELAY_DECLARE_QUEUE", "false");

fn quorum() -> [(&'static str, AMQPValue); 1] {
    let kind = AMQPValue::LongString("quorum".into());
    [("x-queue-type", kind)]
}

#[tokio::test]
async fn an_event_that_nobody_wants_yet_waits_for_ever() {
    let broker = Broker::shared().await;
    broker.make_queue(&quorum()).await;
    let system = System::start().await;
    insert_events(&system, 30).await;
    let settings = [
        OWN_TOPOLOGY,
        ("RELAY_MAX_ATTEMPTS", "1"),
        ("RELAY_BATCH_ROWS", "10"),
    ];
    let mut relay = Peer::relay(&system, &broker.url, &settings).await;
    relay.child.logs("no queue is bound").await;
    comes_to(&system, 30, "last_error like 'unroutable%'").await;
    // At least some events are retried.
    relay.counts(RETURNED, 31.0).await;
    let untouched = "published_at is null and dead_at is null and attempts = 0";
    assert_eq!(rows(&system, untouched).await, 30);

    broker.bind().await;
    broker.receive(30).await;
    comes_to(
        &system,
        30,
        "published_at is not null and last_error is null",
    )
    .await;
}

#[tokio::test]
async fn a_binding_that_comes_and_goes_in_the_middle_of_a_batch_loses_nothing() {
    let broker = Broker::shared().await;
    broker.make_queue(&quorum()).await;
    let system = System::start().await;
    insert_events(&system, 4000).await;
    let settings = [OWN_TOPOLOGY, ("RELAY_MAX_ATTEMPTS", "1")];
    let relay = Peer::relay(&system, &broker.url, &settings).await;
    relay.counts(RETURNED, 1.0).await;
    // Batches of 500 are in flight meanwhile, and RabbitMQ processes them one message at a time.
    let tried = "published_at is not null or last_error is not null";
    timeout(PATIENCE, async {
        while rows(&system, tried).await < 4000 {
            for _ in 0..20 {
                broker.bind().await;
                broker.unbind().await;
            }
        }
    })
    .await
    .expect("the first round never ended");
    assert_eq!(
        rows(&system, "dead_at is not null or attempts > 0").await,
        0
    );
    broker.bind().await;
    sqlx::query("update outbox_events set next_attempt_at = now()")
        .execute(&system.database.pool)
        .await
        .unwrap();
    broker.receive(4000).await;
    comes_to(&system, 4000, "published_at is not null and attempts = 0").await;
}

#[tokio::test]
async fn a_queue_that_is_deleted_is_made_again() {
    let broker = Broker::shared().await;
    let system = System::start().await;
    let relay = Peer::relay(&system, &broker.url, &[]).await;
    relay.sees_rabbitmq("up").await;
    insert_events(&system, 1).await;
    broker.receive(1).await;
    broker.delete_queue().await;
    insert_events(&system, 1).await;
    broker.receive(1).await;
    comes_to(&system, 2, "published_at is not null and attempts = 0").await;
}

#[tokio::test]
async fn a_queue_with_other_properties_is_reported_and_left_alone() {
    let broker = Broker::shared().await;
    broker
        .make_queue(&[("x-max-length", AMQPValue::LongInt(5))])
        .await;
    let system = System::start().await;
    insert_events(&system, 3).await;
    let mut relay = Peer::relay(&system, &broker.url, &[]).await;
    relay.counts(BROKER_ERRORS, 5.0).await;
    relay.sees_rabbitmq("down").await;
    // A claim would set xmax by its lock.
    let unclaimed = "xmax = 0 and attempts = 0 and published_at is null and last_error is null";
    assert_eq!(rows(&system, unclaimed).await, 3);

    broker.delete_queue().await;
    let events = broker.receive(3).await;
    assert_eq!(ids(&events).len(), 3);
    relay.sees_rabbitmq("up").await;
    let said = relay.stop().await;
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    assert!(errors[0].contains("cannot declare the queue reservation-confirmed"));
    assert!(errors[0].contains("RELAY_DECLARE_QUEUE=false"));
}

#[tokio::test]
async fn a_topology_that_others_own_is_not_touched() {
    let broker = Broker::shared().await;
    let system = System::start().await;
    insert_events(&system, 1).await;
    let relay = Peer::relay(&system, &broker.url, &[OWN_TOPOLOGY]).await;
    relay.sees_rabbitmq("up").await;
    comes_to(&system, 1, "last_error like 'unroutable%'").await;
    relay.counts(RETURNED, 2.0).await;
    assert!(!broker.has_queue().await);
}
