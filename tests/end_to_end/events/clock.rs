//! PostgreSQL's clock was set back: waiting events have times in the future.

use super::stage::{Broker, comes_to, insert_events, rows};
use crate::support::{Peer, System, eventually};

/// A port without a server.
const NO_RABBITMQ: &str = "amqp://guest:guest@127.0.0.1:1/%2f";

#[tokio::test]
async fn events_from_before_leave_within_seconds() {
    let broker = Broker::shared().await;
    let system = System::start().await;
    insert_events(&system, 120).await;
    // Never tried, delayed after a refusal, and leased.
    system
        .database
        .execute(
            "update outbox_events set created_at = created_at + interval '1 h',
            next_attempt_at = next_attempt_at + interval '1 h' + id % 3 * interval '1 min',
            last_error = case when id % 3 > 0 then 'a retry' end",
        )
        .await;
    insert_events(&system, 10).await;
    // Delayed after the clock was set back, as long as a retry can be.
    system
        .database
        .execute(
            "update outbox_events set next_attempt_at = now() + interval '9 min', last_error = 'a new retry' where id > 120",
        )
        .await;
    let small = [("RELAY_BATCH_ROWS", "30")];
    let _relay = Peer::relay(&system, &broker.url, &small).await;
    insert_events(&system, 10).await;
    broker.receive(130).await;
    comes_to(&system, 130, "published_at is not null and attempts = 0").await;
    assert_eq!(rows(&system, "last_error = 'a new retry'").await, 10);
}

/// While they cannot be published, their age is not 0.
#[tokio::test]
async fn events_from_before_that_wait_raise_an_alarm() {
    let system = System::start().await;
    insert_events(&system, 2).await;
    system
        .database
        .execute("update outbox_events set created_at = created_at + interval '1 h' where id = 1")
        .await;
    let relay = Peer::relay(&system, NO_RABBITMQ, &[]).await;
    eventually("an age", async || {
        let age = relay.metric("flashsale_outbox_oldest_age_seconds").await;
        (age > 3_000.0).then_some(())
    })
    .await;
}
