//! Counts and logs refusals under overload. The log has one line when an overload begins, and one line with the
//! number of refusals when it ends. One line per refused request would be thousands of lines per second.

use std::time::{Duration, Instant};

/// An overload ends after this time without a refusal. A shorter time would log many overloads, because a lane at its
/// limit changes between full and not full many times per second.
const QUIET: Duration = Duration::from_secs(1);

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The request was refused, and nothing was done for it.
    Overloaded,
    /// The request was sent, but the answer was lost. It may have been done.
    OutcomeUnknown,
}

/// Counts the refusals of one queue.
pub struct Overload {
    verb: &'static str,
    /// The number of refusals of the current overload, and the time of the last one.
    refused: Option<(u64, Instant)>,
}

impl Overload {
    /// A queue without refusals. `verb` names the queue in the log.
    pub fn new(verb: &'static str) -> Self {
        let refused = None;
        Self { verb, refused }
    }

    /// Counts a refusal, and logs the first one of an overload. Returns the answer for the refused request.
    pub fn refused(&mut self) -> NoAnswer {
        if self.refused.is_none() {
            let verb = self.verb;
            tracing::warn!(verb, "overloaded: requests are refused");
        }
        let before = self.refused.map_or(0, |(count, _)| count);
        self.refused = Some((before + 1, Instant::now()));
        NoAnswer::Overloaded
    }

    /// Logs the end of the overload, if it has ended. Call this regularly.
    pub fn settle(&mut self) {
        if let Some((requests, last)) = self.refused
            && last.elapsed() > QUIET
        {
            self.refused = None;
            let verb = self.verb;
            tracing::info!(
                verb,
                requests,
                "no longer overloaded: this number of requests was refused"
            );
        }
    }
}
