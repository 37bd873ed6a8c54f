//! Traces of the real binary with the feature `otel`, as a collector receives them.

mod collector;
mod messages;
mod outages;
mod tls;
mod workers;

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use self::collector::{Collector, Span};
use crate::support::{Answer, Client, System, start};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn traceparent(trace: &str, sampled: bool) -> String {
    format!("00-{trace}-{CALLER}-0{}", u8::from(sampled))
}

async fn traced(collector: &Collector, settings: &[(&str, &str)]) -> System {
    let own = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint)];
    System::spawn(&[&own, settings].concat()).await
}

/// Stops the system. Returns the spans with these names.
async fn spans<const N: usize>(
    mut system: System,
    collector: &Collector,
    names: [&str; N],
) -> [Vec<Span>; N] {
    system.stop().await;
    let all = collector.spans();
    names.map(|name| {
        let found = all.iter().filter(|span| span.name == name);
        found.cloned().collect()
    })
}

async fn reserve(client: &Client, product: i64, user: i64, traceparent: &str) -> Answer {
    let body = json!({"product_id": product, "user_id": user});
    let request = client.request(Method::POST, "/reservations").json(&body);
    Answer::to(request.header("traceparent", traceparent)).await
}

fn attributes(span: &Span) -> Value {
    json!(span.attributes)
}

#[tokio::test]
async fn a_request_its_call_and_its_statement_go_on_with_the_callers_trace() {
    let collector = Collector::start().await;
    let system = traced(&collector, &[]).await;
    let product = system.create_product(1).await;
    let answer = reserve(&system, product, 7, &traceparent(TRACE, true)).await;
    answer.expect(201);
    let [requests, both] = spans(system, &collector, ["POST /reservations", "reserve"]).await;

    let [request] = &requests[..] else {
        panic!("{requests:?}");
    };
    assert_eq!(request.service, "flashsale-api");
    assert_eq!(request.kind, SpanKind::Server);
    assert_eq!((&*request.id.0, &*request.parent), (TRACE, CALLER));
    let wanted = json!({
        "url.path": "/reservations",
        "url.scheme": "http",
        "http.request.method": "POST",
        "http.route": "/reservations",
        "http.response.status_code": 201,
    });
    assert_eq!(attributes(request), wanted);
    assert_eq!(request.error, None);

    // The call and its statement have the same name.
    let [statement, call] = &both[..] else {
        panic!("{both:?}");
    };
    assert_eq!((&*call.id.0, &call.parent), (TRACE, &request.id.1));
    assert_eq!(call.kind, SpanKind::Internal);
    assert_eq!(attributes(call), json!({"flashsale.batch.requests": 1}));
    assert_eq!(call.links, std::slice::from_ref(&request.id));
    assert_eq!(request.links, std::slice::from_ref(&call.id));

    assert_eq!((&*statement.id.0, &statement.parent), (TRACE, &call.id.1));
    assert_eq!(statement.kind, SpanKind::Client);
    let wanted = json!({"db.system.name": "postgresql", "db.query.summary": "reserve"});
    assert_eq!(attributes(statement), wanted);
    assert!(statement.links.is_empty());
    for (inner, outer) in [(statement, call), (call, request)] {
        assert!(outer.time.0 <= inner.time.0, "{inner:?} {outer:?}");
    }
    assert!(statement.time.1 <= call.time.1);
}

/// One call for several requests, and its spans.
struct Shared {
    call: Span,
    /// The spans of requests that were not refused.
    requests: Vec<Span>,
    /// The traces of the requests that the call served, and whether each was sampled.
    served: Vec<(String, bool)>,
}

