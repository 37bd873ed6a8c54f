//! Traces with OpenTelemetry spans: a request, the database call that it shared, the statements of that call, and the
//! messages that it caused. Without the feature `otel` everything is empty and the compiler removes it.
//!
//! Work for a span runs within [`Span::scope`], and [`Span::current`] returns that span. A span ends when it is
//! dropped.

#![warn(missing_docs)]

#[cfg(feature = "otel")]
mod exporter;
#[cfg(feature = "otel")]
mod http;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod span;

#[cfg(feature = "otel")]
pub use {exporter::Exporter, span::Span};

#[cfg(not(feature = "otel"))]
pub use off::{Exporter, Span};

/// A message that is sent to an exchange of RabbitMQ.
pub struct Publishing<'a> {
    /// The name of the exchange.
    pub exchange: &'a str,
    /// The routing key.
    pub routing_key: &'a str,
    /// The id of the message.
    pub message_id: &'a str,
    /// The trace of the request that caused the message, if it was sampled.
    pub traceparent: Option<&'a str>,
}

/// The answer to a request.
pub struct Answer<'a> {
    /// The method. `None`: not a known method.
    pub method: Option<&'a str>,
    /// The route pattern without ids. `None`: no route was found.
    pub route: Option<&'a str>,
    /// The HTTP status.
    pub status: u16,
    /// The problem code, if the answer is a problem.
    pub code: Option<&'static str>,
    /// The request id, if there is one.
    pub request_id: Option<&'a str>,
}
