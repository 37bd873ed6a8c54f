//! Answers before the whole request was read: they reach the client, and say whether the connection ends.

use super::stage::{JSON, LIVEZ, head, says_close};
use crate::support::{Client, System, Wire};

/// More than the server reads of a body that it does not want, and more than the kernels' buffers hold.
const LARGE: usize = 4 << 20;

const KEYED: [(&str, &str); 1] = [("ADMIN_TOKEN", "secret")];

/// Requests that are refused without a look at their bodies: their name, head up to the length, and status.
const REFUSED: [(&str, &str, &str, &str); 6] = [
    ("413", "/reservations", JSON, "HTTP/1.1 413"),
    (
        "413 of an optional body",
        "/reservations/1/cancel",
        JSON,
        "HTTP/1.1 413",
    ),
    ("401", "/products", JSON, "HTTP/1.1 401"),
    (
        "415",
        "/reservations",
        "content-type: text/plain\r\n",
        "HTTP/1.1 415",
    ),
    ("404", "/nowhere", JSON, "HTTP/1.1 404"),
    ("405", "/livez", JSON, "HTTP/1.1 405"),
];

#[tokio::test]
async fn the_answer_says_that_the_connection_ends_and_no_reset_destroys_it() {
    let system = System::with(&KEYED).await;
    for (name, path, headers, status) in REFUSED {
        // Some clients read only after they have sent everything.
        let mut patient = Wire::to(&system).await;
        patient.send(&head(path, headers, LARGE)).await;
        patient.send(&"x".repeat(LARGE)).await;
        let answer = patient.receive_to_end().await;
        assert!(answer.starts_with(status), "{name}: {answer}");
        assert!(says_close(&answer), "{name}: {answer}");
        // The answer is not delayed until the body comes.
        let mut waiting = Wire::to(&system).await;
        waiting.send(&head(path, headers, LARGE)).await;
        let answer = waiting.receive().await;
        assert!(
            answer.starts_with(status) && says_close(&answer),
            "{name}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_small_body_that_nobody_wants_does_not_cost_the_connection() {
    let system = System::with(&KEYED).await;
    for (name, path, headers, status) in REFUSED {
        for length in [2, 60 * 1024] {
            // The handler itself refuses a small body of the right type.
            if length == 2 && status.ends_with("413") {
                continue;
            }
            let mut wire = Wire::to(&system).await;
            wire.send(&head(path, headers, length)).await;
            wire.send(&"x".repeat(length)).await;
            let answer = wire.receive().await;
            assert!(answer.starts_with(status), "{name}: {answer}");
            assert!(!says_close(&answer), "{name}: {answer}");
            wire.send(LIVEZ).await;
            let answer = wire.receive().await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_body_that_waits_for_permission_is_not_asked_for() {
    let system = System::with(&KEYED).await;
    let expects = |path| head(path, &format!("{JSON}expect: 100-continue\r\n"), 100);
    let mut refused = Wire::to(&system).await;
    refused.send(&expects("/products")).await;
    let answer = refused.receive_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(says_close(&answer), "{answer}");
    let mut wanted = Wire::to(&system).await;
    wanted.send(&expects("/reservations")).await;
    let answer = wanted.receive().await;
    assert!(answer.starts_with("HTTP/1.1 100 Continue"), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_even_while_it_is_sent() {
    let system = System::start().await;
    for large in [
        format!("GET /livez HTTP/1.1\r\nx: {}", "y".repeat(1 << 20)),
        format!("GET /{} HTTP/1.1\r\n", "y".repeat(1 << 20)),
        format!("GET /livez HTTP/1.1\r\n{}", "x: y\r\n".repeat(200_000)),
    ] {
        let mut wire = Wire::to(&system).await;
        wire.send(&large).await;
        let answer = wire.receive_to_end().await;
        let refused = ["HTTP/1.1 431", "HTTP/1.1 414"];
        assert!(
            refused.iter().any(|with| answer.starts_with(with)),
            "{answer}"
        );
        assert!(says_close(&answer), "{answer}");
    }
    // The limit is 16 KiB.
    assert_eq!(headers_of(&system, 15_000).await, "HTTP/1.1 200");
    assert_eq!(headers_of(&system, 17_000).await, "HTTP/1.1 431");
}

/// The status of a request whose head has this many bytes more.
async fn headers_of(client: &Client, length: usize) -> String {
    let mut wire = Wire::to(client).await;
    let more = format!("x: {}\r\n\r\n", "y".repeat(length));
    wire.send(&LIVEZ.replace("\r\n\r\n", &format!("\r\n{more}")))
        .await;
    wire.receive().await[..12].to_owned()
}
