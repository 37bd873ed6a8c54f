//! The clients' HTTP requests and their answers: raw JSON, never the server's own types.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    access::Access,
    clock::now,
    history::{Act, Answer, Operation, Request},
    journal::Journal,
    parse::{entry, hold, product},
    sale::MAX_PER_USER,
};

/// Client timeout. Shorter than the service's own limits, so that some answers are lost on the way.
const PATIENCE: Duration = Duration::from_secs(2);

/// One client, with its own connections.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) number: usize,
    http: reqwest::Client,
    access: Arc<Access>,
    journal: Arc<Journal>,
}

impl Client {
    pub(crate) fn new(
        number: usize,
        access: Arc<Access>,
        journal: Arc<Journal>,
    ) -> anyhow::Result<Self> {
        Self::with_patience(PATIENCE, number, access, journal)
    }

    /// A client with another timeout.
    pub(crate) fn with_patience(
        patience: Duration,
        number: usize,
        access: Arc<Access>,
        journal: Arc<Journal>,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(patience)
            .build()?;
        Ok(Self {
            number,
            http,
            access,
            journal,
        })
    }

    /// Sends a request to one API, with or without an `Idempotency-Key`, and records the outcome.
    pub(crate) async fn ask(&self, api: usize, request: Request, key: Option<&str>) -> Answer {
        let (method, path) = route(&request);
        let url = format!("http://{}{path}", self.access.fronts[api]);
        let mut asked = self.access.authorize(self.http.request(method, url));
        if let Some(body) = body(&request) {
            asked = asked.json(&body);
        }
        if let Some(key) = key {
            asked = asked.header("idempotency-key", key);
        }
        let (began, mut replayed) = (now(), false);
        let answer = match asked.send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                replayed = response.headers().contains_key("idempotency-replayed");
                match response.text().await {
                    Ok(text) => understand(&request, status, &text),
                    Err(error) => Answer::Unknown(format!("half an answer: {error}")),
                }
            }
            Err(error) => Answer::Unknown(reason(&error)),
        };
        // Rounded up: the database's time may be within this microsecond.
        let ended = now() + 1;
        self.journal.operation(Operation {
            client: self.number,
            api,
            began,
            ended,
            request,
            key: key.map(str::to_owned),
            answer: answer.clone(),
            replayed,
        });
        answer
    }
}

fn reason(error: &reqwest::Error) -> String {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        reason = cause.to_string();
        source = cause.source();
    }
    reason
}

fn route(request: &Request) -> (Method, String) {
    let (get, post) = (Method::GET, Method::POST);
    match request {
        Request::Reserve { .. } => (post, "/reservations".to_owned()),
        Request::ReserveBatch { .. } => (post, "/reservations/batch".to_owned()),
        Request::Confirm(id) | Request::Reacquire(id) => {
            (post, format!("/reservations/{id}/confirm"))
        }
        Request::Cancel(id) => (post, format!("/reservations/{id}/cancel")),
        Request::Extend(id, _) => (post, format!("/reservations/{id}/extend")),
        Request::Return(id) => (post, format!("/reservations/{id}/return")),
        Request::Order(act, _) => {
            let verb = match act {
                Act::Confirm | Act::Reacquire => "confirm",
                Act::Cancel => "cancel",
                Act::Extend(_) => "extend",
            };
            (post, format!("/reservations/batch/{verb}"))
        }
        Request::Adjust { product, .. } => (post, format!("/products/{product}/stock")),
        Request::Join { product, .. } => (post, format!("/products/{product}/waitlist")),
        Request::Leave(id) => (post, format!("/waitlist/{id}/leave")),
        Request::GetEntry(id) => (get, format!("/waitlist/{id}")),
        Request::Get(id) => (get, format!("/reservations/{id}")),
        Request::ListOfUser(user) => (get, format!("/reservations?user_id={user}&limit=100")),
        Request::Product(id) => (get, format!("/products/{id}")),
        Request::CreateProduct(..) => (post, "/products".to_owned()),
        Request::ChangeProduct { product, .. } => (Method::PATCH, format!("/products/{product}")),
        Request::SyncExpired => (post, "/admin/reservations/sync-expired".to_owned()),
        Request::Audit => (get, "/admin/audit".to_owned()),
    }
}

