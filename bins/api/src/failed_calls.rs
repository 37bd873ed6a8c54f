//! Logs failed calls to PostgreSQL.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use inventory::Error;
use lanes::NoAnswer;
use runtime::outage::Causes;
use trace::Span;

/// The current outage of PostgreSQL.
#[derive(Default)]
pub(crate) struct FailedCalls {
    causes: Causes,
    /// Whether there are causes. Every successful call reads it.
    any: AtomicBool,
}

impl FailedCalls {
    /// Converts the result of a call. Logs an error here, once for all `requests` of the call. While there is no
    /// connection, or none that can write, each cause is logged once until a call succeeds.
    pub(crate) fn answer<T>(
        &self,
        verb: &'static str,
        requests: usize,
        result: Result<T, Error>,
    ) -> Result<T, NoAnswer> {
        let error = match result {
            Ok(done) => {
                if self.any.load(Relaxed) && self.any.swap(false, Relaxed) {
                    self.causes.clear();
                }
                return Ok(done);
            }
            Err(error) => error,
        };
        let cause = error.cause();
        Span::current().failed(error.kind(), &cause);
        if !error.is_outage() || self.is_new(&cause) {
            tracing::warn!(verb, requests, cause, "{error}");
        }
        Err(match error {
            Error::NotDone(_) => NoAnswer::Overloaded,
            Error::OutcomeUnknown(_) => NoAnswer::OutcomeUnknown,
        })
    }

    fn is_new(&self, cause: &str) -> bool {
        let is_new = self.causes.add(cause);
        self.any.store(true, Relaxed);
        is_new
    }
}
