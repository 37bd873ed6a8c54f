//! A collector of traces that tests can read.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{self, span::SpanKind},
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::tls::TlsListener;

/// A span, as in the protocol.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) service: Value,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    /// The ids of the trace and the span.
    pub(crate) id: (String, String),
    /// Empty for the root of a trace.
    pub(crate) parent: String,
    /// The ids of the linked traces and spans.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) attributes: BTreeMap<String, Value>,
    /// Why it failed, if it did.
    pub(crate) error: Option<String>,
    /// Start and end, in nanoseconds since 1970.
    pub(crate) time: (u64, u64),
}

/// Stops at the end of the test, not when it is dropped.
pub(crate) struct Collector {
    pub(crate) endpoint: String,
    spans: Spans,
}

type Spans = Arc<Mutex<Vec<Span>>>;

impl Collector {
    pub(crate) async fn start() -> Self {
        Self::on("127.0.0.1:0").await
    }

    pub(crate) async fn on(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let spans = Spans::default();
        let router = router(&spans);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            endpoint: format!("http://{address}"),
            spans,
        }
    }

    /// Takes only TLS.
    pub(super) async fn over_tls(acceptor: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let spans = Spans::default();
        let router = router(&spans);
        let listener = TlsListener { listener, acceptor };
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            endpoint: format!("https://{address}"),
            spans,
        }
    }

    /// All received spans, in the order in which they ended.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }
}

fn router(spans: &Spans) -> Router {
    let router = Router::new().route("/v1/traces", post(take));
    router.with_state(spans.clone())
}

async fn take(State(spans): State<Spans>, headers: HeaderMap, body: Bytes) -> Vec<u8> {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).expect("no OTLP");
    for group in request.resource_spans {
        let resource = attributes(&group.resource.unwrap().attributes);
        let found = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
        let found = found.map(|span| read(&resource["service.name"], &span));
        spans.lock().unwrap().extend(found);
    }
    ExportTraceServiceResponse::default().encode_to_vec()
}

fn read(service: &Value, span: &v1::Span) -> Span {
    let id = |trace: &[u8], span: &[u8]| (hex(trace), hex(span));
    let links = span.links.iter();
    let status = span.status.as_ref();
    let failed = status.filter(|status| status.code == v1::status::StatusCode::Error as i32);
    Span {
        service: service.clone(),
        name: span.name.clone(),
        kind: span.kind(),
        id: id(&span.trace_id, &span.span_id),
        parent: hex(&span.parent_span_id),
        links: links
            .map(|link| id(&link.trace_id, &link.span_id))
            .collect(),
        attributes: attributes(&span.attributes),
        error: failed.map(|status| status.message.clone()),
        time: (span.start_time_unix_nano, span.end_time_unix_nano),
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, Value> {
    let value = |value: &Option<AnyValue>| match value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::IntValue(number)) => json!(number),
        other => panic!("an attribute of another kind: {other:?}"),
    };
    let pairs = pairs.iter();
    pairs
        .map(|pair| (pair.key.clone(), value(&pair.value)))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