impl Shared {
    /// Reserves that queue behind another one: as many as the lane takes, plus one that is refused.
    async fn by(sampled: &[bool]) -> Self {
        let collector = Collector::start().await;
        let room = (sampled.len() - 1).to_string();
        let settings = [
            ("LANE_MAX_REQUESTS", &*room),
            ("LANE_WAIT_MILLISECONDS", "600000"),
            ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
        ];
        let system = traced(&collector, &settings).await;
        system.database.be_patient().await;
        let product = system.create_product(1000).await;
        let lock = system.database.lock_product(product).await;
        let mut answers = JoinSet::new();
        let (client, trace) = (system.client(), |user: i64| format!("{user:032x}"));
        let mut send = |user: i64, sampled: bool| {
            let (client, header) = (client.clone(), traceparent(&trace(user), sampled));
            let sent = async move {
                let answer = reserve(&client, product, user, &header).await;
                (user, sampled, answer)
            };
            answers.spawn(sent);
        };
        send(1, false);
        system.database.calls_wait_for_locks(1).await;
        for (user, sampled) in (2..).zip(sampled) {
            send(user, *sampled);
        }
        // Once it is refused, the others are in the queue.
        let (_, _, refused) = answers.join_next().await.unwrap().unwrap();
        refused.expect_problem(503, "overloaded");
        lock.rollback().await.unwrap();
        let mut served = Vec::new();
        for (user, sampled, answer) in answers.join_all().await {
            answer.expect(201);
            served.extend((user > 1).then(|| (trace(user), sampled)));
        }
        let names = ["POST /reservations", "reserve"];
        let [mut requests, mut calls] = spans(system, &collector, names).await;
        requests.retain(|span| span.attributes["http.response.status_code"] == 201);
        calls.retain(|span| span.kind == SpanKind::Internal);
        let [call] = &calls[..] else {
            panic!("{calls:?}");
        };
        Self {
            call: call.clone(),
            requests,
            served,
        }
    }

