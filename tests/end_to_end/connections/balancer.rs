//! What clients see behind a load balancer while no copy is ready. With the file of `deploy/ha`.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::haproxy::{as_in_deploy, installed, three_hosts};
use crate::support::{Answer, Database, OPENAPI, Server, Service, System, eventually};

/// The servers that HAProxy sees as up in front of the API.
async fn servers_up(host: &str) -> usize {
    let table = reqwest::get(format!("http://{host}:8404/;csv"));
    let table = table.await.unwrap().text().await.unwrap();
    let up = |line: &&str| line.starts_with("api,ha") && line.contains(",UP,");
    table.lines().filter(up).count()
}

/// Waits until HAProxy sees this many.
async fn until_up(host: &str, wanted: usize) {
    eventually("haproxy has seen it", async || {
        (servers_up(host).await == wanted).then_some(())
    })
    .await;
}

/// The answer is the one that the service itself gives.
fn assert_is_the_services_own(answer: &Answer, code: &str) {
    let example = &OPENAPI.document["components"]["examples"][code]["value"];
    assert_eq!(&answer.json(), example, "{answer:?}");
    assert_eq!(answer.status, 503, "{answer:?}");
    for (name, value) in [
        ("content-type", "application/problem+json"),
        ("retry-after", "1"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.header(name), value, "{answer:?}");
    }
    assert!(!answer.header("x-request-id").is_empty(), "{answer:?}");
}

/// Also of those answers that are hard to provoke.
#[test]
fn each_answer_of_the_balancer_is_one_of_the_contract() {
    let file = include_str!("../../../deploy/ha/haproxy.cfg");
    let answers = file
        .lines()
        .filter_map(|line| line.trim().strip_prefix("http-error status "));
    let mut statuses = Vec::new();
    for answer in answers {
        let body = answer.split('\'').nth(1).unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        let code = body["code"].as_str().unwrap();
        let example = &OPENAPI.document["components"]["examples"][code]["value"];
        assert_eq!(&body, example, "{answer}");
        // `http-after-response` makes a 503 of these.
        let status = match answer.split(' ').next().unwrap() {
            "502" | "504" => "503",
            status => status,
        };
        assert_eq!(body["status"].to_string(), status, "{answer}");
        assert_eq!(answer.contains("hdr retry-after 1"), status == "503");
        statuses.push(status);
    }
    assert_eq!(statuses, ["503", "500", "503", "503"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_copy_is_ready_the_balancer_answers_as_the_service_does() {
    let Some(program) = installed() else { return };
    let server = Server::start_new(Service::Postgres);
    let database = Database::create_on(&server.url).await;
    let system = System::spawn_on(database, &[]).await;
    let product = system.create_product(9).await;
    let hosts = three_hosts();
    let start_on =
        |host: &String| system.beside("flashsale-api", &[("LISTEN_ADDR", &format!("{host}:8081"))]);
    let mut copies = [start_on(&hosts[0]), start_on(&hosts[1])];
    let proxy = as_in_deploy(&hosts, program).await;
    let shop = proxy.client();
    // On a slow machine a copy may be unready for a moment.
    eventually("the balancer sends requests", async || {
        let answer = shop.try_reserve(product, 1).await;
        (answer.status == 201).then_some(())
    })
    .await;

    // PostgreSQL is gone: all copies are alive, and unready.
    server.stop();
    until_up(&hosts[0], 0).await;
    let body = json!({"product_id": product, "user_id": 2});
    for answer in [
        shop.post_json("/reservations", &body).await,
        shop.get("/products").await,
    ] {
        assert_is_the_services_own(&answer, "overloaded");
    }
    // The client finds its own id in the answer, as without a proxy.
    let request = shop.request(Method::GET, "/products");
    let answer = Answer::to(request.header("x-request-id", "mine-7")).await;
    assert_eq!(answer.header("x-request-id"), "mine-7");

    server.start();
    eventually("the balancer sends requests again", async || {
        let answer = shop.post_json("/reservations", &body).await;
        (answer.status == 201).then_some(())
    })
    .await;

    // The copies themselves are gone.
    for copy in &mut copies {
        copy.kill();
    }
    until_up(&hosts[0], 0).await;
    let answer = shop.post_json("/reservations", &body).await;
    assert_is_the_services_own(&answer, "overloaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_answer_is_lost_behind_the_balancer_has_an_unknown_outcome() {
    let Some(program) = installed() else { return };
    let hosts = three_hosts();
    // A copy that is ready, and dies in each request.
    let copy = TcpListener::bind(format!("{}:8081", hosts[0]))
        .await
        .unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = copy.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap_or(0);
            if head[..length].starts_with(b"GET /readyz") {
                let ready = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(ready).await;
            }
        }
    });
    let proxy = as_in_deploy(&hosts, program).await;
    until_up(&hosts[0], 1).await;
    let body: Value = json!({"product_id": 1, "user_id": 2});
    let answer = proxy.client().post_json("/reservations", &body).await;
    assert_is_the_services_own(&answer, "outcome_unknown");
}
