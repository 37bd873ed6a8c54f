//! Log entries of requests: enough to find each refused request, and no secrets.

use reqwest::Method;
use serde_json::{Value, json};

use super::keys::File;
use crate::support::{Answer, System, Wire, start};

/// The log entries with a request id, without fields that depend on the time or the code layout.
fn about_requests(log: Vec<Value>) -> Vec<Value> {
    let mut entries = log;
    entries.retain(|entry| entry.get("request_id").is_some());
    for entry in &mut entries {
        for field in ["timestamp", "target", "message"] {
            entry.as_object_mut().unwrap().remove(field).expect(field);
        }
    }
    entries
}

#[tokio::test]
async fn each_refusal_has_one_line_at_debug_with_the_id_of_its_answer() {
    let settings = [("RUST_LOG", "debug"), ("ADMIN_TOKEN", "token")];
    let mut system = System::spawn(&settings).await;
    let product = system.create_product(1).await;
    system.reserve(product, 1).await;
    let body = |user: i64| json!({"product_id": product, "user_id": user});
    let post = |path, body: Value| system.request(Method::POST, path).json(&body);
    let get = |path| system.request(Method::GET, path);
    let keyed = || post("/reservations", body(3)).header("idempotency-key", "once");
    let broken = system.request(Method::POST, "/reservations").body("{");
    let broken = broken.header("content-type", "application/json");
    let sold_out = Some("only 0 units are free");
    let mut wanted = Vec::new();
    for (request, method, route, status, code, detail) in [
        (
            post("/reservations", body(2)),
            "POST",
            "/reservations",
            409,
            "sold_out",
            sold_out,
        ),
        (keyed(), "POST", "/reservations", 409, "sold_out", sold_out),
        // The refusal is stored and replayed.
        (keyed(), "POST", "/reservations", 409, "sold_out", sold_out),
        (
            get("/reservations/999"),
            "GET",
            "/reservations/{id}",
            404,
            "reservation_not_found",
            Some("there is no such reservation"),
        ),
        (
            get("/nowhere"),
            "GET",
            "unmatched",
            404,
            "not_found",
            Some("see /docs for the routes"),
        ),
        (
            system.request(Method::DELETE, "/products"),
            "other",
            "/products",
            405,
            "method_not_allowed",
            Some("use a method that the Allow header names"),
        ),
        (
            post("/products", json!({})),
            "POST",
            "/products",
            401,
            "unauthorized",
            Some("send Authorization: Bearer with the ADMIN_TOKEN"),
        ),
        (
            broken,
            "POST",
            "/reservations",
            400,
            "invalid_json",
            Some("EOF while parsing an object at line 1 column 1"),
        ),
        // These messages quote the client's input.
        (
            get("/products?colour=red"),
            "GET",
            "/products",
            400,
            "invalid_query",
            None,
        ),
        (
            post("/reservations", json!({"colour": "red"})),
            "POST",
            "/reservations",
            422,
            "invalid_request",
            None,
        ),
    ] {
        let answer = Answer::to(request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        let mut entry = json!({
            "level": "DEBUG",
            "method": method,
            "route": route,
            "status": status,
            "code": code,
            "request_id": answer.header("x-request-id"),
        });
        if let Some(detail) = detail {
            entry["detail"] = detail.into();
        }
        wanted.push(entry);
    }
    let good = system.request(Method::GET, "/products");
    let good = Answer::to(good.header("x-request-id", "good")).await;
    good.expect(200);
    assert_eq!(about_requests(system.stop().await), wanted);
}

#[tokio::test]
async fn by_default_refusals_are_not_logged() {
    let mut system = System::spawn(&[]).await;
    system
        .get("/nowhere")
        .await
        .expect_problem(404, "not_found");
    let refused = system.get("/products/1").await;
    refused.expect_problem(404, "product_not_found");
    let log = system.stop().await;
    let levels: Vec<&Value> = log.iter().map(|entry| &entry["level"]).collect();
    assert!(
        !levels.is_empty() && !levels.contains(&&"DEBUG".into()),
        "{log:?}"
    );
    assert!(about_requests(log).is_empty());
}

/// No client can cause this error, except with a stored answer that was changed in the database.
#[tokio::test]
async fn what_is_internal_is_told_at_warn() {
    let mut system = System::spawn(&[]).await;
    let hold = system.reserve(system.create_product(1).await, 1).await;
    system.cancel(&hold).await;
    let request = "POST /reservations/1/confirm HTTP/1.1\r\nhost: api\r\nidempotency-key: once\r\n\
        x-request-id: mine\r\nconnection: close\r\n\r\n";
    for _ in 0..2 {
        let mut wire = Wire::to(&system).await;
        wire.send(request).await;
        let answer = wire.receive_to_end().await;
        assert!(answer.contains("x-request-id: mine\r\n"), "{answer}");
        let spoilt = sqlx::query(
            "update idempotency_keys set body = replace(body, 'reservation_canceled', 'internal')",
        );
        spoilt.execute(&system.database.pool).await.unwrap();
    }
    let told = about_requests(system.stop().await);
    let wanted = json!({
        "level": "WARN",
        "method": "POST",
        "route": "/reservations/{id}/confirm",
        "status": 409,
        "code": "internal",
        "request_id": "mine",
    });
    assert_eq!(told, [wanted]);
}

#[tokio::test]
async fn no_secret_is_ever_logged() {
    let mut keys = File::new();
    let key = keys.add("shop");
    let path = keys.path();
    let redis = crate::support::test_server("TEST_REDIS_URL").replace("://", "://:secret-redis@");
    let settings = [
        ("RUST_LOG", "trace"),
        ("ADMIN_TOKEN", "secret-token"),
        ("API_KEYS_FILE", path.to_str().unwrap()),
        ("REDIS_URL", &redis),
    ];
    let mut system = System::spawn(&settings).await;
    // With the credentials in their proper place, and elsewhere.
    let product = system.create_product(1).await;
    let body = json!({"product_id": product, "user_id": 1, "reference": "secret-reference"});
    let reserve = || system.request(Method::POST, "/reservations").json(&body);
    let shop = || reserve().bearer_auth(&key);
    for (request, status) in [
        (shop().header("idempotency-key", "secret-key"), 201),
        (shop(), 409),
        (reserve().bearer_auth("secret-guess"), 401),
        (reserve().basic_auth("me", Some("secret-guess")), 401),
        (shop().json(&json!({"product_id": "secret-value"})), 422),
        (shop().json(&json!({"secret-name": 1})), 422),
        (shop().body("secret-body"), 400),
        (shop().header("idempotency-key", "secret key"), 400),
        (
            system
                .request(Method::GET, "/products?token=secret-query")
                .bearer_auth(&key),
            400,
        ),
        (
            system
                .request(Method::GET, "/products?secret-query")
                .bearer_auth(&key),
            400,
        ),
        (
            system
                .request(Method::GET, "/products/secret-id")
                .bearer_auth(&key),
            404,
        ),
        (system.request(Method::GET, "/secret-path"), 404),
    ] {
        let answer = Answer::to(request).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    // A password that PostgreSQL refuses is part of the error.
    let url = &system.database.url;
    let url = url.replace("flashsale:flashsale@", "flashsale:secret-password@");
    let own = [("LISTEN_ADDR", "127.0.0.1:0"), ("DATABASE_URL", &*url)];
    let mut other = start("flashsale-api", &[&settings[..], &own].concat());
    other.logs("cannot work").await;
    other.terminate();
    other.ends().await;

    let log = [system.stop().await, other.entries().await].concat();
    assert!(log.len() > 20, "too few log entries");
    for entry in log {
        let entry = entry.to_string();
        assert!(
            !entry.contains("secret") && !entry.contains(&key),
            "{entry}"
        );
    }
}