    /// The call and its sampled requests are linked in both directions, whatever their number.
    fn check(&self) {
        let count = json!({"flashsale.batch.requests": self.served.len()});
        assert_eq!(attributes(&self.call), count);
        let sampled = self.served.iter().filter(|(_, sampled)| *sampled);
        let sampled: BTreeSet<&String> = sampled.map(|(trace, _)| trace).collect();
        let exported: BTreeSet<&String> = self.requests.iter().map(|span| &span.id.0).collect();
        assert_eq!(exported, sampled);
        for request in &self.requests {
            assert_eq!(request.links, std::slice::from_ref(&self.call.id));
        }
        let ids: BTreeSet<_> = self.requests.iter().map(|span| &span.id).collect();
        assert!(self.call.links.iter().all(|link| ids.contains(link)));
        // It belongs to the trace of the first request.
        let (trace, _) = &self.call.links[0];
        assert_eq!(
            (trace, &self.call.parent),
            (&self.call.id.0, &self.call.links[0].1)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_requests_in_one_call_are_both_linked_with_it() {
    let shared = Shared::by(&[true; 3]).await;
    shared.check();
    assert_eq!(shared.call.links.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_linked_with_those_of_its_requests_that_are_sampled() {
    let shared = Shared::by(&[false, true, true, false]).await;
    shared.check();
    assert_eq!(shared.call.links.len(), shared.requests.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_call_is_linked_with_128_of_its_requests_and_all_of_them_with_it() {
    let shared = Shared::by(&[true; 141]).await;
    shared.check();
    assert_eq!((shared.call.links.len(), shared.requests.len()), (128, 140));
}

#[tokio::test]
async fn what_is_not_sampled_leaves_nothing() {
    let sampled = || Some(traceparent(TRACE, true));
    for (name, value, header) in [
        (
            "OTEL_TRACES_SAMPLER",
            "parentbased_always_on",
            Some(traceparent(TRACE, false)),
        ),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off", None),
        ("OTEL_TRACES_SAMPLER", "always_off", sampled()),
        ("OTEL_SDK_DISABLED", "true", sampled()),
        ("OTEL_TRACES_EXPORTER", "none", sampled()),
    ] {
        let collector = Collector::start().await;
        let mut system = traced(&collector, &[(name, value)]).await;
        for path in ["/products", "/reservations", "/reservations/1"] {
            let request = system.request(Method::GET, path);
            Answer::to(match &header {
                Some(header) => request.header("traceparent", header),
                None => request,
            })
            .await;
        }
        system.stop().await;
        let spans = collector.spans();
        assert!(spans.is_empty(), "{name}={value}: {spans:?}");
    }
}

#[tokio::test]
async fn a_traceparent_that_is_none_is_ignored() {
    let collector = Collector::start().await;
    let system = traced(&collector, &[]).await;
    let zero = "0".repeat(32);
    let invalid = [
        "",
        "nonsense",
        &traceparent(&zero, true),
        &traceparent(&TRACE.to_uppercase(), true),
        &traceparent(&TRACE[1..], true),
        &traceparent(&format!("+{}", &TRACE[1..]), true),
        &format!("ff{}", &traceparent(TRACE, true)[2..]),
    ];
    for header in invalid {
        let request = system.request(Method::GET, "/livez");
        Answer::to(request.header("traceparent", header))
            .await
            .expect(200);
    }
    let [requests] = spans(system, &collector, ["GET /livez"]).await;
    assert_eq!(requests.len(), invalid.len());
    let mut traces = BTreeSet::new();
    for request in &requests {
        assert_eq!(request.parent, "", "{request:?}");
        assert!(traces.insert(&request.id.0) && request.id.0 != TRACE);
    }
}

#[tokio::test]
async fn a_refusal_has_its_code_and_a_fault_is_an_error() {
    let collector = Collector::start().await;
    let system = traced(&collector, &[]).await;
    let product = system.create_product(0).await;
    let refused = reserve(&system, product, 1, "").await;
    refused.expect_problem(409, "sold_out");
    let id = refused.header("x-request-id");
    let spoilt = "alter function reserve_v3 rename to reserve_v0";
    sqlx::query(spoilt)
        .execute(&system.database.pool)
        .await
        .unwrap();
    reserve(&system, product, 1, "")
        .await
        .expect_problem(503, "overloaded");
    let names = ["POST /reservations", "reserve"];
    let [requests, mut calls] = spans(system, &collector, names).await;

    let [refusal, fault] = &requests[..] else {
        panic!("{requests:?}");
    };
    assert_eq!(refusal.attributes["flashsale.problem.code"], "sold_out");
    assert_eq!(refusal.attributes["flashsale.request_id"], id);
    assert_eq!(
        (&refusal.error, refusal.attributes.get("error.type")),
        (&None, None)
    );
    assert_eq!(fault.attributes["error.type"], "overloaded");
    assert_eq!(fault.error.as_deref(), Some(""));
    let statements = calls.clone();
    calls.retain(|span| span.kind == SpanKind::Internal);
    assert_eq!(calls[1].attributes["error.type"], "not_done");
    let errors: Vec<_> = calls.iter().map(|call| call.error.as_deref()).collect();
    let [None, Some(cause)] = errors[..] else {
        panic!("{errors:?}");
    };
    assert!(cause.contains("reserve_v3"), "{cause}");
    let failed = |span: &&Span| span.attributes.contains_key("db.response.status_code");
    let [statement] = &statements.iter().filter(failed).collect::<Vec<_>>()[..] else {
        panic!("{statements:?}");
    };
    assert_eq!(statement.attributes["error.type"], "42883");
    assert_eq!(statement.attributes["db.response.status_code"], "42883");
}

#[tokio::test]
async fn what_the_service_does_not_know_makes_no_names() {
    let collector = Collector::start().await;
    let system = traced(&collector, &[]).await;
    let brew = Method::from_bytes(b"BREW").unwrap();
    for (method, path) in [
        (brew.clone(), "/nowhere"),
        (brew, "/products"),
        (Method::GET, "/nowhere"),
    ] {
        Answer::to(system.request(method, path)).await;
    }
    let [unknown, method, path] =
        spans(system, &collector, ["HTTP", "HTTP /products", "GET"]).await;
    for (span, method, route) in [
        (&unknown[0], "_OTHER", None),
        (&method[0], "_OTHER", Some("/products")),
        (&path[0], "GET", None),
    ] {
        assert_eq!(span.attributes["http.request.method"], method);
        let found = span.attributes.get("http.route").and_then(Value::as_str);
        assert_eq!(found, route);
    }
}

#[tokio::test]
async fn every_statement_of_a_request_is_shown() {
    let collector = Collector::start().await;
    let mut system = traced(&collector, &[]).await;
    let product = system.create_product(1).await;
    let body = json!({"product_id": product, "user_id": 1});
    let keyed = system.request(Method::POST, "/reservations").json(&body);
    Answer::to(keyed.header("idempotency-key", "once"))
        .await
        .expect(201);
    let keyed = system.request(Method::POST, "/reservations/1/confirm");
    Answer::to(keyed.header("idempotency-key", "twice"))
        .await
        .expect(200);
    system.get("/admin/audit").await.expect(200);
    system.stop().await;
    let all = collector.spans();
    let within = |name: &str| -> Vec<&str> {
        let outer = |span: &&Span| span.name == name && span.kind != SpanKind::Client;
        let outer = &all.iter().find(outer).expect(name).id.1;
        let inner = all.iter().filter(|span| span.parent == *outer);
        inner.map(|span| &*span.name).collect()
    };
    assert_eq!(within("POST /reservations"), ["reserve"]);
    assert_eq!(within("reserve"), ["reserve once"]);
    let keyed = [
        "begin",
        "confirm",
        "trace events",
        "insert answers",
        "commit",
    ];
    assert_eq!(within("confirm"), keyed);
    // The first statement reads the time.
    assert_eq!(within("GET /admin/audit"), ["audit", "audit"]);
}

/// After a batch with a repeat, the next one claims its keys first.
#[tokio::test]
async fn a_reserve_with_a_new_key_is_one_call_unless_the_last_one_was_a_repeat() {
    let collector = Collector::start().await;
    let mut system = traced(&collector, &[]).await;
    let product = system.create_product(9).await;
    for (user, key) in [(1, "a"), (1, "a"), (2, "b"), (3, "c")] {
        let body = json!({"product_id": product, "user_id": user});
        let keyed = system.request(Method::POST, "/reservations").json(&body);
        let answer = Answer::to(keyed.header("idempotency-key", key)).await;
        answer.expect(201);
    }
    system.stop().await;
    let all = collector.spans();
    let in_order = |is_wanted: &dyn Fn(&&Span) -> bool| {
        let mut found: Vec<&Span> = all.iter().filter(is_wanted).collect();
        found.sort_by_key(|span| span.time.0);
        found
    };
    let calls = in_order(&|span| span.name == "reserve" && span.kind != SpanKind::Client);
    let statements = calls.iter().map(|call| {
        let inner = in_order(&|span| span.parent == call.id.1);
        inner.iter().map(|span| &*span.name).collect::<Vec<_>>()
    });
    let wanted = [
        &["reserve once"][..],
        &["reserve once", "begin", "claim keys", "commit"],
        &["begin", "claim keys", "reserve", "keep answers", "commit"],
        &["reserve once"],
    ];
    assert_eq!(statements.collect::<Vec<_>>(), wanted);
}

#[tokio::test]
async fn a_setting_that_cannot_be_ends_the_start_and_is_not_repeated() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://secret@127.0.0.1"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "secret:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://secret@127.0.0.1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://secret host/"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://secret:4317"),
    ] {
        let mut process = start(
            "flashsale-api",
            &[("LISTEN_ADDR", "127.0.0.1:0"), (name, value)],
        );
        assert!(!process.ends().await.success(), "{name}={value} is taken");
        let said = process.all_it_said().await;
        assert!(said.contains("OTEL_") || said.contains("OTLP"), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[tokio::test]
async fn a_service_has_the_name_that_the_environment_gives_it() {
    for (name, value) in [
        ("OTEL_SERVICE_NAME", "shop-3"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop-3,cell=3"),
    ] {
        let collector = Collector::start().await;
        let system = traced(&collector, &[(name, value)]).await;
        system.get("/livez").await.expect(200);
        let [requests] = spans(system, &collector, ["GET /livez"]).await;
        assert_eq!(requests[0].service, "shop-3");
    }
}
