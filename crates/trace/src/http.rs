//! The HTTP client of the exporter.

use std::{env, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, hyper::HyperClient};
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_TIMEOUT, OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT,
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT,
};
use tokio::runtime::{self, Runtime};

/// Sends from a thread without an async runtime, such as the one of the SDK.
#[derive(Debug)]
pub(crate) struct Client {
    http: Box<dyn HttpClient>,
    runtime: Runtime,
}

impl Client {
    /// A client for URLs that begin with `https://`, or for others. TLS accepts the certificate authorities of the system, or
    /// those in `SSL_CERT_FILE`. Fails if there are none.
    pub(crate) fn new(with_tls: bool) -> anyhow::Result<Self> {
        let limit = limit();
        let http: Box<dyn HttpClient> = if with_tls {
            let connector = HttpsConnectorBuilder::new()
                .with_native_roots()
                .context("no certificate authority for the OTLP endpoint: set SSL_CERT_FILE")?
                .https_only()
                .enable_http1()
                .build();
            Box::new(HyperClient::new(connector, limit, None))
        } else {
            Box::new(HyperClient::new(HttpConnector::new(), limit, None))
        };
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the async runtime of the exporter")?;
        Ok(Self { http, runtime })
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.runtime.block_on(self.http.send_bytes(request))
    }
}

/// Time limit of a request. By the specification, a value that is no number counts as none.
fn limit() -> Duration {
    let setting = |name| env::var(name).ok()?.parse().ok();
    setting(OTEL_EXPORTER_OTLP_TRACES_TIMEOUT)
        .or_else(|| setting(OTEL_EXPORTER_OTLP_TIMEOUT))
        .map_or(OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT, Duration::from_millis)
}
