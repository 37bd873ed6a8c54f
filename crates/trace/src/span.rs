//! Spans with the feature `otel`.

use std::fmt;

use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{
        FutureExt as _, Link, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _,
    },
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use crate::{
    exporter,
    subject::{Answer, Publishing},
};

/// `None`: not sampled, or not exported. Then its child spans do not exist either.
#[derive(Clone)]
pub struct Span(Option<Context>);

impl fmt::Debug for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Span")
            .field(&self.traceparent())
            .finish()
    }
}

impl Span {
    /// The span of a request. Continues the trace of a valid `traceparent` header and follows its sampling decision
    /// (or `OTEL_TRACES_SAMPLER`).
    pub fn of_request<'a>(path: &str, header: impl Fn(&'static str) -> Option<&'a str>) -> Self {
        if exporter::tracer().is_none() {
            return Self(None);
        }
        // The final name is set with the route. TLS ends before the service.
        let span = SpanBuilder::from_name("request")
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("url.path", path.to_owned()),
                KeyValue::new("url.scheme", "http"),
            ]);
        Self::start(span, &Headers::read(header).context())
    }

    /// The span of one batched call for these requests. It is linked with each request in both directions.
    ///
    /// It is a child of the first sampled request, not the root of a trace. So it is sampled exactly if one of the
    /// requests is, with any sampler. A request that was alone in its batch shows the call in its own trace.
    pub fn of_batch(verb: &'static str, requests: &[Self]) -> Self {
        let sampled = || requests.iter().filter_map(|request| request.0.as_ref());
        let Some(first) = sampled().next() else {
            return Self(None);
        };
        // The SDK keeps `OTEL_SPAN_LINK_COUNT_LIMIT` of them, 128 by default.
        let links =
            sampled().map(|request| Link::with_context(request.span().span_context().clone()));
        let count = i64::try_from(requests.len()).unwrap_or(i64::MAX);
        let span = SpanBuilder::from_name(verb)
            .with_links(links.collect())
            .with_attributes([KeyValue::new("flashsale.batch.requests", count)]);
        let batch = Self::start(span, first);
        if let Some(batch) = &batch.0 {
            for request in sampled() {
                let batch = batch.span().span_context().clone();
                request.span().add_link(batch, Vec::new());
            }
        }
        batch
    }

    /// One round trip to PostgreSQL, as a child of the current span. Only the name at the start of the statement is
    /// recorded.
    pub fn of_statement(sql: &str) -> Self {
        let Self(Some(within)) = Self::current() else {
            return Self(None);
        };
        let name = sql.strip_prefix("-- ").unwrap_or(sql);
        let end = name.find(['\n', ':']).unwrap_or(name.len());
        let name = name[..end].to_owned();
        let span = SpanBuilder::from_name(name.clone())
            .with_kind(SpanKind::Client)
            .with_attributes([
                KeyValue::new("db.system.name", "postgresql"),
                KeyValue::new("db.query.summary", name),
            ]);
        Self::start(span, &within)
    }

    /// The sending of a message, up to its confirm. It continues the trace of the request that caused the message. A
    /// message without a trace has no span.
    pub fn of_publishing(message: &Publishing<'_>) -> Self {
        let Some(traceparent) = message.traceparent.filter(|_| exporter::tracer().is_some()) else {
            return Self(None);
        };
        let caused = Headers::read(|name| (name == "traceparent").then_some(traceparent));
        if caused.traceparent.is_none() {
            return Self(None);
        }
        // The name of a destination, as the conventions for RabbitMQ want it.
        let destination = format!("{}:{}", message.exchange, message.routing_key);
        let span = SpanBuilder::from_name(format!("publish {destination}"))
            .with_kind(SpanKind::Producer)
            .with_attributes([
                KeyValue::new("messaging.system", "rabbitmq"),
                KeyValue::new("messaging.operation.name", "publish"),
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("messaging.destination.name", destination),
                KeyValue::new(
                    "messaging.rabbitmq.destination.routing_key",
                    message.routing_key.to_owned(),
                ),
                KeyValue::new("messaging.message.id", message.message_id.to_owned()),
            ]);
        Self::start(span, &caused.context())
    }

    /// Work that no request has caused. It begins a trace.
    pub fn of_work(name: &'static str) -> Self {
        Self::start(SpanBuilder::from_name(name), &Context::new())
    }

    /// No span.
    pub fn none() -> Self {
        Self(None)
    }

    /// The current span: the one whose [`Span::scope`] this code runs in.
    pub fn current() -> Self {
        Self(Context::map_current(|context| {
            context.has_active_span().then(|| context.clone())
        }))
    }

    /// Whether the span is exported.
    pub fn is_sampled(&self) -> bool {
        self.0.is_some()
    }

    /// The header `traceparent` of W3C Trace Context for what this span causes. `None` unless the span is exported.
    pub fn traceparent(&self) -> Option<String> {
        let context = self.0.as_ref()?.span().span_context().clone();
        let flags = context.trace_flags().to_u8();
        Some(format!(
            "00-{}-{}-{flags:02x}",
            context.trace_id(),
            context.span_id()
        ))
    }

    /// Runs `work` with this span as the current one.
    pub fn scope<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        let context = self.0.clone();
        async move {
            match context {
                Some(context) => work.with_context(context).await,
                None => work.await,
            }
        }
    }

    /// Marks the span as failed. There are few kinds of failures. The cause is a text for people.
    pub fn failed(&self, kind: &str, cause: &str) {
        if let Some(context) = &self.0 {
            let span = context.span();
            span.set_attribute(KeyValue::new("error.type", kind.to_owned()));
            span.set_status(Status::error(cause.to_owned()));
        }
    }

    /// Marks the span of a statement as failed. `sqlstate` is PostgreSQL's code, if it answered.
    pub fn statement_failed(&self, sqlstate: Option<&str>) {
        self.failed(sqlstate.unwrap_or("_OTHER"), "");
        if let (Some(context), Some(code)) = (&self.0, sqlstate) {
            let code = KeyValue::new("db.response.status_code", code.to_owned());
            context.span().set_attribute(code);
        }
    }

    /// Records the answer and ends the span.
    pub fn answered(self, answer: &Answer<'_>) {
        let Some(context) = self.0 else {
            return;
        };
        let span = context.span();
        let text = |name, value: &str| KeyValue::new(name, value.to_owned());
        let name = [answer.method.unwrap_or("HTTP"), answer.route.unwrap_or("")];
        span.update_name(name.join(" ").trim_end().to_owned());
        span.set_attributes([
            text("http.request.method", answer.method.unwrap_or("_OTHER")),
            KeyValue::new("http.response.status_code", i64::from(answer.status)),
        ]);
        if let Some(route) = answer.route {
            span.set_attribute(text("http.route", route));
        }
        if let Some(id) = answer.request_id {
            span.set_attribute(text("flashsale.request_id", id));
        }
        if let Some(code) = answer.code {
            span.set_attribute(KeyValue::new("flashsale.problem.code", code));
        }
        // A refusal is not a server error: by OpenTelemetry's conventions only 5xx is an error.
        if answer.status >= 500 {
            let status = answer.status.to_string();
            let kind = answer.code.map_or(status, str::to_owned);
            span.set_attribute(KeyValue::new("error.type", kind));
            span.set_status(Status::error(""));
        }
        // Ended explicitly: a batched call may still hold a clone of it.
        span.end();
    }

    fn start(span: SpanBuilder, parent: &Context) -> Self {
        let span = exporter::tracer().map(|tracer| tracer.build_with_context(span, parent));
        let sampled = span.filter(opentelemetry::trace::Span::is_recording);
        Self(sampled.map(|span| Context::new().with_span(span)))
    }
}

/// The trace headers of a request.
struct Headers<'a> {
    traceparent: Option<&'a str>,
    tracestate: Option<&'a str>,
}

impl<'a> Headers<'a> {
    fn read(header: impl Fn(&'static str) -> Option<&'a str>) -> Self {
        Self {
            traceparent: header("traceparent").filter(|value| is_whole(value)),
            tracestate: header("tracestate"),
        }
    }

    /// The caller's span, if the headers name one.
    fn context(&self) -> Context {
        TraceContextPropagator::new().extract_with_context(&Context::new(), self)
    }
}

/// The SDK would also accept ids that are too short.
fn is_whole(traceparent: &str) -> bool {
    let mut parts = traceparent.split('-');
    [2, 32, 16, 2].into_iter().all(|length| {
        let part = parts.next().unwrap_or_default();
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

impl Extractor for Headers<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            "traceparent" => self.traceparent,
            "tracestate" => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}
