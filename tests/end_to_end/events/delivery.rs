//! The delivery of an event without faults.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;

use super::stage::{Broker, Event, comes_to, ids, insert_events, rows, sell};
use crate::support::{NO_REDIS, Peer, System, assert_utc, id};

async fn receive_one(broker: &Broker) -> Event {
    let mut events = broker.receive(1).await;
    assert_eq!(events.len(), 1);
    events.remove(0)
}

#[tokio::test]
async fn a_sale_arrives_with_the_documented_body_and_properties() {
    let broker = Broker::shared().await;
    let system = System::start().await;
    let product = system.create_product(9).await;
    let _relay = Peer::relay(&system, &broker.url, &[]).await;
    let sold = sell(&system, product, 42).await;

    let event = receive_one(&broker).await;
    let confirmed_at = &event.body["payload"]["confirmed_at"];
    assert_eq!(assert_utc(confirmed_at), assert_utc(&sold["confirmed_at"]));
    let documented = json!({
        "event_type": "ReservationConfirmed",
        "payload": {
            "reservation_id": id(&sold), "product_id": product, "user_id": 42, "quantity": 1,
            "confirmed_at": confirmed_at,
        },
    });
    assert_eq!(event.body, documented);

    let (event_id, created): (String, i64) = sqlx::query_as(
        "select event_id::text, floor(extract(epoch from created_at))::bigint from outbox_events",
    )
    .fetch_one(&system.database.pool)
    .await
    .unwrap();
    let properties = &event.properties;
    assert_eq!(event.id, event_id);
    let text = |property: &Option<lapin::types::ShortString>| {
        property
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    assert_eq!(text(properties.kind()), "ReservationConfirmed");
    assert_eq!(text(properties.content_type()), "application/json");
    assert_eq!(text(properties.app_id()), "flashsale-relay");
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(*properties.timestamp(), Some(created.unsigned_abs()));

    comes_to(
        &system,
        1,
        "published_at is not null and attempts = 0 and last_error is null",
    )
    .await;
    // A mark that is lost in a crash causes another delivery. The consumer must be able to detect the repeat.
    sqlx::query("update outbox_events set published_at = null")
        .execute(&system.database.pool)
        .await
        .unwrap();
    let again = receive_one(&broker).await;
    assert_eq!((again.id, again.body), (event.id, event.body));
}

#[tokio::test]
async fn times_are_in_utc_whatever_the_database_says() {
    let broker = Broker::shared().await;
    let system = System::start().await;
    let _relay = Peer::relay(&system, &broker.url, &[]).await;
    sqlx::query(
        r#"insert into outbox_events (event_type, payload) values ('ReservationConfirmed', '{"quantity": 3,
        "reservation_id": 1, "product_id": 2, "user_id": 42, "confirmed_at": "2026-02-14T18:00:00+05:30"}')"#,
    )
    .execute(&system.database.pool)
    .await
    .unwrap();
    let event = receive_one(&broker).await;
    assert_eq!(
        event.body["payload"]["confirmed_at"],
        "2026-02-14T12:30:00Z"
    );
    assert_eq!(event.body["payload"]["quantity"], 3);
}

#[tokio::test]
async fn an_event_that_becomes_visible_late_is_published_all_the_same() {
    let broker = Broker::shared().await;
    let system = System::start().await;
    let _relay = Peer::relay(&system, &broker.url, &[]).await;
    let mut slow = system.database.pool.begin().await.unwrap();
    sqlx::query(
        "insert into outbox_events (event_type, payload)
        values ('ReservationConfirmed', jsonb_build_object('reservation_id', 7, 'product_id', 1,
            'user_id', 7, 'quantity', 1, 'confirmed_at', clock_timestamp()))",
    )
    .execute(&mut *slow)
    .await
    .unwrap();
    insert_events(&system, 1).await;
    let first = receive_one(&broker).await;
    assert_eq!(first.body["payload"]["reservation_id"], 1);
    comes_to(&system, 1, "published_at is not null and id = 2").await;
    slow.commit().await.unwrap();
    let second = receive_one(&broker).await;
    assert_eq!(second.body["payload"]["reservation_id"], 7);
}

