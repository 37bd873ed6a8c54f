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

/// Every read of a client. Those with an id answer 404 if nothing was created yet.
fn reads(system: &System) -> Vec<RequestBuilder> {
    let get = |path: &&str| system.request(Method::GET, path);
    let paths = [
        "/products",
        "/products?limit=1",
        "/products?sku=A",
        "/products/1",
        "/reservations",
        "/reservations?limit=100",
        "/reservations/1",
        "/waitlist",
        "/waitlist/1",
    ];
    paths.iter().map(get).collect()
}

/// The reads that `CORS_ORIGINS` opens to pages.
const OPEN_READS: [&str; 3] = ["/products", "/products/1", "/reservations/1"];

async fn expect_reads(system: &System, headers: &[(&str, &str)], allowed: bool) {
    for mut read in reads(system) {
        for (name, value) in headers {
            read = read.header(*name, *value);
        }
        expect_read(&Answer::to(read).await, &format!("{headers:?}"), allowed);
    }
}

fn expect_read(answer: &Answer, about: &str, allowed: bool) {
    match allowed {
        true => assert!(
            matches!(answer.status.as_u16(), 200 | 404),
            "{about}: {answer:?}"
        ),
        false => {
            answer.expect_problem(403, "forbidden");
        }
    }
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

/// A page whose own name resolves to this machine reads answers as if they were its site's. Its browser sends no `Origin`
/// with a GET.
#[tokio::test]
async fn without_keys_a_page_cannot_read_by_way_of_its_own_name() {
    let system = System::with(&[("ADMIN_TOKEN", "token")]).await;
    let names = OF_OTHER_SITES.iter().filter(|(name, _)| *name == "Host");
    let names: Vec<_> = names.collect();
    assert!(!names.is_empty());
    for header in names {
        expect_reads(&system, &[*header], false).await;
        let by_token = [*header, ("Authorization", "Bearer token")];
        expect_reads(&system, &by_token, true).await;
        let by_guess = [*header, ("Authorization", "Bearer guess")];
        expect_reads(&system, &by_guess, false).await;
    }
    for host in ["localhost:8080", "[::1]:8080", "127.0.0.1", "api"] {
        expect_reads(&system, &[("Host", host)], true).await;
    }
    // Browsers do not let this page read the answer.
    expect_reads(&system, &[("Origin", "https://evil.example")], true).await;
    let product = system.create_product(1).await;
    system.reserve(product, 4711).await;
    for path in ["/reservations?limit=100", "/reservations/1"] {
        let read = system.request(Method::GET, path);
        let answer = Answer::to(read.header("host", "evil.example:8080")).await;
        answer.expect_problem(403, "forbidden");
        assert!(!answer.text.contains("4711"), "{path}");
    }
}

#[tokio::test]
async fn pages_that_may_read_may_have_the_name_of_the_api() {
    let shop = "https://shop.example";
    for (origins, headers, allowed) in [
        (shop, &[("Host", "evil.example")][..], false),
        (shop, &[("Host", "shop.example")], true),
        (
            shop,
            &[("Host", "api.shop.example"), ("Origin", shop)],
            true,
        ),
        (
            shop,
            &[
                ("Host", "api.shop.example"),
                ("Origin", "https://evil.example"),
            ],
            false,
        ),
        (
            shop,
            &[("Host", "shop.example"), ("Origin", "http://evil.example")],
            false,
        ),
        ("*", &[("Host", "evil.example")], true),
    ] {
        let system = System::with(&[("CORS_ORIGINS", origins)]).await;
        for mut read in reads(&system) {
            let path = read
                .try_clone()
                .unwrap()
                .build()
                .unwrap()
                .url()
                .path()
                .to_owned();
            for (name, value) in headers {
                read = read.header(*name, *value);
            }
            let is_open = allowed && OPEN_READS.contains(&path.as_str());
            let about = format!("{origins} {path} {headers:?}");
            expect_read(&Answer::to(read).await, &about, is_open);
        }
    }
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
    let name = ("Host", "flashsale.shop.svc.cluster.local:8080");
    expect_reads(&system, &[name], true).await;
    expect_reads(&system, &[name, ("Sec-Fetch-Site", "same-origin")], false).await;
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
