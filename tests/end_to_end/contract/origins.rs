//! Where a request comes from: its host, proxies, and other sites' pages.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::keys::File;
use crate::support::{Answer, System, Wire, id};

/// Sends a head without a body, and returns the status and the body of the answer.
async fn ask(system: &System, head: &str) -> (u16, Value) {
    let mut wire = Wire::to(system).await;
    wire.send(&format!(
        "{head}connection: close\r\ncontent-length: 0\r\n\r\n"
    ))
    .await;
    let answer = wire.receive_to_end().await;
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    (status, serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn a_request_names_one_host() {
    let system = System::start().await;
    let address = system.address();
    for hosts in [
        String::new(),
        format!("host: {address}\r\nhost: {address}\r\n"),
        format!("host: {address}\r\nhost: evil.example\r\n"),
        "host:\r\n".to_owned(),
        "host: a b\r\n".to_owned(),
        "host: user@localhost\r\n".to_owned(),
        "host: localhost/x\r\n".to_owned(),
        "host: \u{e9}\r\n".to_owned(),
    ] {
        for target in [
            "GET /products",
            "POST /admin/outbox/requeue",
            "GET /livez",
            "GET /nothing",
        ] {
            let (status, problem) = ask(&system, &format!("{target} HTTP/1.1\r\n{hosts}")).await;
            assert_eq!(
                (status, &problem["code"]),
                (400, &json!("invalid_host")),
                "{target} {hosts}"
            );
        }
    }
    // HTTP/1.0 does not require a host.
    let (status, _) = ask(&system, "GET /products HTTP/1.0\r\n").await;
    assert_eq!(status, 200);
}

/// For example nginx with its defaults: it sends HTTP/1.0, for the API's own address, and adds no header.
#[tokio::test]
async fn an_http_1_0_request_is_that_of_a_proxy() {
    let system = System::start().await;
    let token = System::with(&[("ADMIN_TOKEN", "token")]).await;
    let host = format!("host: {}\r\n", system.address());
    let admin = "POST /admin/outbox/requeue";
    for host in ["", &host, "host: localhost\r\n"] {
        let head = format!("{admin} HTTP/1.0\r\n{host}");
        let (status, problem) = ask(&system, &head).await;
        assert_eq!((status, &problem["code"]), (403, &json!("forbidden")));
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("HTTP/1.0"), "{detail}");
        let head = format!("{head}authorization: Bearer token\r\n");
        assert_eq!(ask(&token, &head).await.0, 200, "{host}");
        // Clients may come through a proxy.
        let act = format!("POST /reservations/1/cancel HTTP/1.0\r\n{host}");
        assert_eq!(ask(&system, &act).await.0, 404, "{host}");
        // But the page that a browser shows is named by its origin.
        let act = format!("{act}origin: http://evil.example\r\n");
        assert_eq!(ask(&system, &act).await.0, 403, "{host}");
    }
    let head = format!("{admin} HTTP/1.1\r\n{host}");
    assert_eq!(ask(&system, &head).await.0, 200);
}

#[tokio::test]
async fn a_whole_address_as_target_is_that_of_a_proxy() {
    let system = System::start().await;
    let address = system.address();
    let head = |target: &str| format!("{target} HTTP/1.1\r\nhost: {address}\r\n");
    let (status, problem) = ask(
        &system,
        &head(&format!("POST http://{address}/admin/outbox/requeue")),
    )
    .await;
    assert_eq!((status, &problem["code"]), (403, &json!("forbidden")));
    assert_eq!(
        ask(&system, &head("POST /admin/outbox/requeue")).await.0,
        200
    );
    // Any client may use one, but then the target names the host.
    let (status, _) = ask(&system, &head(&format!("GET http://{address}/products"))).await;
    assert_eq!(status, 200);
    let (status, problem) = ask(
        &system,
        &head("POST http://evil.example/reservations/1/cancel"),
    )
    .await;
    assert_eq!((status, &problem["code"]), (403, &json!("forbidden")));
}

/// One request to every route with which a client changes something.
fn acts(system: &System) -> Vec<RequestBuilder> {
    let post = |path: &str| system.request(Method::POST, path);
    vec![
        post("/reservations").json(&json!({"product_id": 1, "user_id": 1})),
        post("/reservations/batch").json(&json!({"user_id": 1, "items": [{"product_id": 1}]})),
        post("/reservations/1/confirm"),
        post("/reservations/1/cancel"),
        post("/reservations/1/extend").json(&json!({"seconds": 1})),
        post("/reservations/batch/confirm").json(&json!({"ids": [1]})),
        post("/reservations/batch/cancel").json(&json!({"ids": [1]})),
        post("/reservations/batch/extend").json(&json!({"ids": [1], "seconds": 1})),
        post("/products/1/waitlist").json(&json!({"user_id": 1})),
        post("/waitlist").json(&json!({"product_id": 1, "user_id": 1})),
        post("/waitlist/1/leave"),
    ]
}

async fn expect_all(system: &System, header: (&str, &str), allowed: bool) {
    for act in acts(system) {
        let answer = Answer::to(act.header(header.0, header.1)).await;
        match allowed {
            true => assert_eq!(answer.status, 404, "{header:?}: {answer:?}"),
            false => {
                answer.expect_problem(403, "forbidden");
            }
        }
    }
}

/// What a browser sends for another site's page.
pub(super) const OF_OTHER_SITES: [(&str, &str); 7] = [
    ("Origin", "https://evil.example"),
    ("Origin", "http://localhost:1"),
    ("Origin", "null"),
    ("Sec-Fetch-Site", "cross-site"),
    ("Sec-Fetch-Site", "same-site"),
    ("Host", "evil.example"),
    ("Host", "evil.example:8080"),
];

#[tokio::test]
async fn without_keys_another_sites_page_can_change_nothing() {
    let system = System::start().await;
    for header in OF_OTHER_SITES {
        expect_all(&system, header, false).await;
    }
    for header in [
        ("Origin", format!("http://{}", system.address())),
        ("Sec-Fetch-Site", "same-origin".to_owned()),
        ("Host", "localhost:8080".to_owned()),
        ("Host", "[::1]:8080".to_owned()),
        ("Host", "api".to_owned()),
        // Clients may come through a proxy.
        ("X-Forwarded-For", "10.0.0.1".to_owned()),
        ("Via", "1.1 proxy".to_owned()),
    ] {
        expect_all(&system, (header.0, &header.1), true).await;
    }
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 1).await;
    let cancel = system.request(Method::POST, &format!("/reservations/{}/cancel", id(&hold)));
    let answer = Answer::to(cancel.header("origin", "https://evil.example")).await;
    answer.expect_problem(403, "forbidden");
    assert_eq!(system.look_up(&hold).await, hold);
}

