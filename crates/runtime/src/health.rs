//! `/livez`, `/readyz`, `/health` and `/metrics`, the same in every process.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write as _},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::FutureExt as _;
use prometheus::{Registry, TextEncoder};
use tokio_util::sync::CancellationToken;

use crate::Process;

/// A check that takes longer counts as failed: orchestrators probe every few seconds.
const CHECK_LIMIT: Duration = Duration::from_secs(2);

type Check = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Reached> + Send>> + Send + Sync>;

/// Whether a dependency is up, with warnings about it, or the reason why not.
type Reached = Result<Vec<&'static str>, String>;

/// The dependencies of a process, each with its check.
pub struct Health {
    draining: CancellationToken,
    checks: BTreeMap<&'static str, (Need, Check)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Need {
    /// Without it the process cannot work: not ready.
    Required,
    /// Without it the process is slower or waits: still ready.
    Optional,
}

impl Health {
    /// The health of a process without dependencies. It is ready until it drains.
    pub fn of(process: &Process) -> Self {
        Self {
            draining: process.draining.clone(),
            checks: BTreeMap::new(),
        }
    }

    /// Adds a dependency that the process cannot work without. Each check gets a clone of `client`. A successful check
    /// returns warnings for people.
    #[must_use]
    pub fn required<C, F, Fut, E>(self, name: &'static str, client: C, check: F) -> Self
    where
        C: Clone + Send + Sync + 'static,
        F: Fn(C) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<&'static str>, E>> + Send + 'static,
        E: Display,
    {
        self.with(name, Need::Required, move || {
            check(client.clone()).map(|state| state.map_err(|reason| reason.to_string()))
        })
    }

    /// Adds a dependency that the process can work without. Each check gets a clone of `client`.
    #[must_use]
    pub fn optional<C, F, Fut>(self, name: &'static str, client: C, check: F) -> Self
    where
        C: Clone + Send + Sync + 'static,
        F: Fn(C) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        self.with(name, Need::Optional, move || {
            check(client.clone()).map(|up| {
                if up {
                    Ok(Vec::new())
                } else {
                    Err(String::new())
                }
            })
        })
    }

    fn with<F, Fut>(mut self, name: &'static str, need: Need, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reached> + Send + 'static,
    {
        self.checks
            .insert(name, (need, Box::new(move || Box::pin(check()))));
        self
    }

    /// The four routes, to be merged into the process's own router.
    pub fn router<S: Clone + Send + Sync + 'static>(self, registry: Registry) -> Router<S> {
        let health = Arc::new(self);
        let probes = Router::new()
            .route(
                "/livez",
                get(|| async { json(StatusCode::OK, r#"{"status":"alive"}"#) }),
            )
            .route("/readyz", get(ready))
            .route("/health", get(ready))
            .with_state(health);
        let metrics = Router::new()
            .route("/metrics", get(metrics))
            .with_state(registry);
        probes.merge(metrics)
    }
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    let mut ready = !health.draining.is_cancelled();
    let mut reason = (!ready).then(|| "the process is shutting down".to_owned());
    let mut states = String::new();
    let mut warnings = Vec::new();
    for (name, (need, check)) in &health.checks {
        let state = tokio::time::timeout(CHECK_LIMIT, check())
            .await
            .unwrap_or_else(|_| Err(format!("{name} does not answer")));
        let up = state.is_ok();
        match state {
            Ok(warned) => warnings.extend(warned),
            Err(why) if *need == Need::Required => {
                ready = false;
                reason.get_or_insert(why);
            }
            Err(_) => {}
        }
        let comma = if states.is_empty() { "" } else { "," };
        let state = if up { "up" } else { "down" };
        // Writing into a String cannot fail, and the names need no escaping.
        let _ = write!(states, r#"{comma}"{name}":"{state}""#);
    }
    let (code, status) = if ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    let reason = reason.map_or_else(String::new, |reason| {
        format!(r#""reason":{},"#, serde_json::Value::from(reason))
    });
    let warnings = match warnings.is_empty() {
        true => String::new(),
        false => format!(r#","warnings":{}"#, serde_json::Value::from(warnings)),
    };
    json(
        code,
        format!(r#"{{"status":"{status}",{reason}"dependencies":{{{states}}}{warnings}}}"#),
    )
}

async fn metrics(State(registry): State<Registry>) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => answer(StatusCode::OK, prometheus::TEXT_FORMAT, text),
        Err(error) => {
            tracing::error!(%error, "cannot render metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn json(status: StatusCode, body: impl Into<String>) -> Response {
    answer(status, "application/json", body.into())
}

fn answer(status: StatusCode, media_type: &'static str, body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, media_type),
        // The state of this moment.
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, body).into_response()
}
