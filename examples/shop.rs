//! A shop's backend: it holds units for a user, waits for the payment, and confirms.
//!
//! Usage: cargo run -p flashsale-demo --example shop -- PRODUCT USER [QUANTITY]
//! FLASHSALE_URL is the address of the API, FLASHSALE_API_KEY its key, if it wants one. Pressing Enter stands for the
//! message of the payment provider.

use std::{env, time::Duration};

use anyhow::{Context as _, bail};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// An answer usually takes milliseconds. Without one after this time, it counts as lost.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A user waits no longer for a reserve. A payment that is not confirmed by then must be tried again later.
const GIVE_UP: Duration = Duration::from_secs(60);

/// The decision of the service: the reservation, or the problem of a refusal. A retry would get the same one.
type Decision = Result<Value, Value>;

struct Service {
    client: Client,
    address: String,
    api_key: Option<String>,
}

impl Service {
    /// Sends a request until it has an answer. The key makes repeats safe: a repeat gets the first answer again. An
    /// error says that nobody knows whether the request was done.
    async fn post(&self, path: &str, body: &Value, key: &str) -> anyhow::Result<Decision> {
        let give_up = Instant::now() + GIVE_UP;
        let mut pause = Duration::from_millis(100);
        loop {
            let (reason, wanted) = match self.send(path, body, key).await {
                Ok(Answer::Decision(decision)) => return Ok(decision),
                Ok(Answer::Later(code, retry_after)) => (code, pause.max(retry_after)),
                Err(error) => (format!("no answer: {error:#}"), pause),
            };
            if Instant::now() + wanted > give_up {
                bail!(reason);
            }
            eprintln!("trying again: {reason}");
            // At random, so that the clients of an overloaded service do not all come back at the same moment.
            sleep(wanted.mul_f64(1.0 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    async fn send(&self, path: &str, body: &Value, key: &str) -> anyhow::Result<Answer> {
        let request = self.client.post(format!("{}{path}", self.address));
        let mut request = request.json(body).header("Idempotency-Key", key);
        if let Some(api_key) = &self.api_key {
            request = request.bearer_auth(api_key);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let retry_after = answer.headers().get("retry-after");
        let retry_after = retry_after.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        let text = answer.text().await?;
        if status.is_success() {
            return Ok(Answer::Decision(Ok(serde_json::from_str(&text)?)));
        }
        // A proxy's answer may be no Problem.
        let problem = serde_json::from_str(&text)
            .unwrap_or_else(|_| json!({ "code": format!("http_{}", status.as_u16()) }));
        let code = problem["code"].as_str().unwrap_or_default();
        let later = Duration::from_secs(retry_after.unwrap_or(0));
        match may_be_repeated(status, code) {
            true => Ok(Answer::Later(code.to_owned(), later)),
            false => Ok(Answer::Decision(Err(problem))),
        }
    }

    /// Holds units for an order. `order` is stored before the first request, and so is the key that is made of it.
    async fn reserve(
        &self,
        product: u64,
        user: u64,
        quantity: u32,
        order: &str,
    ) -> anyhow::Result<Decision> {
        let body = json!({ "product_id": product, "user_id": user, "quantity": quantity, "reference": order });
        let key = format!("reserve-{order}");
        Ok(match self.post("/reservations", &body, &key).await? {
            // The user has another order that still holds this product: continue with that hold.
            Err(problem) if problem["code"] == "already_reserved" => {
                Ok(json!({ "id": problem["reservation_id"] }))
            }
            decision => decision,
        })
    }

    /// Sells the units after the user has paid. If the deadline has passed, the units are taken again if any are free.
    async fn confirm(&self, reservation: &Value, order: &str) -> anyhow::Result<Decision> {
        let path = format!("/reservations/{}/confirm", reservation["id"]);
        let key = format!("confirm-{order}");
        self.post(&path, &json!({ "reacquire": true }), &key).await
    }
}

enum Answer {
    Decision(Decision),
    /// The problem's code, and the time after which a retry may help.
    Later(String, Duration),
}

fn may_be_repeated(status: StatusCode, code: &str) -> bool {
    // 503 says that the service is overloaded, or that the outcome is unknown. A proxy answers 502 or 504.
    matches!(status.as_u16(), 408 | 500 | 502 | 503 | 504) || code == "idempotency_key_in_use"
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let product = arguments.next().context("PRODUCT is missing")?.parse()?;
    let user = arguments.next().context("USER is missing")?.parse()?;
    let quantity = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let service = Service {
        client: Client::builder().timeout(TIMEOUT).build()?,
        address: env::var("FLASHSALE_URL").unwrap_or_else(|_| "http://127.0.0.1:8080".to_owned()),
        api_key: env::var("FLASHSALE_API_KEY").ok(),
    };
    let order = format!("{:032x}", fastrand::u128(..));
    let held = match service.reserve(product, user, quantity, &order).await? {
        Ok(held) => held,
        Err(problem) => {
            // For example sold_out, sale_not_open or max_per_user_reached: tell the user.
            println!("refused {}", problem["code"].as_str().unwrap_or_default());
            return Ok(());
        }
    };
    println!("held {}", held["id"]);
    std::io::stdin().read_line(&mut String::new())?;
    match service.confirm(&held, &order).await? {
        // A late payment sells the units under a new id.
        Ok(sold) => println!("sold {}", sold["id"]),
        // The payment came too late, and the units are gone. Also if the user has canceled meanwhile.
        Err(problem) => println!("refund {}", problem["code"].as_str().unwrap_or_default()),
    }
    Ok(())
}