#[tokio::test]
async fn several_relays_share_the_events_and_publish_none_twice() {
    let broker = Broker::shared().await;
    let system = System::start().await;
    let small = [("RELAY_BATCH_ROWS", "10"), NO_REDIS];
    insert_events(&system, 1000).await;
    let one = Peer::relay(&system, &broker.url, &small).await;
    let other = Peer::relay(&system, &broker.url, &small).await;
    let mut events = broker.receive(1000).await;
    comes_to(&system, 1000, "published_at is not null").await;
    events.extend(broker.take_all().await);
    assert_eq!(ids(&events).len(), 1000);
    let mut faults = 0.0;
    for relay in [&one, &other] {
        for on in ["postgres", "rabbitmq"] {
            let series = format!(r#"flashsale_relay_errors_total{{on="{on}"}}"#);
            faults += relay.metric(&series).await;
        }
    }
    // On a machine that was suspended for a second, a batch may have been repeated.
    assert!(
        events.len() == 1000 || faults > 0.0,
        "{} events",
        events.len()
    );
}

#[tokio::test]
async fn redis_wakes_the_relay() {
    let broker = Broker::shared().await;
    let system = System::start().await;
    let product = system.create_product(9).await;
    let settings = [("RELAY_POLL_MILLISECONDS", "60000"), ("RELAY_WORKERS", "1")];
    let _relay = Peer::relay(&system, &broker.url, &settings).await;
    for user in 1..=4 {
        sell(&system, product, user).await;
        // The first event may be found by the poll at the start. The next poll would come a minute later.
        let came = timeout(Duration::from_secs(30), receive_one(&broker)).await;
        assert!(came.is_ok(), "it slept over event {user}");
        comes_to(&system, user, "published_at is not null").await;
    }
}

/// Each type of event, from the API and from the expirer, and events that are published again.
#[tokio::test]
async fn redis_wakes_the_relay_for_each_event() {
    let all = "ReservationCreated,ReservationCanceled,ReservationExpired,ReservationReturned,StockAdjusted,\
        WaitlistOffered";
    let broker = Broker::shared().await;
    let system = System::with(&[("OUTBOX_EVENTS", all)]).await;
    let (one, gone) = (
        system.create_product(1).await,
        system.create_product(1).await,
    );
    let hold = system.reserve(one, 1).await;
    let sold = system.reserve(gone, 1).await;
    system.confirm(&sold).await;
    broker.make_queue(&[]).await;
    for key in ["reservation.*", "stock.*", "waitlist.*"] {
        broker.bind_to(key).await;
    }
    let settings = [
        ("RELAY_POLL_MILLISECONDS", "60000"),
        ("RELAY_WORKERS", "1"),
        ("RELAY_DECLARE_QUEUE", "false"),
    ];
    let _relay = Peer::relay(&system, &broker.url, &settings).await;
    let come = async |act: &str, wanted: &[&str], published: i64| {
        // The first ones may be found by the poll at the start. The next poll would come a minute later.
        let events = timeout(Duration::from_secs(30), broker.receive(wanted.len()));
        let Ok(events) = events.await else {
            panic!("the relay slept over {act}");
        };
        let mut types: Vec<_> = events
            .iter()
            .map(|event| event.body["event_type"].as_str().unwrap())
            .collect();
        types.sort_unstable();
        assert_eq!(types, wanted, "{act}");
        comes_to(&system, published, "published_at is not null").await;
    };
    come("reserves", &["ReservationCreated", "ReservationCreated"], 2).await;
    let admin = async |method, path: &str, body: Value| {
        let answer = system.admin_json(method, path, &body).await;
        answer.expect(200)
    };
    let path = format!("/reservations/{}/return", id(&sold));
    admin(Method::POST, &path, json!({})).await;
    come("a return", &["ReservationReturned"], 3).await;
    let path = format!("/products/{gone}/stock");
    let fewer = json!({"delta": -1, "reason": "damaged"});
    admin(Method::POST, &path, fewer).await;
    come("an adjustment", &["StockAdjusted"], 4).await;
    let count = json!({"stock": 2, "reason": "count"});
    admin(Method::PUT, &path, count).await;
    come("a count", &["StockAdjusted"], 5).await;

    let waits = format!("/products/{one}/waitlist");
    let wish = json!({"user_id": 2});
    system.post_json(&waits, &wish).await.expect(201);
    system.cancel(&hold).await;
    let offer = [
        "ReservationCanceled",
        "ReservationCreated",
        "WaitlistOffered",
    ];
    come("an offer", &offer, 8).await;
    let late = system.reserve(gone, 3).await;
    come("a reserve", &["ReservationCreated"], 9).await;
    system.backdate(&late).await;
    let _expirer = Peer::expirer(&system, &[("OUTBOX_EVENTS", all)]).await;
    come("an expiry", &["ReservationExpired"], 10).await;

    sqlx::query("update outbox_events set published_at = null, dead_at = now() where id = 1")
        .execute(&system.database.pool)
        .await
        .unwrap();
    admin(Method::POST, "/admin/outbox/requeue", json!({})).await;
    come("a requeue", &["ReservationCreated"], 10).await;
}

#[tokio::test]
async fn without_redis_events_are_polled() {
    let broker = Broker::shared().await;
    let system = System::with(&[NO_REDIS]).await;
    let product = system.create_product(9).await;
    let relay = Peer::relay(&system, &broker.url, &[]).await;
    for user in 1..=4 {
        sell(&system, product, user).await;
        receive_one(&broker).await;
    }
    let ready = relay.get("/readyz").await.expect(200);
    let wanted = json!({"postgres": "up", "rabbitmq": "up", "redis": "down"});
    assert_eq!(ready["dependencies"], wanted);
}

#[tokio::test]
async fn published_events_are_kept_as_long_as_promised() {
    let broker = Broker::shared().await;
    let system = System::start().await;
    insert_events(&system, 1002).await;
    // Old enough, nearly old enough, and old but published late. The first group is larger than one statement
    // deletes.
    sqlx::query(
        "update outbox_events set created_at = now() - interval '999 h', published_at = case id
            when 1 then now() - interval '167 h' when 2 then now() else now() - interval '169 h' end",
    )
    .execute(&system.database.pool)
    .await
    .unwrap();
    insert_events(&system, 1).await;
    sqlx::query("update outbox_events set created_at = now() - interval '999 h', dead_at = now() where published_at is null")
        .execute(&system.database.pool)
        .await
        .unwrap();
    let _relay = Peer::relay(&system, &broker.url, &[]).await;
    comes_to(&system, 3, "true").await;
    assert_eq!(rows(&system, "id <= 2").await, 2);
    assert_eq!(rows(&system, "dead_at is not null").await, 1);
}

#[tokio::test]
async fn a_sale_is_told_by_its_clock_not_by_the_relay() {
    let broker = Broker::shared().await;
    let system = System::start().await;
    let product = system.create_product(1).await;
    let sold = sell(&system, product, 1).await;
    // The relay starts an hour late.
    sqlx::query("update outbox_events set created_at = created_at - interval '1 h'")
        .execute(&system.database.pool)
        .await
        .unwrap();
    let _relay = Peer::relay(&system, &broker.url, &[]).await;
    let event = receive_one(&broker).await;
    let an_hour_ago = assert_utc(&sold["confirmed_at"]).unix_timestamp() - 3600;
    assert_eq!(
        *event.properties.timestamp(),
        Some(an_hour_ago.unsigned_abs())
    );
    let confirmed_at = assert_utc(&sold["confirmed_at"]).format(&Rfc3339).unwrap();
    assert_eq!(event.body["payload"]["confirmed_at"], confirmed_at);
}
