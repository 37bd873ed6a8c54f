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
mod subject;

#[cfg(feature = "otel")]
pub use {exporter::Exporter, span::Span};

#[cfg(not(feature = "otel"))]
pub use off::{Exporter, Span};
pub use subject::{Answer, Publishing};
