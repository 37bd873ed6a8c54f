//! All events of a reservation's life, for installations that enable them.

use std::collections::{HashMap, HashSet};

use lapin::types::AMQPValue;
use reqwest::Method;
use serde_json::{Value, json};

use super::stage::{Broker, Event, rows};
use crate::support::{ASYNCAPI, Peer, System, assert_fields, assert_utc, id};

const ALL: &str = "ReservationCreated,ReservationConfirmed,ReservationCanceled,ReservationExpired,\
    ReservationReturned,StockAdjusted,WaitlistOffered";

/// Each event: routing key, version, and the times in its payload.
const DOCUMENTED: [(&str, &str, Option<i32>, &[&str]); 5] = [
    (
        "ReservationCreated",
        "reservation.created",
        Some(1),
        &["created_at", "expires_at"],
    ),
    (
        "ReservationConfirmed",
        "reservation.confirmed",
        Some(2),
        &["confirmed_at"],
    ),
    (
        "ReservationCanceled",
        "reservation.canceled",
        Some(2),
        &["canceled_at"],
    ),
    (
        "ReservationExpired",
        "reservation.expired",
        Some(2),
        &["expired_at"],
    ),
    (
        "ReservationReturned",
        "reservation.returned",
        Some(3),
        &["returned_at"],
    ),
];

fn header(event: &Event, name: &str) -> Option<AMQPValue> {
    let headers = event.properties.headers().as_ref();
    headers.and_then(|headers| headers.inner().get(name).cloned())
}

#[tokio::test]
async fn every_transition_is_told_where_it_is_wanted() {
    let broker = Broker::shared().await;
    let system = System::with(&[("OUTBOX_EVENTS", ALL)]).await;
    broker.make_queue(&[]).await;
    let stock = (
        "StockAdjusted",
        "stock.adjusted",
        None,
        &["adjusted_at"][..],
    );
    let offer = (
        "WaitlistOffered",
        "waitlist.offered",
        Some(1),
        &["offered_at", "expires_at"][..],
    );
    let documented: HashMap<_, _> = DOCUMENTED
        .into_iter()
        .chain([stock, offer])
        .map(|told| (told.0, told))
        .collect();
    let contract = ASYNCAPI.document["channels"].as_object().unwrap();
    let told: HashSet<_> = contract.keys().map(String::as_str).collect();
    assert_eq!(told, documented.keys().copied().collect());
    let product = system.create_product(9).await;
    let reserve = async |user: i64| {
        let body =
            json!({"product_id": product, "user_id": user, "quantity": 2, "reference": "A-7"});
        system.post_json("/reservations", &body).await.expect(201)
    };
    let [sold, canceled, expired] = [reserve(1).await, reserve(2).await, reserve(3).await];
    system.confirm(&sold).await;
    system.cancel(&canceled).await;
    system.backdate(&expired).await;
    assert_eq!(system.expire_once().await, 1);
    let path = format!("/reservations/{}/return", id(&sold));
    system
        .admin_json(Method::POST, &path, &json!({}))
        .await
        .expect(200);
    let path = format!("/products/{product}/stock");
    let adjusted = json!({"delta": -1, "reason": "damaged"});
    system
        .admin_json(Method::POST, &path, &adjusted)
        .await
        .expect(200);
    let path = format!("/products/{product}/waitlist");
    let waits = json!({"user_id": 4, "quantity": 2, "reference": "A-7"});
    let offered = system.post_json(&path, &waits).await.expect(201);

    for (_, key, ..) in documented.values() {
        broker.bind_to(key).await;
    }
    let _relay = Peer::relay(&system, &broker.url, &[("RELAY_DECLARE_QUEUE", "false")]).await;
    for event in broker.receive(10).await {
        let event_type = event.body["event_type"].as_str().unwrap();
        let (_, key, version, times) = documented[event_type];
        assert_eq!(event.routing_key, key);
        let payload = &event.body["payload"];
        for time in times {
            assert_utc(&payload[time]);
        }
        assert_eq!(header(&event, "version"), version.map(AMQPValue::LongInt));
        if event_type == "StockAdjusted" {
            assert_fields(
                payload,
                &[
                    "adjustment_id",
                    "product_id",
                    "delta",
                    "reason",
                    "stock",
                    "total",
                    "adjusted_at",
                ],
            );
            assert_eq!(
                (&payload["delta"], &payload["reason"]),
                (&json!(-1), &json!("damaged"))
            );
            assert_eq!(
                (&payload["stock"], &payload["total"]),
                (&json!(8), &json!(8))
            );
            assert_eq!(header(&event, "reference"), None);
            continue;
        }
        let mut fields = vec!["reservation_id", "product_id", "user_id", "quantity"];
        if event_type == "WaitlistOffered" {
            fields.push("entry_id");
            assert_eq!(payload["entry_id"], offered["id"]);
            assert_eq!(payload["reservation_id"], offered["reservation_id"]);
        }
        assert_fields(payload, &[&fields[..], times].concat());
        assert_eq!(
            (&payload["product_id"], &payload["quantity"]),
            (&json!(product), &json!(2))
        );
        assert_eq!(
            header(&event, "reference"),
            Some(AMQPValue::LongString("A-7".into()))
        );
        let told_of: &Value = match event_type {
            "ReservationConfirmed" | "ReservationReturned" => &sold,
            "ReservationCanceled" => &canceled,
            "ReservationExpired" => &expired,
            _ => continue,
        };
        assert_eq!(payload["reservation_id"], told_of["id"]);
    }
    let told = rows(&system, "event_type = 'ReservationCreated'").await;
    assert_eq!(told, 4);
}

#[tokio::test]
async fn by_default_only_sales_are_told() {
    let system = System::start().await;
    let product = system.create_product(9).await;
    let sold = system.reserve(product, 1).await;
    system.confirm(&sold).await;
    system.cancel(&system.reserve(product, 2).await).await;
    let path = format!("/reservations/{}/return", id(&sold));
    system
        .admin_json(Method::POST, &path, &json!({}))
        .await
        .expect(200);
    assert_eq!(
        rows(&system, "event_type = 'ReservationConfirmed'").await,
        1
    );
    assert_eq!(rows(&system, "true").await, 1);
}