#[tokio::test]
async fn in_a_network_the_host_may_have_any_name_unless_a_browser_asks() {
    let system = System::spawn(&[("LISTEN_ADDR", "0.0.0.0:0")]).await;
    for header in &OF_OTHER_SITES[..5] {
        expect_all(&system, *header, false).await;
    }
    expect_all(
        &system,
        ("Host", "flashsale.shop.svc.cluster.local:8080"),
        true,
    )
    .await;
    for act in acts(&system) {
        // The page's own name resolves to the service.
        let act = act
            .header("host", "evil.example")
            .header("origin", "http://evil.example");
        Answer::to(act).await.expect_problem(403, "forbidden");
    }
}

#[tokio::test]
async fn a_secret_shows_that_no_page_is_the_client() {
    let mut file = File::new();
    let key = file.add("shop");
    let path = file.path();
    let token = ("ADMIN_TOKEN", "token");
    let with_keys = System::with(&[("API_KEYS_FILE", path.to_str().unwrap()), token]).await;
    let without_keys = System::with(&[token]).await;
    for header in OF_OTHER_SITES {
        for act in acts(&with_keys) {
            let answer = Answer::to(act.bearer_auth(&key).header(header.0, header.1)).await;
            assert_eq!(answer.status, 404, "{header:?}: {answer:?}");
        }
        for act in acts(&without_keys) {
            let answer = Answer::to(act.bearer_auth("token").header(header.0, header.1)).await;
            assert_eq!(answer.status, 404, "{header:?}: {answer:?}");
        }
        for act in acts(&without_keys) {
            let answer = Answer::to(act.bearer_auth("wrong").header(header.0, header.1)).await;
            answer.expect_problem(403, "forbidden");
        }
    }
}

#[tokio::test]
async fn two_secrets_are_none() {
    let system = System::with(&[("ADMIN_TOKEN", "token")]).await;
    let audit = system.request(Method::GET, "/admin/audit");
    let twice = audit.bearer_auth("token").bearer_auth("other");
    Answer::to(twice).await.expect_problem(401, "unauthorized");
}
