//! Where a request's time went, as spans of OpenTelemetry: the request, the call that it shared, the statements of
//! that call. Without the feature `otel` all of it is empty: the compiler leaves nothing of it.
//!
//! Who works on behalf of a span runs within [`Span::scope`], and who needs it finds it by [`Span::current`]. A span
//! ends when it is dropped.

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

/// What a request came to.
pub struct Answer<'a> {
    /// `None`: none that the service knows.
    pub method: Option<&'a str>,
    /// The pattern of its path, which has ids; `None`: no route was found.
    pub route: Option<&'a str>,
    pub status: u16,
    /// Of the problem, where it is one.
    pub code: Option<&'static str>,
    pub request_id: Option<&'a str>,
}
