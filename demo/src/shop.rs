//! A shop's backend: it uses the API with raw JSON, and retries idempotent requests.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{HeaderValue, RETRY_AFTER},
};
use serde_json::Value;
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{journal::Journal, settings::Settings};

/// Maximum number of requests in flight. More would only wait in the API.
const REQUESTS_MAX: usize = 256;

/// How long the backend waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an API may take to be ready: it starts beside its database, for example.
const STARTING: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The audit reads every reservation.
const AUDIT_PATIENCE: Duration = Duration::from_secs(30);

/// Maximum number of attempts per request.
const ATTEMPTS: u32 = 6;

/// Pause between a lost attempt and the next one.
const PAUSE: Duration = Duration::from_millis(300);

pub(crate) struct Shop {
    http: reqwest::Client,
    base: String,
    admin_token: Option<String>,
    api_key: Option<String>,
    requests: Semaphore,
    journal: Arc<Journal>,
    stop: CancellationToken,
}

/// A request of a shopper.
pub(crate) struct Ask {
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    pub(crate) idempotency_key: Option<String>,
}

pub(crate) enum Answer {
    Done(Value),
    Refused {
        code: String,
        body: Value,
    },
    /// No answer, or an answer with an unknown outcome.
    Unknown,
}

/// The time is over: nothing more is sent.
#[derive(Debug)]
pub(crate) struct Stopped;

enum Attempt {
    Answered(Answer),
    RepeatAfter(Duration),
}

impl Shop {
    pub(crate) fn new(
        settings: &Settings,
        journal: Arc<Journal>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
        Ok(Self {
            http: http.build()?,
            base: settings.url.clone(),
            admin_token: settings.admin_token.clone(),
            api_key: settings.api_key.clone(),
            requests: Semaphore::new(REQUESTS_MAX),
            journal,
            stop,
        })
    }

    /// Checks that the API answers, is ready, and accepts the key. Waits for an API that is not ready yet. The error says
    /// what to do.
    pub(crate) async fn greet(&self) -> anyhow::Result<()> {
        let until = Instant::now() + STARTING;
        loop {
            let ready = self.http.get(format!("{}/readyz", self.base)).send().await;
            let Ok(ready) = ready else {
                bail!(
                    "nothing answers at {}: run 'make up' first, or say where the API is with FLASHSALE_URL",
                    self.base
                );
            };
            let status = ready.status();
            if status.is_success() {
                break;
            }
            ensure!(
                status == StatusCode::SERVICE_UNAVAILABLE && Instant::now() < until,
                "{}/readyz answers {status}: {}",
                self.base,
                ready.text().await?
            );
            sleep(LOOK_AGAIN).await;
        }
        self.get("/products?limit=1").await.map(drop)
    }

    /// An admin request.
    pub(crate) async fn create_product(&self, product: &Value) -> anyhow::Result<Value> {
        let request = self.http.post(format!("{}/products", self.base));
        told("POST /products", self.as_admin(request.json(product))).await
    }

    /// An admin request.
    pub(crate) async fn audit(&self) -> anyhow::Result<Value> {
        let request = self.http.get(format!("{}/admin/audit", self.base));
        let request = request.timeout(AUDIT_PATIENCE);
        told("GET /admin/audit", self.as_admin(request)).await
    }

    pub(crate) async fn product(&self, id: i64) -> anyhow::Result<Value> {
        self.get(&format!("/products/{id}")).await
    }

    /// Reads it. `None` without an answer.
    pub(crate) async fn read(&self, path: &str) -> Option<Value> {
        let _permit = self.requests.acquire().await;
        self.get(path).await.ok()
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = self.request(Method::GET, path);
        told(&format!("GET {path}"), request).await
    }

    /// A shopper opens the product's page. The result does not matter.
    pub(crate) async fn look_at(&self, product: i64) {
        let _ = self.read(&format!("/products/{product}")).await;
    }