fn body(request: &Request) -> Option<Value> {
    Some(match request {
        Request::Reserve {
            product,
            user,
            quantity,
            reference,
        } => json!({
            "product_id": product, "user_id": user, "quantity": quantity, "reference": reference,
        }),
        Request::ReserveBatch {
            user,
            items,
            reference,
        } => {
            let item = |(product, quantity)| json!({"product_id": product, "quantity": quantity});
            let items: Vec<Value> = items.iter().copied().map(item).collect();
            json!({"user_id": user, "items": items, "reference": reference})
        }
        Request::Extend(_, seconds) => json!({"seconds": seconds}),
        Request::Reacquire(_) => json!({"reacquire": true}),
        Request::Order(Act::Confirm | Act::Cancel, ids) => json!({"ids": ids}),
        Request::Order(Act::Extend(seconds), ids) => json!({"ids": ids, "seconds": seconds}),
        Request::Order(Act::Reacquire, ids) => json!({"ids": ids, "reacquire": true}),
        Request::Adjust { delta, reason, .. } => json!({"delta": delta, "reason": reason}),
        Request::Join {
            user,
            quantity,
            reference,
            ..
        } => json!({"user_id": user, "quantity": quantity, "reference": reference}),
        Request::CreateProduct(name, units) => {
            json!({"name": name, "stock": units, "max_per_user": MAX_PER_USER})
        }
        Request::ChangeProduct {
            hold_seconds,
            max_per_user,
            ..
        } => {
            let rules = [
                ("hold_seconds", hold_seconds),
                ("max_per_user", max_per_user),
            ];
            let given = rules
                .into_iter()
                .filter_map(|(name, value)| Some((name, (*value)?)));
            json!(given.collect::<BTreeMap<&str, i64>>())
        }
        _ => return None,
    })
}

fn understand(request: &Request, status: u16, text: &str) -> Answer {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let understood = match (request, status) {
        (Request::Reserve { .. }, 201)
        | (
            Request::Confirm(_)
            | Request::Cancel(_)
            | Request::Extend(..)
            | Request::Reacquire(_)
            | Request::Return(_)
            | Request::Get(_),
            200,
        ) => hold(&body).map(Answer::Hold),
        (Request::ListOfUser(_) | Request::Order(..), 200)
        | (Request::ReserveBatch { .. }, 201) => body
            .as_array()
            .and_then(|holds| holds.iter().map(hold).collect())
            .map(Answer::Holds),
        (Request::Product(_) | Request::Adjust { .. } | Request::ChangeProduct { .. }, 200)
        | (Request::CreateProduct(..), 201) => product(&body).map(Answer::Product),
        (Request::Join { .. }, 201) | (Request::Leave(_) | Request::GetEntry(_), 200) => {
            entry(&body).map(Answer::Entry)
        }
        (Request::SyncExpired, 200) => body["expired"].as_u64().map(|_| Answer::Done),
        (Request::Audit, 200) => body["clean"].as_bool().map(|clean| Answer::Audit {
            clean,
            text: if clean {
                String::new()
            } else {
                text.to_owned()
            },
        }),
        (_, 409) if body["code"] == "idempotency_key_in_use" => Some(Answer::InUse),
        (_, 404 | 409) => body["code"].as_str().map(|code| Answer::Refused {
            code: code.to_owned(),
            standing: body["reservation_id"]
                .as_i64()
                .or(body["entry_id"].as_i64()),
            product: body["product_id"].as_i64(),
        }),
        (_, 503) if body["code"] == "overloaded" => Some(Answer::Overloaded),
        (_, 503) if body["code"] == "outcome_unknown" => {
            Some(Answer::Unknown("outcome_unknown".to_owned()))
        }
        _ => None,
    };
    understood.unwrap_or_else(|| Answer::Strange(format!("{status} {text}")))
}
