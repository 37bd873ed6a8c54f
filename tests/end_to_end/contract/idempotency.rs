//! `Idempotency-Key`: a repeated POST gets the stored answer.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, System, id};

/// A POST with a key. An empty text means no body.
pub(super) async fn post(system: &System, key: &str, path: &str, body: &str) -> Answer {
    let mut request = system
        .request(Method::POST, path)
        .header("idempotency-key", key);
    if !body.is_empty() {
        request = request
            .header("content-type", "application/json")
            .body(body.to_owned());
    }
    system.as_admin(request).await
}

pub(super) async fn reserve(system: &System, key: &str, product: i64, user: i64) -> Answer {
    let body = json!({"product_id": product, "user_id": user}).to_string();
    post(system, key, "/reservations", &body).await
}

/// The same bytes as the first answer, marked as a replay.
#[track_caller]
pub(super) fn assert_replayed(first: &Answer, again: &Answer) {
    assert_eq!(first.header("idempotency-replayed"), "");
    assert_eq!(again.header("idempotency-replayed"), "true", "{again:?}");
    assert_eq!(again.status, first.status);
    assert_eq!(again.text, first.text);
    for name in ["content-type", "location", "content-length"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
}

pub(super) async fn keys(system: &System) -> i64 {
    sqlx::query_scalar("select count(*) from idempotency_keys")
        .fetch_one(&system.database.pool)
        .await
        .unwrap()
}

/// All state that a request could change.
async fn state(system: &System) -> Vec<Value> {
    let everything =
        "select to_jsonb(p) from products p union all select to_jsonb(r) from reservations r
        union all select to_jsonb(a) from stock_adjustments a
        union all select to_jsonb(e) from outbox_events e";
    let mut rows: Vec<Value> = sqlx::query_scalar(everything)
        .fetch_all(&system.database.pool)
        .await
        .unwrap();
    rows.sort_by_key(Value::to_string);
    rows
}

/// For a product with 9 units, whose holds 1 to 4 are ACTIVE, ACTIVE, CONFIRMED and past the deadline.
const POSTS: [(&str, &str, u16); 19] = [
    ("/products", r#"{"name": "x", "stock": 1}"#, 201),
    ("/products/1/stock", r#"{"delta": 5, "reason": "x"}"#, 200),
    ("/reservations", r#"{"product_id": 1, "user_id": 9}"#, 201),
    (
        "/reservations/batch",
        r#"{"user_id": 8, "items": [{"product_id": 1, "quantity": 2}]}"#,
        201,
    ),
    ("/reservations/1/extend", r#"{"seconds": 1000}"#, 200),
    ("/reservations/1/confirm", "", 200),
    ("/reservations/2/cancel", "", 200),
    ("/reservations/3/return", "", 200),
    ("/reservations/4/confirm", r#"{"reacquire": true}"#, 200),
    (
        "/reservations/batch/extend",
        r#"{"ids": [6, 5], "seconds": 1000}"#,
        200,
    ),
    ("/reservations/batch/cancel", r#"{"ids": [6, 2]}"#, 200),
    ("/reservations/batch/confirm", r#"{"ids": [5, 1]}"#, 200),
    (
        "/products/1/waitlist",
        r#"{"user_id": 7, "quantity": 100}"#,
        201,
    ),
    (
        "/waitlist",
        r#"{"product_id": 1, "user_id": 6, "quantity": 100}"#,
        201,
    ),
    ("/waitlist/1/leave", "", 200),
    ("/admin/reservations/sync-expired", "", 200),
    ("/admin/counters/rebuild", "", 200),
    ("/admin/outbox/requeue", "", 200),
    (
        "/admin/outbox/replay",
        r#"{"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}"#,
        200,
    ),
];

#[tokio::test]
async fn every_post_answers_the_same_again_and_does_nothing_more() {
    let system = System::with(&[("OUTBOX_EVENTS", "ReservationConfirmed,StockAdjusted")]).await;
    let product = system.create_product(9).await;
    let mut holds = Vec::new();
    for user in 1..=4 {
        holds.push(system.reserve(product, user).await);
    }
    system.confirm(&holds[2]).await;
    system.backdate(&holds[3]).await;
    assert_eq!(id(&holds[3]), 4);
    for (n, (path, body, status)) in POSTS.into_iter().enumerate() {
        let key = format!("key-{n}");
        let first = post(&system, &key, path, body).await;
        assert_eq!(first.status, status, "{path}: {}", first.text);
        assert_eq!(
            status == 201 && !path.ends_with("batch"),
            !first.header("location").is_empty()
        );
        let after = state(&system).await;
        assert_replayed(&first, &post(&system, &key, path, body).await);
        // Another body, another query, another path.
        let other = if body.is_empty() {
            "{}".to_owned()
        } else {
            format!("{body} ")
        };
        let path_twice = format!("{path}?again");
        for (path, body) in [
            (path, &*other),
            (&path_twice, body),
            ("/reservations/1/cancel", ""),
        ] {
            if POSTS[n].0 == path && POSTS[n].1 == body {
                continue;
            }
            let reused = post(&system, &key, path, body).await;
            reused.expect_problem(422, "idempotency_key_reused");
        }
        assert_eq!(state(&system).await, after, "{path} had a second effect");
        assert_eq!(keys(&system).await, n as i64 + 1);
    }
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn an_answer_is_the_same_with_a_key_and_without() {
    let system = System::start().await;
    let product = system.create_product(2).await;
    let keyed = reserve(&system, "a", product, 1).await;
    let plain = system.try_reserve(product, 2).await;
    assert_eq!(keyed.status, plain.status);
    assert_eq!(keyed.header("content-type"), plain.header("content-type"));
    assert_eq!(
        keyed.header("location"),
        format!("/reservations/{}", id(&keyed.json()))
    );
    let names = |answer: &Answer| {
        let body = answer.json();
        body.as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&keyed), names(&plain));
    let refused = [
        reserve(&system, "b", product, 3).await,
        system.try_reserve(product, 3).await,
    ];
    for answer in &refused {
        answer.expect_problem(409, "sold_out");
    }
    assert_eq!(refused[0].text, refused[1].text);
    // Counters and timers are updated as without a key.
    for (name, value) in [("created", 2.0), ("confirmed", 1.0)] {
        post(&system, "c", "/reservations/1/confirm", "")
            .await
            .expect(200);
        let series = format!("flashsale_reservations_{name}_total");
        assert_eq!(system.metric(&series).await, value, "{name}");
    }
}

#[tokio::test]
async fn a_refusal_is_repeated_though_it_would_be_none_now() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 1).await;
    let refused = reserve(&system, "a", product, 2).await;
    refused.expect_problem(409, "sold_out");
    system.cancel(&hold).await;
    assert_replayed(&refused, &reserve(&system, "a", product, 2).await);
    reserve(&system, "b", product, 2).await.expect(201);
    let canceled = post(&system, "c", "/reservations/1/confirm", "").await;
    canceled.expect_problem(409, "reservation_canceled");
    assert_replayed(
        &canceled,
        &post(&system, "c", "/reservations/1/confirm", "").await,
    );
    // For an order, the refusal names the reservation that caused it.
    let order = r#"{"ids": [1]}"#;
    let refused = post(&system, "e", "/reservations/batch/confirm", order).await;
    refused.expect_problem_with(409, "reservation_canceled", &["reservation_id"]);
    assert_replayed(
        &refused,
        &post(&system, "e", "/reservations/batch/confirm", order).await,
    );
    // For several products, the refusal names the one that caused it.
    let several = r#"{"user_id": 5, "items": [{"product_id": 1}]}"#;
    let refused = post(&system, "d", "/reservations/batch", several).await;
    refused.expect_problem_with(409, "sold_out", &["product_id"]);
    assert_replayed(
        &refused,
        &post(&system, "d", "/reservations/batch", several).await,
    );
}

/// What does not exist here may be on its way to another cell, and come back.
#[tokio::test]
async fn what_does_not_exist_is_not_kept() {
    let system = System::start().await;
    let unknown = [
        (
            "/reservations",
            r#"{"product_id": 1, "user_id": 1}"#,
            "product_not_found",
        ),
        (
            "/reservations/1/extend",
            r#"{"seconds": 9}"#,
            "reservation_not_found",
        ),
        ("/reservations/1/confirm", "", "reservation_not_found"),
        (
            "/reservations/batch/confirm",
            r#"{"ids": [1]}"#,
            "reservation_not_found",
        ),
        (
            "/reservations/batch",
            r#"{"user_id": 2, "items": [{"product_id": 1}]}"#,
            "product_not_found",
        ),
        (
            "/products/1/stock",
            r#"{"delta": -3, "reason": "lost"}"#,
            "product_not_found",
        ),
        (
            "/products/1/waitlist",
            r#"{"user_id": 3}"#,
            "product_not_found",
        ),
        ("/waitlist/1/leave", "", "waitlist_entry_not_found"),
    ];
    for (path, body, code) in unknown {
        for _ in 0..2 {
            let answer = post(&system, path, path, body).await;
            let got = (answer.status.as_u16(), answer.json()["code"].clone());
            assert_eq!(got, (404, code.into()), "{path}");
            assert_eq!(answer.header("idempotency-replayed"), "", "{path}");
        }
    }
    assert_eq!(keys(&system).await, 0);
    assert_eq!(system.create_product(5).await, 1);
    for (path, body, _) in unknown {
        let first = post(&system, path, path, body).await;
        assert!(first.status.is_success(), "{path}: {first:?}");
        assert_replayed(&first, &post(&system, path, path, body).await);
    }
}

#[tokio::test]
async fn what_never_reached_the_verb_is_not_kept() {
    let system = System::with(&[("ADMIN_TOKEN", "secret")]).await;
    let product = system.create_product(1).await;
    let window = r#"{"name": "x", "stock": 1, "sale_starts_at": "2026-01-02T00:00:00Z", "sale_ends_at": "2026-01-01T00:00:00Z"}"#;
    let large = format!(r#"{{"product_id": 1, "user_id": {:17000}}}"#, 1);
    let wrong = [
        ("/reservations", "{", 400, "invalid_json"),
        ("/reservations", "{}", 422, "invalid_request"),
        ("/reservations", &large, 413, "body_too_large"),
        ("/reservations", "", 415, "unsupported_media_type"),
        ("/reservations/x/confirm", "", 404, "reservation_not_found"),
        ("/nowhere", "", 404, "not_found"),
        (
            "/products",
            r#"{"name": "", "stock": 1}"#,
            422,
            "invalid_product",
        ),
        // Only the database detects this error.
        ("/products", window, 422, "invalid_product"),
    ];
    for (path, body, status, code) in wrong {
        let refused = post(&system, "a", path, body).await;
        refused.expect_problem(status, code);
        assert_eq!(keys(&system).await, 0, "{path} {body}");
    }
    let request = system
        .request(Method::POST, "/products")
        .header("idempotency-key", "a");
    let body = json!({"name": "x", "stock": 1});
    Answer::to(request.json(&body))
        .await
        .expect_problem(401, "unauthorized");
    reserve(&system, "a", product, 1).await.expect(201);
    // Without permission, a request does not get the stored answer.
    post(&system, "b", "/products", &body.to_string())
        .await
        .expect(201);
    let request = system
        .request(Method::POST, "/products")
        .header("idempotency-key", "b");
    let request = request
        .header("content-type", "application/json")
        .body(body.to_string());
    Answer::to(request)
        .await
        .expect_problem(401, "unauthorized");
}

#[tokio::test]
async fn a_key_is_the_same_in_quotes_and_without() {
    let system = System::start().await;
    let product = system.create_product(9).await;
    let same = [
        (
            "8e03978e-40d5-43dd-bc93-6894a57f9324",
            "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"",
        ),
        (r#"a"b\c"#, r#""a\"b\\c""#),
        (&"x".repeat(255), &format!("\"{}\"", "x".repeat(255))),
    ];
    for (user, (bare, quoted)) in (1..).zip(same) {
        let first = reserve(&system, bare, product, user).await;
        first.expect(201);
        assert_replayed(&first, &reserve(&system, quoted, product, user).await);
    }
    let long = "x".repeat(256);
    let wrong = [
        "",
        "\"\"",
        "a b",
        "\"a b\"",
        "\"a",
        "\"a\"b",
        "\"a\"; p=1",
        r#""\a""#,
        "\"a\\",
        "\"",
        &long,
        "é",
    ];
    for key in wrong {
        let refused = reserve(&system, key, product, 9).await;
        refused.expect_problem(400, "idempotency_key_invalid");
    }
    let twice = system
        .request(Method::POST, "/reservations/1/cancel")
        .header("idempotency-key", "p")
        .header("idempotency-key", "p");
    Answer::to(twice)
        .await
        .expect_problem(400, "idempotency_key_invalid");
    assert_eq!(system.stock(product).await, 6);
    // The header is ignored on requests that change nothing.
    let read = system
        .request(Method::GET, "/products")
        .header("idempotency-key", "a b");
    Answer::to(read).await.expect(200);
    assert_eq!(keys(&system).await, 3);
}
