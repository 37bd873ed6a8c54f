//! Empty versions of the public types, for builds without the feature `otel`.

use crate::subject::{Answer, Publishing};

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
#[derive(Clone, Debug)]
pub struct Span;

impl Span {
    /// Returns an empty span.
    pub fn of_request<'a>(_path: &str, _header: impl Fn(&'static str) -> Option<&'a str>) -> Self {
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
    pub fn of_publishing(_message: &Publishing<'_>) -> Self {
        Self
    }

    /// Returns an empty span.
    pub fn of_work(_name: &'static str) -> Self {
        Self
    }

    /// Returns an empty span.
    pub fn none() -> Self {
        Self
    }

    /// Returns an empty span.
    pub fn current() -> Self {
        Self
    }

    /// Returns `false`.
    pub fn is_sampled(&self) -> bool {
        false
    }

    /// Returns `None`.
    pub fn traceparent(&self) -> Option<String> {
        None
    }

    /// Returns `work` unchanged.
    pub fn scope<F: Future>(&self, work: F) -> F {
        work
    }

    /// Does nothing.
    pub fn failed(&self, _kind: &str, _cause: &str) {}

    /// Does nothing.
    pub fn statement_failed(&self, _sqlstate: Option<&str>) {}

    /// Does nothing.
    pub fn answered(self, _answer: &Answer<'_>) {}
}
