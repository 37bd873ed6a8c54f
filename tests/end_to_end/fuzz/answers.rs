//! Parses and checks the answers.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
};

use proptest::{prop_assert, prop_assert_eq, test_runner::TestCaseError};
use serde_json::Value;

use super::requests::Request;
use crate::support::{OPENAPI, PATIENCE};

/// Whether openapi.json allows this problem code with this status, except 5xx.
fn is_known(code: &str, status: u16) -> bool {
    let problem = &OPENAPI.document["components"]["examples"][code]["value"];
    status < 500 && problem["code"] == code && problem["status"] == status
}

/// One answer.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// Sends a request on a new connection, and reads until the server closes it.
pub(super) fn ask(address: &str, request: &Request) -> Result<Vec<Received>, TestCaseError> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // A server that refuses a request need not read all of it. Then sending may fail, or the answer may be lost.
    let sent = stream.write_all(&request.bytes());
    if request.breaks_off() {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes);
    if let Err(error) = &ended {
        let reset = matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        );
        prop_assert!(reset, "the connection stays open: {error}");
    }
    let received = parse(&bytes, request.method == "HEAD");
    let read_whole = sent.is_ok() && ended.is_ok();
    if request.is_http() && read_whole {
        prop_assert_eq!(received.len(), 1, "{}", bytes.escape_ascii());
    }
    Ok(received)
}

/// All complete answers, except 100 Continue.
fn parse(mut bytes: &[u8], to_head: bool) -> Vec<Received> {
    let mut received = Vec::new();
    while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 4..];
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Received {
            status: status.unwrap_or(999),
            headers,
            body: String::new(),
        };
        if answer.status < 200 {
            continue;
        }
        let length = answer.header("content-length").unwrap_or("0").parse();
        let length = if to_head { 0 } else { length.unwrap_or(0) };
        let body = &bytes[..bytes.len().min(length)];
        answer.body = String::from_utf8_lossy(body).into_owned();
        bytes = &bytes[body.len()..];
        received.push(answer);
    }
    received
}

impl Received {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The number of reservations of a batch, which has no `Location`.
    pub(super) fn batch_size(&self) -> i64 {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let made = body.as_array();
        match (self.status, self.header("location")) {
            (201, None) => made.map_or(0, |made| made.len() as i64),
            _ => 0,
        }
    }

    /// Never a server error, and each refusal is a problem document.
    pub(super) fn check(&self, request: &Request) -> Result<(), TestCaseError> {
        prop_assert!((200..500).contains(&self.status), "{self:?}");
        prop_assert!(
            !(300..400).contains(&self.status) || self.status == 304,
            "{self:?}"
        );
        for leak in [
            "sqlx",
            "postgres",
            "panicked",
            "SELECT",
            "constraint",
            "/src/",
        ] {
            prop_assert!(!self.body.contains(leak) || self.status == 200, "{self:?}");
        }
        if self.status < 400 || request.method == "HEAD" {
            return Ok(());
        }
        if self.body.is_empty() && !request.is_http() {
            // Requests that are not valid HTTP do not reach the routes.
            let of_http = [400, 414, 431].contains(&self.status);
            prop_assert!(of_http, "{self:?}");
            return Ok(());
        }
        let media_type = self.header("content-type");
        prop_assert_eq!(media_type, Some("application/problem+json"), "{:?}", self);
        let problem: Value = serde_json::from_str(&self.body)
            .map_err(|error| TestCaseError::fail(format!("{error}: {self:?}")))?;
        let code = problem["code"].as_str().unwrap_or_default();
        prop_assert!(is_known(code, self.status), "{self:?}");
        prop_assert_eq!(problem["status"].as_u64(), Some(self.status.into()));
        for field in ["type", "title", "detail"] {
            let text = problem[field].as_str().unwrap_or_default();
            prop_assert!(!text.is_empty(), "{field}: {self:?}");
        }
        Ok(())
    }
}
