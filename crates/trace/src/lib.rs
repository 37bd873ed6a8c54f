//! Traces a request with OpenTelemetry spans: the request, the database call that it shared, and the statements of
//! that call. Without the feature `otel` everything is empty and the compiler removes it.
//!
//! Work for a span runs within [`Span::scope`], and [`Span::current`] returns that span. A span ends when it is
//! dropped.

#![warn(missing_docs)]

#[cfg(feature = "otel")]
mod exporter;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod span;

#[cfg(feature = "otel")]
pub use {exporter::Exporter, span::Span};

#[cfg(not(feature = "otel"))]
pub use off::{Exporter, Span};

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
