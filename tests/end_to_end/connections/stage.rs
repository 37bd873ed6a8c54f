//! Requests as text, and a connection that serves several of them.

use crate::support::{Client, Wire};

pub(super) const LIVEZ: &str = "GET /livez HTTP/1.1\r\nhost: api\r\n\r\n";

/// A connection that has already served a request.
pub(super) async fn used(client: &Client) -> Wire {
    let mut wire = Wire::to(client).await;
    wire.send(LIVEZ).await;
    let answer = wire.receive().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    wire
}

/// The head of a POST with a body of this many bytes.
pub(super) fn head(path: &str, headers: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: api\r\n{headers}content-length: {length}\r\n\r\n")
}

pub(super) const JSON: &str = "content-type: application/json\r\n";

/// Whether an answer says that the connection ends with it.
pub(super) fn says_close(answer: &str) -> bool {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    head.to_lowercase().contains("\r\nconnection: close")
}
