//! Empty versions of the public types, for builds without the feature `otel`.

use crate::Answer;

/// Exports nothing.
pub struct Exporter;

impl Exporter {
    /// Does nothing.
    pub fn start(_service: &'static str) -> anyhow::Result<Self> {
        Ok(Self)
    }

    /// Does nothing.
    pub fn stop(self) {}
}

/// An empty span.
#[derive(Clone)]
pub struct Span;

impl Span {
    /// Returns an empty span.
    pub fn of_request<'a>(_header: impl Fn(&'static str) -> Option<&'a str>) -> Self {
        Self
    }

    /// Returns an empty span.
    pub fn of_batch(_verb: &'static str, _requests: &[Self]) -> Self {
        Self
    }

    /// Returns an empty span.
    pub fn of_statement(_sql: &str) -> Self {
        Self
    }

    /// Returns an empty span.
    pub fn current() -> Self {
        Self
    }

    /// Returns `work` unchanged.
    pub fn scope<F: Future>(&self, work: F) -> F {
        work
    }

    /// Does nothing.
    pub fn failed(&self, _cause: &str) {}

    /// Does nothing.
    pub fn answered(self, _answer: &Answer<'_>) {}
}
