//! A consumer continues the trace of the request that caused its message.

use std::collections::{BTreeMap, BTreeSet};

use lapin::types::AMQPValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Collector, Span, attributes, traced, traceparent};
use crate::{
    events::stage::{Broker, Event},
    support::{Answer, Client, Peer, System, eventually, id},
};

const EVENTS: (&str, &str) = (
    "OUTBOX_EVENTS",
    "ReservationCreated,ReservationConfirmed,ReservationCanceled,ReservationReturned",
);

fn trace(number: usize) -> String {
    format!("{number:032x}")
}

/// A queue for events of all reservations.
async fn broker() -> Broker {
    let broker = Broker::shared().await;
    let quorum = AMQPValue::LongString("quorum".into());
    broker.make_queue(&[("x-queue-type", quorum)]).await;
    broker.bind_to("reservation.*").await;
    broker
}

/// A POST with this trace.
async fn post(client: &Client, path: &str, body: Value, traceparent: &str) -> Answer {
    let request = client.request(Method::POST, path);
    let request = match body {
        Value::Null => request,
        body => request.json(&body),
    };
    Answer::to(request.header("traceparent", traceparent)).await
}

/// The type of the event, its reservation, and its header.
fn read(event: &Event) -> (String, i64, Option<String>) {
    let reservation = event.body["payload"]["reservation_id"].as_i64().unwrap();
    let event_type = event.body["event_type"].as_str().unwrap().to_owned();
    (event_type, reservation, event.header("traceparent"))
}

/// Requests of all verbs with events. Each has a trace of its own: the number of its request.
async fn requests(system: &System) -> Vec<(&'static str, i64, usize)> {
    let number = std::cell::Cell::new(0);
    let post = async |path: String, body: Value| {
        number.set(number.get() + 1);
        let traced = traceparent(&trace(number.get()), true);
        let answer = post(system, &path, body, &traced).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
        (answer.json(), number.get())
    };
    let product = system.create_product(9).await;
    let mut events = Vec::new();
    let mut hold = async |user: i64| {
        let body = json!({"product_id": product, "user_id": user});
        let (hold, number) = post("/reservations".into(), body).await;
        events.push(("ReservationCreated", id(&hold), number));
        id(&hold)
    };
    let [sold, canceled, late, a, b] = [
        hold(1).await,
        hold(2).await,
        hold(3).await,
        hold(4).await,
        hold(5).await,
    ];
    let path = |hold: i64, verb: &str| format!("/reservations/{hold}/{verb}");
    let (_, number) = post(path(sold, "confirm"), Value::Null).await;
    events.push(("ReservationConfirmed", sold, number));
    let (_, number) = post(path(sold, "return"), Value::Null).await;
    events.push(("ReservationReturned", sold, number));
    let (_, number) = post(path(canceled, "cancel"), Value::Null).await;
    events.push(("ReservationCanceled", canceled, number));
    system.database.backdate(&json!({"id": late})).await;
    let (again, number) = post(path(late, "confirm"), json!({"reacquire": true})).await;
    events.push(("ReservationConfirmed", id(&again), number));
    let (_, number) = post("/reservations/batch/confirm".into(), json!({"ids": [a, b]})).await;
    events.extend([a, b].map(|sold| ("ReservationConfirmed", sold, number)));
    let items = json!([{"product_id": product}]);
    let body = json!({"user_id": 6, "items": items});
    let (order, number) = post("/reservations/batch".into(), body).await;
    let hold = id(&order[0]);
    events.push(("ReservationCreated", hold, number));
    let (_, number) = post("/reservations/batch/cancel".into(), json!({"ids": [hold]})).await;
    events.push(("ReservationCanceled", hold, number));
    events
}

#[tokio::test]
async fn a_message_continues_the_trace_of_its_request_also_when_it_is_repeated() {
    let (broker, collector) = (broker().await, Collector::start().await);
    let mut system = traced(&collector, &[EVENTS]).await;
    let traces = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint)];
    let mut relay = Peer::relay(&system, &broker.url, &traces).await;
    let wanted = requests(&system).await;
    let events = broker.receive(wanted.len()).await;
    let headers = |events: &[Event]| -> BTreeMap<String, Option<String>> {
        let headers = events.iter();
        headers
            .map(|event| (event.id.clone(), event.header("traceparent")))
            .collect()
    };
    eventually("the confirms of all", async || {
        let count = "select count(*) from outbox_events where published_at is not null";
        let count: i64 = sqlx::query_scalar(count)
            .fetch_one(&system.database.pool)
            .await
            .unwrap();
        (count == wanted.len() as i64).then_some(())
    })
    .await;
    // A repeat has the same headers.
    let range = json!({"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"});
    let replayed = system
        .admin_json(Method::POST, "/admin/outbox/replay", &range)
        .await;
    assert_eq!(replayed.expect(200)["replayed"], wanted.len());
    let again = broker.receive(wanted.len()).await;
    assert_eq!(headers(&again), headers(&events));
    relay.stop().await;
    system.stop().await;

    let all = collector.spans();
    let found: BTreeSet<_> = events.iter().map(read).collect();
    let wanted = wanted.into_iter().map(|(event_type, reservation, number)| {
        // The header names the span of the request.
        let of_request = |span: &&Span| span.id.0 == trace(number) && span.kind == SpanKind::Server;
        let request = all.iter().find(of_request).expect("no span of the request");
        let header = format!("00-{}-{}-01", request.id.0, request.id.1);
        (event_type.to_owned(), reservation, Some(header))
    });
    assert_eq!(found, wanted.collect::<BTreeSet<_>>());
    for event in &events {
        let sent = sent(&all, event);
        // Once by the replay.
        assert_eq!(sent.len(), 2, "{sent:?}");
        for span in sent {
            let parent = format!("00-{}-{}-01", span.id.0, span.parent);
            assert_eq!(Some(parent), event.header("traceparent"));
            assert_eq!((span.kind, &span.error), (SpanKind::Producer, &None));
            assert_eq!(span.service, "flashsale-relay");
        }
    }
}

