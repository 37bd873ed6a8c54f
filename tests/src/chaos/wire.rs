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
    sale::{MAX_PER_USER, UNITS},
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
        let (method, path, body) = on_the_wire(&request);
        let url = format!("http://{}{path}", self.access.fronts[api]);
        let mut asked = self.access.authorize(self.http.request(method, url));
        if let Some(body) = body {
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

fn on_the_wire(request: &Request) -> (Method, String, Option<Value>) {
    let (get, post) = (Method::GET, Method::POST);
    match request {
        Request::Reserve {
            product,
            user,
            quantity,
            reference,
        } => {
            let body = json!({
                "product_id": product, "user_id": user, "quantity": quantity, "reference": reference,
            });
            (post, "/reservations".to_owned(), Some(body))
        }
        Request::ReserveBatch {
            user,
            items,
            reference,
        } => {
            let item = |(product, quantity): &(i64, i64)| json!({"product_id": product, "quantity": quantity});
            let items: Vec<Value> = items.iter().map(item).collect();
            let body = json!({"user_id": user, "items": items, "reference": reference});
            (post, "/reservations/batch".to_owned(), Some(body))
        }
        Request::Extend(id, seconds) => {
            let body = json!({"seconds": seconds});
            (post, format!("/reservations/{id}/extend"), Some(body))
        }
        Request::Reacquire(id) => {
            let body = json!({"reacquire": true});
            (post, format!("/reservations/{id}/confirm"), Some(body))
        }
        Request::Return(id) => (post, format!("/reservations/{id}/return"), None),
        Request::Order(act, ids) => {
            let (verb, body) = match act {
                Act::Confirm => ("confirm", json!({"ids": ids})),
                Act::Cancel => ("cancel", json!({"ids": ids})),
                Act::Extend(seconds) => ("extend", json!({"ids": ids, "seconds": seconds})),
                Act::Reacquire => ("confirm", json!({"ids": ids, "reacquire": true})),
            };
            (post, format!("/reservations/batch/{verb}"), Some(body))
        }
        Request::Adjust {
            product,
            delta,
            reason,
        } => {
            let body = json!({"delta": delta, "reason": reason});
            (post, format!("/products/{product}/stock"), Some(body))
        }
        Request::Confirm(id) => (post, format!("/reservations/{id}/confirm"), None),
        Request::Cancel(id) => (post, format!("/reservations/{id}/cancel"), None),
        Request::Join {
            product,
            user,
            quantity,
            reference,
        } => {
            let body = json!({"user_id": user, "quantity": quantity, "reference": reference});
            (post, format!("/products/{product}/waitlist"), Some(body))
        }
        Request::Leave(id) => (post, format!("/waitlist/{id}/leave"), None),
        Request::GetEntry(id) => (get, format!("/waitlist/{id}"), None),
        Request::Get(id) => (get, format!("/reservations/{id}"), None),
        Request::ListOfUser(user) => (get, format!("/reservations?user_id={user}&limit=100"), None),
        Request::Product(id) => (get, format!("/products/{id}"), None),
        Request::CreateProduct(name) => {
            let body = json!({"name": name, "stock": UNITS, "max_per_user": MAX_PER_USER});
            (post, "/products".to_owned(), Some(body))
        }
        Request::ChangeProduct {
            product,
            hold_seconds,
            max_per_user,
        } => {
            let rules = [
                ("hold_seconds", hold_seconds),
                ("max_per_user", max_per_user),
            ];
            let rules = rules
                .into_iter()
                .filter_map(|(name, value)| Some((name, (*value)?)));
            let body: BTreeMap<&str, i64> = rules.collect();
            (
                Method::PATCH,
                format!("/products/{product}"),
                Some(json!(body)),
            )
        }
        Request::SyncExpired => (post, "/admin/reservations/sync-expired".to_owned(), None),
        Request::Audit => (get, "/admin/audit".to_owned(), None),
    }
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
        | (Request::CreateProduct(_), 201) => product(&body).map(Answer::Product),
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
