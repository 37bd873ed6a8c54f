//! Paths and methods that exist, and those that don't.

use reqwest::Method;

use crate::support::{Answer, System, Wire};

/// Path segments that are not a valid id.
pub(super) const NO_IDS: [&str; 14] = [
    "999999",
    "0",
    "-1",
    "+1",
    "01x",
    "abc",
    "1.0",
    "1e0",
    "%20",
    "%00",
    "%FF",
    "%D9%A1",
    "9223372036854775808",
    "99999999999999999999999999999999",
];

const ROUTES: [(&str, &str); 30] = [
    ("/products", "GET,HEAD,POST"),
    ("/products/1", "GET,HEAD,PATCH"),
    ("/products/1/stock", "GET,HEAD,POST,PUT"),
    ("/reservations", "GET,HEAD,POST"),
    ("/reservations/batch", "POST"),
    ("/reservations/batch/confirm", "POST"),
    ("/reservations/batch/cancel", "POST"),
    ("/reservations/batch/extend", "POST"),
    ("/reservations/1", "GET,HEAD"),
    ("/reservations/1/confirm", "POST"),
    ("/reservations/1/cancel", "POST"),
    ("/reservations/1/extend", "POST"),
    ("/reservations/1/return", "POST"),
    ("/products/1/waitlist", "POST"),
    ("/waitlist", "GET,HEAD,POST"),
    ("/waitlist/1", "GET,HEAD"),
    ("/waitlist/1/leave", "POST"),
    ("/admin/reservations/sync-expired", "POST"),
    ("/admin/live", "GET,HEAD"),
    ("/admin/audit", "GET,HEAD"),
    ("/admin/outbox/dead", "GET,HEAD"),
    ("/admin/outbox/requeue", "POST"),
    ("/admin/outbox/replay", "POST"),
    ("/", "GET,HEAD"),
    ("/live/style.css", "GET,HEAD"),
    ("/livez", "GET,HEAD"),
    ("/readyz", "GET,HEAD"),
    ("/health", "GET,HEAD"),
    ("/metrics", "GET,HEAD"),
    ("/metrics?x=1", "GET,HEAD"),
];

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let system = System::start().await;
    for (path, allowed) in ROUTES {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
            if allowed.split(',').any(|known| known == method) {
                continue;
            }
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = Answer::to(system.request(method.clone(), path)).await;
            answer.expect_problem(405, "method_not_allowed");
            assert_eq!(answer.header("allow"), allowed, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn an_unknown_path_is_not_found_whatever_the_method() {
    let system = System::start().await;
    for path in [
        "/product",
        "/live",
        "/live/",
        "/products/",
        "/products/1/",
        "/products/1/confirm",
        "/Products",
        "/reservations/1/expire",
        "/reservations/1/confirm/",
        "//products",
        "/admin",
        "/%70roducts/1/x",
        "/healthz",
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            Answer::to(system.request(method, path))
                .await
                .expect_problem(404, "not_found");
        }
    }
    let file = system.get("/live/no-file.js").await;
    file.expect_problem(404, "not_found");
}

#[tokio::test]
async fn a_head_is_a_get_without_a_body() {
    let system = System::start().await;
    for path in ["/products", "/reservations", "/livez", "/metrics"] {
        let head = Answer::to(system.request(Method::HEAD, path)).await;
        assert_eq!(head.status, 200, "{path}");
        assert_eq!(head.text, "");
    }
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_hurts_nobody() {
    let system = System::start().await;
    for nonsense in [
        "\r\n\r\nhello\r\n\r\n",
        "GET /products HTTP/9.9\r\n\r\n",
        "GET http://[ HTTP/1.1\r\nhost: api\r\n\r\n",
        "POST /products HTTP/1.1\r\nhost: api\r\ncontent-length: x\r\n\r\n",
    ] {
        let mut wire = Wire::to(&system).await;
        wire.send(nonsense).await;
        let answer = wire.receive_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{nonsense:?}: {answer}");
    }
    system.get("/products").await.expect(200);
}

#[tokio::test]
async fn no_cache_may_keep_an_answer() {
    let system = System::start().await;
    for path in [
        "/",
        "/live/style.css",
        "/docs",
        "/openapi.json",
        "/asyncapi.json",
        "/docs/style.css",
    ] {
        assert_eq!(
            system.get(path).await.header("cache-control"),
            "no-cache",
            "{path}"
        );
    }
    for (path, _) in ROUTES
        .iter()
        .filter(|(path, _)| !matches!(*path, "/" | "/live/style.css" | "/products"))
    {
        for method in [Method::GET, Method::POST, Method::HEAD] {
            let answer = Answer::to(system.request(method.clone(), path)).await;
            assert_eq!(
                answer.header("cache-control"),
                "no-store",
                "{method} {path}"
            );
        }
    }
    let nowhere = system.get("/nowhere").await;
    assert_eq!(nowhere.header("cache-control"), "no-store");
}

#[tokio::test]
async fn the_page_is_found_with_a_slash_too() {
    let system = System::start().await;
    let mut wire = Wire::to(&system).await;
    wire.send("GET /docs/ HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n")
        .await;
    let answer = wire.receive_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    assert!(answer.contains("\r\nlocation: ../docs\r\n"), "{answer}");
}
