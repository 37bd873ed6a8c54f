//! Logs failed calls to PostgreSQL.

use inventory::Error;
use lanes::NoAnswer;
use runtime::outage::Causes;
use trace::Span;

/// The current outage of PostgreSQL.
#[derive(Default)]
pub(crate) struct FailedCalls(Causes);

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
                self.0.clear();
                return Ok(done);
            }
            Err(error) => error,
        };
        let cause = error.cause();
        Span::current().failed(error.kind(), &cause);
        if !error.is_outage() || self.0.add(&cause) {
            tracing::warn!(verb, requests, cause, "{error}");
        }
        Err(match error {
            Error::NotDone(_) => NoAnswer::Overloaded,
            Error::OutcomeUnknown(_) => NoAnswer::OutcomeUnknown,
        })
    }
}
