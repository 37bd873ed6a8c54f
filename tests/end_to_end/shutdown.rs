//! SIGTERM to the real binary: accepted requests are answered, and nothing delays the end.

use serde_json::Value;
use tokio::{net::TcpStream, task::JoinHandle};

use crate::support::{Answer, System, Wire, eventually};

/// A test that waits for this limit fails.
const FOREVER: (&str, &str) = ("SHUTDOWN_SECONDS", "600");

fn reserve_in_background(system: &System, product: i64, user: i64) -> JoinHandle<Answer> {
    let client = system.client();
    tokio::spawn(async move { client.try_reserve(product, user).await })
}

async fn refuses_connections(system: &System) {
    eventually("connections are refused", async || {
        TcpStream::connect(system.address()).await.err()
    })
    .await;
}

#[tokio::test]
async fn requests_in_flight_are_answered_before_the_end() {
    let mut system = System::spawn(&[FOREVER, ("RESERVE_LANES", "1")]).await;
    system.database.be_patient().await;
    let product = system.create_product(9).await;
    let other = system.create_product(9).await;
    let hold = system.reserve(product, 9).await;
    let lock = system.database.lock_product(product).await;
    let first = reserve_in_background(&system, product, 1);
    system.database.calls_wait_for_locks(1).await;
    let confirm = {
        let (client, hold) = (system.client(), hold.clone());
        tokio::spawn(async move { client.confirm(&hold).await })
    };
    system.database.calls_wait_for_locks(2).await;
    // It shares the first request's lane, and waits in its queue.
    let mut queued = Wire::to(&system).await;
    let body = format!(r#"{{"product_id":{other},"user_id":2}}"#);
    queued.send_post("/reservations", &body).await;
    // Sent later, on a connection that was opened earlier. When this is answered, the other request has been read.
    system.get("/livez").await.expect(200);

    system.child().terminate();
    refuses_connections(&system).await;
    assert!(system.child().runs());
    lock.rollback().await.unwrap();

    let first = first.await.unwrap();
    assert_eq!(first.expect(201)["user_id"], 1);
    assert_eq!(confirm.await.unwrap()["status"], "CONFIRMED");
    let answer = queued.receive_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(system.child().ends().await.success());
    assert_eq!(count(&system, "select count(*) from reservations").await, 3);
}

/// At the limit on connections. The server has accepted one of them, and the kernel the others.
#[tokio::test]
async fn connections_that_wait_for_a_place_are_answered_before_the_end() {
    let mut system = System::spawn(&[FOREVER, ("HTTP_MAX_CONNECTIONS", "1")]).await;
    system.database.be_patient().await;
    let product = system.create_product(9).await;
    let lock = system.database.lock_product(product).await;
    let mut busy = Wire::to(&system).await;
    let body = format!(r#"{{"product_id":{product},"user_id":1}}"#);
    busy.send_post("/reservations", &body).await;
    system.database.calls_wait_for_locks(1).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::to(&system).await;
        wire.send("GET /livez HTTP/1.1\r\nhost: api\r\n\r\n").await;
        waiting.push(wire);
    }
    system.child().terminate();
    system.child().logs("signal received").await;
    lock.rollback().await.unwrap();
    let answer = busy.receive_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    for mut wire in waiting {
        let answer = wire.receive_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert!(system.child().ends().await.success());
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let mut system = System::spawn(&[FOREVER]).await;
    let mut kept_alive = Wire::to(&system).await;
    kept_alive
        .send("GET /livez HTTP/1.1\r\nhost: api\r\n\r\n")
        .await;
    assert!(kept_alive.receive().await.starts_with("HTTP/1.1 200"));
    system.child().terminate();
    assert!(system.child().ends().await.success());
    assert_eq!(kept_alive.receive_to_end().await, "");
}

#[tokio::test]
async fn a_request_that_never_comes_is_waited_for_no_longer_than_the_grace() {
    let mut system = System::spawn(&[("SHUTDOWN_SECONDS", "2")]).await;
    let mut half_sent = Wire::to(&system).await;
    half_sent
        .send("POST /reservations HTTP/1.1\r\nhost: a")
        .await;
    let mut without_body = Wire::to(&system).await;
    without_body
        .send("POST /reservations HTTP/1.1\r\nhost: api\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{")
        .await;
    let mut silent = Wire::to(&system).await;
    system.get("/livez").await.expect(200);
    system.child().terminate();
    assert!(system.child().ends().await.success());
    for wire in [&mut half_sent, &mut without_body, &mut silent] {
        wire.receive_to_end().await;
    }
}

#[tokio::test]
async fn work_that_outlasts_the_limit_is_abandoned_with_an_error() {
    let mut system = System::spawn(&[("SHUTDOWN_SECONDS", "1")]).await;
    system.database.be_patient().await;
    let product = system.create_product(9).await;
    let lock = system.database.lock_product(product).await;
    let mut wire = Wire::to(&system).await;
    let body = format!(r#"{{"product_id":{product},"user_id":1}}"#);
    wire.send_post("/reservations", &body).await;
    system.database.calls_wait_for_locks(1).await;
    system.child().terminate();
    assert_eq!(system.child().ends().await.code(), Some(1));
    system.child().logs("work was still unfinished").await;
    assert_eq!(
        wire.receive_to_end().await,
        "",
        "an answer, although the outcome is unknown"
    );
    lock.rollback().await.unwrap();
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut system = System::spawn(&[FOREVER]).await;
    system.database.be_patient().await;
    let product = system.create_product(9).await;
    let _lock = system.database.lock_product(product).await;
    let mut wire = Wire::to(&system).await;
    let body = format!(r#"{{"product_id":{product},"user_id":1}}"#);
    wire.send_post("/reservations", &body).await;
    system.database.calls_wait_for_locks(1).await;
    system.child().terminate();
    system.child().logs("signal received").await;
    assert!(system.child().runs());
    system.child().terminate();
    assert_eq!(system.child().ends().await.code(), Some(1));
    system.child().logs("second signal").await;
}

#[tokio::test]
async fn what_was_answered_survives_the_death_of_the_process() {
    let mut system = System::spawn(&[]).await;
    let product = system.create_product(9).await;
    let hold = system.reserve(product, 1).await;
    let confirmed: Value = system.confirm(&hold).await;
    system.child().kill();
    system.restart().await;
    assert_eq!(system.look_up(&hold).await, confirmed);
    system.assert_clean_audit().await;
}

async fn count(system: &System, query: &'static str) -> i64 {
    sqlx::query_scalar(query)
        .fetch_one(&system.database.pool)
        .await
        .unwrap()
}
