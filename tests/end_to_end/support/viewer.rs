//! A viewer of the live page's stream.

use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{Client, OPENAPI, PATIENCE};

/// Reads `/admin/live`.
pub(crate) struct Viewer {
    response: Response,
    received: String,
}

/// One event as received.
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) text: String,
    pub(crate) data: Value,
}

impl Viewer {
    pub(crate) async fn of(client: &Client) -> Self {
        Self::by(client.request(Method::GET, "/admin/live")).await
    }

    /// Connects as a page that has lost its connection.
    pub(crate) async fn after(client: &Client, id: &str) -> Self {
        let request = client.request(Method::GET, "/admin/live");
        Self::by(request.header("last-event-id", id)).await
    }

    async fn by(request: RequestBuilder) -> Self {
        // The caller sets the time limit; see `until`.
        let response = request.timeout(3 * PATIENCE).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let media_type = response.headers()["content-type"].clone();
        assert_eq!(media_type, "text/event-stream");
        Self {
            response,
            received: String::new(),
        }
    }

    /// The next event. `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.received.split_once("\n\n") {
                let event = parse(event);
                self.received = rest.to_owned();
                return Some(event);
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.received += str::from_utf8(&chunk).unwrap();
        }
    }

    /// Reads until an event's data satisfies the condition. Returns the data.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut last = Value::Null;
        loop {
            let next = timeout_at(deadline, self.next()).await;
            let event =
                next.unwrap_or_else(|_| panic!("this was never seen: {what}; last: {last}"));
            last = event.expect("the stream has ended").data;
            if wanted(&last) {
                return last;
            }
        }
    }
}

fn parse(event: &str) -> Event {
    let line = |name: &str| {
        let mut lines = event.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value
            .unwrap_or_else(|| panic!("no {name}: {event}"))
            .to_owned()
    };
    let data: Value = serde_json::from_str(&line("data")).unwrap();
    if let Err(reason) = OPENAPI.check("/components/schemas/Live", &data) {
        panic!("not as docs/openapi.json says: {reason}: {data}");
    }
    Event {
        id: line("id"),
        kind: line("event"),
        text: event.to_owned(),
        data,
    }
}

/// The codes of the alerts.
pub(crate) fn alerts(view: &Value) -> Vec<&str> {
    let alerts = view["alerts"].as_array().unwrap().iter();
    alerts
        .map(|alert| alert["code"].as_str().unwrap())
        .collect()
}

/// One object of a list.
pub(crate) fn find<'a>(list: &'a Value, field: &str, value: impl Into<Value>) -> Option<&'a Value> {
    let value = value.into();
    list.as_array()
        .unwrap()
        .iter()
        .find(|object| object[field] == value)
}
