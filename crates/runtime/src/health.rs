//! `/livez`, `/readyz`, `/health` and `/metrics`, the same on every process.

use std::{collections::BTreeMap, fmt::Write as _, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Registry, TextEncoder};

/// A probe slower than this counts as failed: orchestrators ask every few seconds.
const CHECK_LIMIT: Duration = Duration::from_secs(2);

type Check = Box<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// The dependencies of a process, each with a question that tells whether it is up.
#[derive(Default)]
pub struct Health {
    checks: BTreeMap<&'static str, (Need, Check)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Need {
    /// Without it the process can do nothing: not ready.
    Required,
    /// Without it the process is slower or waits: still ready.
    Optional,
}

impl Health {
    #[must_use]
    pub fn required<F, Fut>(self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        self.with(name, Need::Required, check)
    }

    #[must_use]
    pub fn optional<F, Fut>(self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        self.with(name, Need::Optional, check)
    }

    fn with<F, Fut>(mut self, name: &'static str, need: Need, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        self.checks
            .insert(name, (need, Box::new(move || Box::pin(check()))));
        self
    }

    /// The four routes, for merging into a process's own router.
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
    let mut ready = true;
    let mut states = String::new();
    for (name, (need, check)) in &health.checks {
        let up = tokio::time::timeout(CHECK_LIMIT, check())
            .await
            .unwrap_or(false);
        ready &= up || *need == Need::Optional;
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
    json(
        code,
        format!(r#"{{"status":"{status}","dependencies":{{{states}}}}}"#),
    )
}

async fn metrics(State(registry): State<Registry>) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot render metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn json(status: StatusCode, body: impl Into<String>) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        body.into(),
    )
        .into_response()
}