/// The spans of the sending of an event. Their attributes follow the conventions for RabbitMQ.
fn sent<'a>(all: &'a [Span], event: &Event) -> Vec<&'a Span> {
    let of_event =
        |span: &&Span| span.attributes.get("messaging.message.id") == Some(&json!(event.id));
    let spans: Vec<_> = all.iter().filter(of_event).collect();
    let (event_type, ..) = read(event);
    let key = event_type
        .replace("Reservation", "reservation.")
        .to_lowercase();
    for span in &spans {
        let destination = format!("flashsale.events:{key}");
        assert_eq!(span.name, format!("publish {destination}"));
        let wanted = json!({
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.destination.name": destination,
            "messaging.rabbitmq.destination.routing_key": key,
            "messaging.message.id": event.id,
        });
        assert_eq!(attributes(span), wanted);
    }
    spans
}

/// Four confirms queue behind another one. There is room for three, and one call does these.
#[tokio::test(flavor = "multi_thread")]
async fn each_message_of_one_call_continues_the_trace_of_its_own_request() {
    for key in [None, Some("key")] {
        let (broker, collector) = (broker().await, Collector::start().await);
        let settings = [
            ("LANE_MAX_REQUESTS", "3"),
            ("LANE_WAIT_MILLISECONDS", "600000"),
            ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
        ];
        let mut system = traced(&collector, &settings).await;
        let patient = "alter function confirm_v2 set lock_timeout = '60s'";
        system.database.execute(patient).await;
        // It exports nothing itself.
        let mut relay = Peer::relay(&system, &broker.url, &[]).await;
        let product = system.create_product(9).await;
        let mut holds = Vec::new();
        for user in 1..=5 {
            holds.push(system.reserve(product, user).await);
        }
        let lock = system.database.lock_product(product).await;
        let mut answers = JoinSet::new();
        let mut send = |number: usize, sampled: bool| {
            let (client, hold) = (system.client(), id(&holds[number]));
            answers.spawn(async move {
                let path = format!("/reservations/{hold}/confirm");
                let request = client.request(Method::POST, &path);
                let request = match key {
                    Some(key) => request.header("idempotency-key", format!("{key}-{number}")),
                    None => request,
                };
                let traced = request.header("traceparent", traceparent(&trace(number), sampled));
                (hold, number, sampled, Answer::to(traced).await)
            });
        };
        send(0, false);
        system.database.calls_wait_for_locks(1).await;
        for (number, sampled) in [(1, true), (2, false), (3, true), (4, true)] {
            send(number, sampled);
        }
        let (.., refused) = answers.join_next().await.unwrap().unwrap();
        refused.expect_problem(503, "overloaded");
        lock.rollback().await.unwrap();
        let mut wanted = BTreeMap::new();
        for (hold, number, sampled, answer) in answers.join_all().await {
            answer.expect(200);
            wanted.insert(hold, (sampled && number > 0).then(|| trace(number)));
        }
        let events = broker.receive(4).await;
        let found = events.iter().map(|event| {
            let (_, reservation, header) = read(event);
            (reservation, header.map(|header| header[3..35].to_owned()))
        });
        let found: BTreeMap<i64, Option<String>> = found.collect();
        assert_eq!(found, wanted);
        relay.stop().await;
        system.stop().await;
        let calls = collector.spans();
        let call =
            |span: &&Span| span.attributes.get("flashsale.batch.requests") == Some(&json!(3));
        assert!(calls.iter().any(|span| call(&span)), "{calls:?}");
    }
}

#[tokio::test]
async fn a_message_of_a_request_that_is_not_sampled_has_no_trace() {
    let collector = Collector::start().await;
    for settings in [
        &[][..],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint)],
    ] {
        let broker = broker().await;
        let sampler = ("OTEL_TRACES_SAMPLER", "always_off");
        let system = System::spawn(&[settings, &[EVENTS, sampler]].concat()).await;
        let _relay = Peer::relay(&system, &broker.url, settings).await;
        let product = system.create_product(1).await;
        let body = json!({"product_id": product, "user_id": 1});
        let sampled = traceparent(&trace(1), true);
        let hold = post(&system, "/reservations", body, &sampled)
            .await
            .expect(201);
        let path = format!("/reservations/{}/confirm", id(&hold));
        post(&system, &path, Value::Null, &sampled)
            .await
            .expect(200);
        for event in broker.receive(2).await {
            assert_eq!(event.header("traceparent"), None);
        }
    }
    assert!(collector.spans().is_empty());
}
