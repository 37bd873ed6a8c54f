//! Spans, where they are sampled.

use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{
        FutureExt as _, Link, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _,
    },
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use crate::{Answer, exporter};

/// `None`: not sampled, or nobody to export it to. Nothing is made for it then, nor for what it leads to.
#[derive(Clone)]
pub struct Span(Option<Context>);

impl Span {
    /// The answering of a request. It goes on with the trace of the caller's `traceparent`, if it has a valid one,
    /// and is sampled if that is (or as `OTEL_TRACES_SAMPLER` says).
    pub fn of_request<'a>(header: impl Fn(&'static str) -> Option<&'a str>) -> Self {
        if exporter::tracer().is_none() {
            return Self(None);
        }
        let caller = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &Headers::read(header));
        // It gets its name with its route.
        let span = SpanBuilder::from_name("request").with_kind(SpanKind::Server);
        Self::start(span, &caller)
    }

    /// One call on behalf of these requests, linked with each of them both ways.
    ///
    /// It is also a child of the first that is sampled, rather than the root of a trace: so it is sampled exactly if
    /// one of them is, whatever the sampler, and a request that had the call to itself shows it in its own trace.
    pub fn of_batch(verb: &'static str, requests: &[Self]) -> Self {
        let sampled = || requests.iter().filter_map(|request| request.0.as_ref());
        let Some(first) = sampled().next() else {
            return Self(None);
        };
        // Of these the SDK keeps `OTEL_SPAN_LINK_COUNT_LIMIT`, 128 by default.
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

    /// One round trip to PostgreSQL, part of the current span. Of the statement it tells the name that it starts with.
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

    /// The one on whose behalf this runs.
    pub fn current() -> Self {
        Self(Context::map_current(|context| {
            context.has_active_span().then(|| context.clone())
        }))
    }

    /// Runs `work` on behalf of this span.
    pub fn scope<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        let context = self.0.clone();
        async move {
            match context {
                Some(context) => work.with_context(context).await,
                None => work.await,
            }
        }
    }

    pub fn failed(&self, cause: &str) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(cause.to_owned()));
        }
    }

    pub fn answered(self, answer: &Answer<'_>) {
        let Some(context) = self.0 else {
            return;
        };
        let span = context.span();
        let text = |name, value: &str| KeyValue::new(name, value.to_owned());
        let name = [answer.method.unwrap_or("HTTP"), answer.route.unwrap_or("")];
        span.update_name(name.join(" ").trim_end().to_owned());
        // No `url.path`: a client can write anything there.
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
        // A refusal is the client's business: the conventions call only a fault an error.
        if answer.status >= 500 {
            let status = answer.status.to_string();
            let kind = answer.code.map_or(status, str::to_owned);
            span.set_attribute(KeyValue::new("error.type", kind));
            span.set_status(Status::error(""));
        }
        // A call that it shared may hold it for longer.
        span.end();
    }

    fn start(span: SpanBuilder, parent: &Context) -> Self {
        let span = exporter::tracer().map(|tracer| tracer.build_with_context(span, parent));
        let sampled = span.filter(opentelemetry::trace::Span::is_recording);
        Self(sampled.map(|span| Context::new().with_span(span)))
    }
}

/// What a caller tells of its trace.
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
}

/// The SDK would also take ids that are too short.
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
