//! Published events that consumers have lost are published again.

use reqwest::Method;
use serde_json::{Value, json};

use super::stage::{Broker, comes_to, ids, sell};
use crate::support::{Peer, System};

async fn published_at(system: &System, event: &str) -> String {
    sqlx::query_scalar(
        "select to_json(published_at)#>>'{}' from outbox_events where event_id = $1::uuid",
    )
    .bind(event)
    .fetch_one(&system.database.pool)
    .await
    .unwrap()
}

async fn replay(system: &System, from: &str, to: &str) -> Value {
    let range = json!({"from": from, "to": to});
    let answer = system.admin_json(Method::POST, "/admin/outbox/replay", &range);
    answer.await.expect(200)
}

#[tokio::test]
async fn a_range_of_time_is_published_again_under_the_same_ids() {
    let broker = Broker::shared().await;
    let system = System::start().await;
    let relay = Peer::relay(&system, &broker.url, &[]).await;
    relay.sees_rabbitmq("up").await;
    let product = system.create_product(9).await;
    let mut events = Vec::new();
    for user in 1..=3 {
        sell(&system, product, user).await;
        comes_to(&system, user, "published_at is not null").await;
        events.extend(broker.receive(1).await);
    }
    let mut times = Vec::new();
    for event in &events {
        times.push(published_at(&system, &event.id).await);
    }
    let far = "9999-01-01T00:00:00Z";

    // The range excludes its end, and unpublished events.
    assert_eq!(
        replay(&system, &times[1], &times[2]).await,
        json!({"replayed": 1})
    );
    let again = broker.receive(1).await;
    assert_eq!(again[0].id, events[1].id);
    assert_eq!(again[0].body, events[1].body);
    assert_eq!(again[0].properties, events[1].properties);
    comes_to(&system, 3, "published_at is not null").await;

    // The time since an event's change says nothing about the relay if the event is replayed.
    let latencies = "flashsale_event_publish_latency_seconds_count";
    assert_eq!(relay.metric(latencies).await, 3.0);

    // A replay never includes its own deliveries, however late its end is.
    assert_eq!(
        replay(&system, &times[0], far).await,
        json!({"replayed": 3})
    );
    let all = broker.receive(3).await;
    assert_eq!((all.len(), ids(&all)), (3, ids(&events)));
    comes_to(&system, 3, "published_at is not null and attempts = 0").await;
    assert_eq!(
        replay(&system, far, "9999-01-02T00:00:00Z").await,
        json!({"replayed": 0})
    );
    assert!(broker.take_all().await.is_empty());
}

#[tokio::test]
async fn a_large_replay_is_paced_and_lets_new_events_pass() {
    let system = System::start().await;
    let made = "insert into outbox_events (event_type, payload, published_at)
        select 'ReservationConfirmed', '{}', clock_timestamp() from generate_series(1, 2500)";
    sqlx::query(made)
        .execute(&system.database.pool)
        .await
        .unwrap();
    let all = replay(&system, "2000-01-01T00:00:00Z", "9999-01-01T00:00:00Z").await;
    assert_eq!(all, json!({"replayed": 2500}));
    // 5,000 per second, one after the other.
    let spread: (i64, f64) = sqlx::query_as(
        "select count(distinct next_attempt_at),
            extract(epoch from max(next_attempt_at) - min(next_attempt_at))::float8
        from outbox_events where published_at is null",
    )
    .fetch_one(&system.database.pool)
    .await
    .unwrap();
    assert_eq!(spread.0, 2500);
    assert!((spread.1 - 2499.0 / 5000.0).abs() < 0.001, "{spread:?}");
}

#[tokio::test]
async fn a_range_that_is_none_is_refused() {
    let system = System::start().await;
    let day = |day: u32| format!("2026-01-0{day}T00:00:00Z");
    for range in [
        json!({}),
        json!({"from": day(1)}),
        json!({"from": day(2), "to": day(1)}),
        json!({"from": day(1), "to": day(1)}),
        json!({"from": "yesterday", "to": day(1)}),
        json!({"from": 1, "to": 2}),
        json!({"from": day(1), "to": day(2), "queue": "x"}),
    ] {
        let answer = system.admin_json(Method::POST, "/admin/outbox/replay", &range);
        answer.await.expect_problem(422, "invalid_request");
    }
}
