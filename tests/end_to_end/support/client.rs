//! A client of the API, with the verbs that tests use.

use std::{collections::BTreeSet, time::Duration};

use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::{PATIENCE, contract::Asked};

/// Talks to one API, as a shop's backend would.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    admin_token: Option<String>,
}

impl Client {
    /// `base` is scheme, host and port. Admin requests carry `admin_token`, if there is one.
    pub(crate) fn new(base: String, admin_token: Option<String>) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self {
            http,
            base,
            admin_token,
        }
    }

    /// A client that uses no connection again that was idle for this time.
    pub(crate) fn without_idle_connections(base: String, idle: Duration) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .pool_idle_timeout(idle)
            .build()
            .unwrap();
        Self {
            http,
            base,
            admin_token: None,
        }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// `127.0.0.1:port`, for raw connections.
    pub(crate) fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path)).await
    }

    /// POST without a body.
    pub(crate) async fn post(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::POST, path)).await
    }

    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Answer {
        Answer::to(self.request(Method::POST, path).json(body)).await
    }

    /// An admin request with a JSON body.
    pub(crate) async fn admin_json(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.as_admin(self.request(method, path).json(body)).await
    }

    /// POST of any bytes, declared as JSON.
    pub(crate) async fn post_raw(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        let request = self
            .request(Method::POST, path)
            .header("content-type", "application/json");
        Answer::to(request.body(body.into())).await
    }

    /// Sends an admin request, with the token if there is one.
    pub(crate) async fn as_admin(&self, request: RequestBuilder) -> Answer {
        Answer::to(match &self.admin_token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
        .await
    }

    /// Creates a product with this many units. Returns its id.
    pub(crate) async fn create_product(&self, stock: i32) -> i64 {
        let body = json!({"name": "iPhone 15", "stock": stock});
        let request = self.request(Method::POST, "/products").json(&body);
        id(&self.as_admin(request).await.expect(201))
    }

    pub(crate) async fn try_reserve(&self, product: i64, user: i64) -> Answer {
        let body = json!({"product_id": product, "user_id": user});
        self.post_json("/reservations", &body).await
    }

    pub(crate) async fn reserve(&self, product: i64, user: i64) -> Value {
        self.try_reserve(product, user).await.expect(201)
    }

    pub(crate) async fn try_confirm(&self, hold: &Value) -> Answer {
        self.post(&format!("/reservations/{}/confirm", id(hold)))
            .await
    }

    pub(crate) async fn confirm(&self, hold: &Value) -> Value {
        self.try_confirm(hold).await.expect(200)
    }

    pub(crate) async fn try_cancel(&self, hold: &Value) -> Answer {
        self.post(&format!("/reservations/{}/cancel", id(hold)))
            .await
    }

    pub(crate) async fn cancel(&self, hold: &Value) -> Value {
        self.try_cancel(hold).await.expect(200)
    }

    /// Reads the reservation again.
    pub(crate) async fn look_up(&self, hold: &Value) -> Value {
        self.look_up_id(id(hold)).await
    }

    pub(crate) async fn look_up_id(&self, id: i64) -> Value {
        self.get(&format!("/reservations/{id}")).await.expect(200)
    }

    pub(crate) async fn list(&self, query: &str) -> Vec<Value> {
        let listed = self
            .get(&format!("/reservations?{query}"))
            .await
            .expect(200);
        listed.as_array().unwrap().clone()
    }

    pub(crate) async fn product(&self, product: i64) -> Value {
        self.get(&format!("/products/{product}")).await.expect(200)
    }

    pub(crate) async fn stock(&self, product: i64) -> i64 {
        self.product(product).await["stock"].as_i64().unwrap()
    }

    /// Checks that the counters match the reservations, for every product.
    pub(crate) async fn assert_clean_audit(&self) {
        let audit = self
            .as_admin(self.request(Method::GET, "/admin/audit"))
            .await
            .expect(200);
        assert_eq!(audit["differences"], json!([]), "{audit}");
    }

    /// The value of one series in `/metrics`, given as `name{label="value"}`. 0 if it does not exist.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let metrics = self.get("/metrics").await;
        metrics
            .text
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .find(|(name, _)| *name == series)
            .map_or(0.0, |(_, value)| value.parse().unwrap())
    }
}

/// Reads a body. The body of an event stream never ends, so it is not read.
async fn text_of(response: reqwest::Response) -> String {
    let media_type = response.headers().get("content-type");
    if media_type.is_some_and(|given| given == "text/event-stream") {
        return String::new();
    }
    response.text().await.expect("an answer that broke off")
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// Sends a request. Any answer must match openapi.json.
    pub(crate) async fn to(request: RequestBuilder) -> Self {
        let (http, request) = request.build_split();
        let request = request.expect("no request");
        let asked = Asked::new(&request);
        let response = http.execute(request).await.expect("no answer");
        let answer = Self {
            status: response.status(),
            headers: response.headers().clone(),
            text: text_of(response).await,
        };
        asked.check(&answer);
        answer
    }

    /// A header's value. Empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text))
    }

    /// Checks the status. Returns the JSON body.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/json");
        self.json()
    }

    /// Checks that the answer is a complete problem with this status and code. Returns its body.
    #[track_caller]
    pub(crate) fn expect_problem(&self, status: u16, code: &str) -> Value {
        self.expect_problem_with(status, code, &[])
    }

    /// The same for a problem with more fields than its code requires.
    #[track_caller]
    pub(crate) fn expect_problem_with(&self, status: u16, code: &str, more: &[&str]) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        let mut fields = vec!["type", "title", "status", "detail", "code"];
        fields.extend(more);
        match code {
            "invalid_request" | "invalid_product" => fields.push("errors"),
            "already_reserved" | "waitlist_entry_offered" => fields.push("reservation_id"),
            "already_waiting" => fields.push("entry_id"),
            "sold_out" | "insufficient_stock" | "stock_changed" => fields.push("stock"),
            "max_per_user_reached" => fields.push("remaining"),
            "product_moved" => fields.push("cell"),
            _ => {}
        }
        assert_fields(&problem, &fields);
        assert_eq!(problem["status"], status);
        for field in ["type", "title", "detail"] {
            assert!(!text(&problem[field]).is_empty(), "{field}: {problem}");
        }
        let wanted = if status == 503 { "1" } else { "" };
        assert_eq!(self.header("retry-after"), wanted, "Retry-After");
        problem
    }
}

/// The fields of a dead letter.
pub(crate) const DEAD_LETTER_FIELDS: [&str; 7] = [
    "id",
    "event_id",
    "event_type",
    "payload",
    "attempts",
    "last_error",
    "dead_at",
];

pub(crate) fn id(of: &Value) -> i64 {
    of["id"].as_i64().unwrap()
}

#[track_caller]
pub(crate) fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not a string: {value}"))
}

/// Checks that an object has exactly these fields.
#[track_caller]
pub(crate) fn assert_fields(object: &Value, wanted: &[&str]) {
    let fields: BTreeSet<&str> = object
        .as_object()
        .unwrap_or_else(|| panic!("not an object: {object}"))
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(fields, wanted.iter().copied().collect(), "{object}");
}

/// Checks a time: RFC 3339 in UTC, with a Z.
#[track_caller]
pub(crate) fn assert_utc(value: &Value) -> OffsetDateTime {
    let written = text(value);
    assert!(written.ends_with('Z'), "{written} does not end in Z");
    let time = OffsetDateTime::parse(written, &Rfc3339).expect(written);
    assert_eq!(time.offset(), UtcOffset::UTC);
    time
}
