//! Who takes no more. A line in the log for each request that it refuses would be thousands in a second:
//! there is one when it begins, and one with their number when it is over.

use std::time::{Duration, Instant};

use crate::lanes::NoAnswer;

/// So long without a refusal, and it is over. A lane at its limit is full and not full many times a second.
const QUIET: Duration = Duration::from_secs(1);

pub(crate) struct Overload {
    verb: &'static str,
    /// How many, and when the last one was.
    refused: Option<(u64, Instant)>,
}

impl Overload {
    pub(crate) fn new(verb: &'static str) -> Self {
        let refused = None;
        Self { verb, refused }
    }

    /// One more.
    pub(crate) fn refused(&mut self) -> NoAnswer {
        if self.refused.is_none() {
            let verb = self.verb;
            tracing::warn!(verb, "overloaded: requests are refused");
        }
        let before = self.refused.map_or(0, |(count, _)| count);
        self.refused = Some((before + 1, Instant::now()));
        NoAnswer::Overloaded
    }

    /// Looks whether it is over.
    pub(crate) fn settle(&mut self) {
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
