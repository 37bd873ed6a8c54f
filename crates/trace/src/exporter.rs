//! Exports spans to a collector by OTLP over HTTP. All settings are OpenTelemetry's own environment variables, which
//! its SDK reads.

use std::{
    env,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{anyhow, ensure};
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, Protocol,
    WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracer, SdkTracerProvider, SpanData, SpanExporter},
};

use crate::http::Client;

/// Maximum wait for the collector at the end of the process. Spans that it has not accepted by then are lost.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

pub(crate) fn tracer() -> Option<&'static SdkTracer> {
    TRACER.get()
}

/// Sends ended spans from a bounded queue to the collector, in a thread of its own. When the queue is full, spans are
/// dropped. Without an endpoint in the environment, nothing is exported.
pub struct Exporter(Option<SdkTracerProvider>);

impl Exporter {
    /// Starts the exporter. `service` is the service name unless the environment has another. Fails if an
    /// OpenTelemetry setting is invalid.
    pub fn start(service: &'static str) -> anyhow::Result<Self> {
        let setting = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = setting(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
            .or_else(|| setting(OTEL_EXPORTER_OTLP_ENDPOINT));
        let is =
            |name, word: &str| setting(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
        let disabled = is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none");
        let Some(endpoint) = endpoint.filter(|_| !disabled) else {
            return Ok(Self(None));
        };
        let with_tls = endpoint.starts_with("https://");
        ensure!(
            with_tls || endpoint.starts_with("http://"),
            "the OTLP endpoint must begin with http:// or https://"
        );
        // The HTTP client would log credentials in the URL, at level trace.
        ensure!(
            !endpoint.contains('@'),
            "credentials belong in OTEL_EXPORTER_OTLP_HEADERS, not in the OTLP endpoint"
        );
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Client::new(with_tls)?)
            .build()
            // The SDK's message could contain the URL and its password.
            .map_err(|_| anyhow!("an OTEL_EXPORTER_OTLP_ setting is not valid"))?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Watched {
                exporter,
                failing: AtomicBool::new(false),
            })
            .with_resource(resource(service))
            .build();
        let _ = TRACER.set(provider.tracer("flashsale"));
        Ok(Self(Some(provider)))
    }

    /// Exports the remaining spans.
    pub fn stop(self) {
        if let Some(Err(error)) = self
            .0
            .map(|provider| provider.shutdown_with_timeout(FLUSH_LIMIT))
        {
            tracing::warn!(%error, "the last spans could not be exported");
        }
    }
}

fn resource(service: &'static str) -> Resource {
    let named = Resource::builder();
    let found = Resource::builder().build().get(&"service.name".into());
    // The SDK's default name when the environment has none.
    let unnamed = found.is_none_or(|name| name.as_str().starts_with("unknown_service"));
    let named = if unnamed {
        named.with_service_name(service)
    } else {
        named
    };
    named
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Logs once when the collector cannot be reached, and once when it is back.
#[derive(Debug)]
struct Watched {
    exporter: opentelemetry_otlp::SpanExporter,
    failing: AtomicBool,
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exported = self.exporter.export(batch).await;
        let failed_before = self.failing.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Err(error) if !failed_before => {
                tracing::warn!(%error, "spans cannot be exported, and are dropped");
            }
            Ok(()) if failed_before => tracing::info!("spans are exported again"),
            _ => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