    /// Retries until there is an answer, up to the maximum number of attempts.
    pub(crate) async fn ask(&self, ask: &Ask) -> Result<Answer, Stopped> {
        for _ in 0..ATTEMPTS {
            match self.attempt(ask).await? {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::RepeatAfter(pause) => self.pause(pause).await?,
            }
        }
        Ok(Answer::Unknown)
    }

    /// Sends it, and does not wait for the answer.
    pub(crate) async fn hang_up_on(&self, ask: &Ask, after: Duration) {
        // The request may be complete already. It is repeated in any case.
        let _ = timeout(after, self.attempt(ask)).await;
    }

    /// Waits, unless the time is over.
    pub(crate) async fn pause(&self, pause: Duration) -> Result<(), Stopped> {
        let passed = self.stop.run_until_cancelled(sleep(pause)).await;
        passed.ok_or(Stopped)
    }

    async fn attempt(&self, ask: &Ask) -> Result<Attempt, Stopped> {
        let mut request = self.request(Method::POST, &ask.path);
        if let Some(body) = &ask.body {
            request = request.json(body);
        }
        if let Some(key) = &ask.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        let _permit = self.requests.acquire().await;
        if self.stop.is_cancelled() {
            return Err(Stopped);
        }
        let began = Instant::now();
        let answer = match request.send().await {
            Ok(response) => read(response).await,
            Err(error) => Err(error),
        };
        let mut entries = self.journal.open();
        let Ok((head, body)) = answer else {
            entries.lost += 1;
            return Ok(Attempt::RepeatAfter(PAUSE));
        };
        if ask.path == "/reservations" {
            entries.reserve_times.push(began.elapsed());
        }
        entries.replayed += usize::from(head.replayed);
        let code = body["code"].as_str().unwrap_or_default();
        Ok(match head.status {
            200 | 201 => Attempt::Answered(Answer::Done(body)),
            409 if code == "idempotency_key_in_use" => Attempt::RepeatAfter(PAUSE),
            409 => {
                entries.refused(code);
                let code = code.to_owned();
                Attempt::Answered(Answer::Refused { code, body })
            }
            503 => {
                entries.refused(code);
                Attempt::RepeatAfter(head.retry_after)
            }
            status => {
                entries.strange(format!("POST {} answered {status}: {body}", ask.path));
                Attempt::Answered(Answer::Unknown)
            }
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        with_token(request, self.api_key.as_ref())
    }

    fn as_admin(&self, request: RequestBuilder) -> RequestBuilder {
        with_token(request, self.admin_token.as_ref())
    }
}

fn with_token(request: RequestBuilder, token: Option<&String>) -> RequestBuilder {
    match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

/// The answer to a request that the demo depends on, or the reason why there is none.
async fn told(what: &str, request: RequestBuilder) -> anyhow::Result<Value> {
    let response = request.send().await;
    let response = response.with_context(|| format!("no answer to {what}"))?;
    let (head, body) = read(response).await?;
    let detail = body["detail"].as_str().unwrap_or("not a flashsale API");
    match head.status {
        200 | 201 if !body.is_null() => Ok(body),
        401 | 403 => bail!(
            "the API refuses {what}: {detail}. Set ADMIN_TOKEN (and API_KEY, where it asks for keys) to its own"
        ),
        status => bail!("{what} answered {status}: {detail}"),
    }
}

struct Head {
    status: u16,
    retry_after: Duration,
    replayed: bool,
}

async fn read(response: Response) -> reqwest::Result<(Head, Value)> {
    let seconds = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
    let head = Head {
        status: response.status().as_u16(),
        retry_after: response
            .headers()
            .get(RETRY_AFTER)
            .and_then(seconds)
            .map_or(PAUSE, Duration::from_secs),
        replayed: response.headers().contains_key("Idempotency-Replayed"),
    };
    let text = response.text().await?;
    Ok((head, serde_json::from_str(&text).unwrap_or_default()))
}
