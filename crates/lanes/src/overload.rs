//! Refusals under overload, and their lines in the log: one when it begins, and one with their number when it is over.
//! A line for each refused request would be thousands per second.

use std::time::{Duration, Instant};

/// The overload is over after this time without a refusal. A lane at its limit is full and not full many times per
/// second.
const QUIET: Duration = Duration::from_secs(1);

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nothing was done for it.
    Overloaded,
    /// It was sent, and the answer was lost.
    OutcomeUnknown,
}

/// Counts the refusals of one queue.
pub struct Overload {
    verb: &'static str,
    /// How many there were, and the time of the last one.
    refused: Option<(u64, Instant)>,
}

impl Overload {
    /// `verb` names the queue in the log.
    pub fn new(verb: &'static str) -> Self {
        let refused = None;
        Self { verb, refused }
    }

    /// Counts one more refusal.
    pub fn refused(&mut self) -> NoAnswer {
        if self.refused.is_none() {
            let verb = self.verb;
            tracing::warn!(verb, "overloaded: requests are refused");
        }
        let before = self.refused.map_or(0, |(count, _)| count);
        self.refused = Some((before + 1, Instant::now()));
        NoAnswer::Overloaded
    }

    /// Logs the end of the overload, if it is over. To be called now and then.
    pub fn settle(&mut self) {
        if let Some((requests, last)) = self.refused
            && last.elapsed() > QUIET
        {
            self.refused = None;
            let verb = self.verb;
            tracing::info!(
                verb,
                requests,
                "no longer overloaded: so many requests were refused"
            );
        }
    }
}
