//! The time limits.

use std::time::Duration;

use reqwest::Method;
use tokio::{net::TcpSocket, time::timeout};

use super::stage::{JSON, LIVEZ, head, says_close, used};
use crate::support::{System, Wire, eventually};

/// A limit that must not end a connection of the test.
const NEVER: &str = "3600";

#[tokio::test]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let settings = [("HTTP_HEAD_SECONDS", "1"), ("HTTP_IDLE_SECONDS", NEVER)];
    let system = System::with(&settings).await;
    for half in [
        "",
        "G",
        "\r\n",
        "GET /livez HTTP/1.1\r\n",
        "GET /livez HTTP/1.1\r\nhost: api\r\nx: y",
        "POST /reservations HTTP/1.1\r\nhost: api\r\ncontent-length: 9\r\n",
    ] {
        let mut fresh = Wire::to(&system).await;
        fresh.send(half).await;
        assert_eq!(fresh.receive_to_end().await, "", "{half:?}");
        if !half.is_empty() {
            let mut used = used(&system).await;
            used.send(half).await;
            assert_eq!(
                used.receive_to_end().await,
                "",
                "{half:?} on a used connection"
            );
        }
    }
    // Sent in pieces, but in time.
    let mut slow = Wire::to(&system).await;
    for piece in ["GET /livez HT", "TP/1.1\r\nho", "st: api\r\n", "\r\n"] {
        slow.send(piece).await;
        tokio::task::yield_now().await;
    }
    assert!(slow.receive().await.starts_with("HTTP/1.1 200"));
    let closed = r#"http_connections_closed_total{limit="head"}"#;
    assert!(system.metric(closed).await >= 10.0);
}

#[tokio::test]
async fn a_body_that_does_not_end_is_answered_and_ends_the_connection() {
    let system = System::with(&[("HTTP_BODY_SECONDS", "1")]).await;
    for (path, body) in [
        ("/reservations", ""),
        ("/reservations", "{"),
        ("/reservations/1/confirm", "{"),
        ("/reservations/batch", "{\"user_id\":"),
    ] {
        let mut wire = Wire::to(&system).await;
        wire.send(&format!("{}{body}", head(path, JSON, 100))).await;
        let answer = wire.receive_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{path}: {answer}");
        assert!(answer.contains("request_timeout"), "{path}: {answer}");
        assert!(says_close(&answer), "{path}: {answer}");
    }
    // Trickling does not help.
    let mut wire = Wire::to(&system).await;
    wire.send(&head("/reservations", JSON, 16_000)).await;
    let mut sent = 0;
    let answer = loop {
        if let Ok(answer) = timeout(Duration::from_millis(50), wire.receive()).await {
            break answer;
        }
        wire.send(" ").await;
        sent += 1;
        assert!(sent < 1000, "no answer while the body trickles");
    };
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_stream_is_not_idle() {
    let settings = [
        ("HTTP_IDLE_SECONDS", "1"),
        ("HTTP_HEAD_SECONDS", "1"),
        ("HTTP_BODY_SECONDS", "1"),
        ("HTTP_WRITE_SECONDS", "1"),
    ];
    let system = System::with(&settings).await;
    let mut idle = used(&system).await;
    let viewing = system.request(Method::GET, "/admin/live");
    let mut stream = viewing.send().await.unwrap();
    assert_eq!(idle.receive_to_end().await, "");
    let closed = r#"http_connections_closed_total{limit="idle"}"#;
    assert!(system.metric(closed).await >= 1.0);
    // One event per second: longer than each limit.
    let mut received = String::new();
    while received.matches("event: tick").count() < 4 {
        let chunk = stream.chunk().await.unwrap();
        received += str::from_utf8(&chunk.expect("the stream has ended")).unwrap();
    }
}

#[tokio::test]
async fn a_request_that_takes_long_is_not_idle() {
    let settings = [("HTTP_IDLE_SECONDS", "1"), ("HTTP_HEAD_SECONDS", "1")];
    let system = System::with(&settings).await;
    system.database.be_patient().await;
    let product = system.create_product(9).await;
    let lock = system.database.lock_product(product).await;
    let mut waiting = used(&system).await;
    let body = format!(r#"{{"product_id":{product},"user_id":1}}"#);
    waiting.send_post("/reservations", &body).await;
    system.database.calls_wait_for_locks(1).await;
    // When this connection is closed, the other one has waited for longer than the limit.
    assert_eq!(used(&system).await.receive_to_end().await, "");
    lock.rollback().await.unwrap();
    let answer = waiting.receive().await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_connection() {
    let settings = [("HTTP_WRITE_SECONDS", "1"), ("HTTP_IDLE_SECONDS", NEVER)];
    let system = System::with(&settings).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let client = socket.connect(system.address().parse().unwrap()).await;
    let mut wire = Wire::over(client.unwrap());
    // More than the buffers of both kernels hold.
    let request = LIVEZ.replace("/livez", "/openapi.json");
    wire.send(&request.repeat(100)).await;
    let closed = r#"http_connections_closed_total{limit="write"}"#;
    eventually("the end of the connection", async || {
        (system.metric(closed).await == 1.0).then_some(())
    })
    .await;
    let received = wire.receive_to_end().await;
    assert!(received.starts_with("HTTP/1.1 200"));
    assert!(received.matches("HTTP/1.1 200").count() < 100);
}
