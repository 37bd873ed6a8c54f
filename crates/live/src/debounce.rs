//! Whether a server is up, as several polls have it.

use std::collections::VecDeque;

use crate::view::Reached;

/// Whether a server is there is judged by so many polls.
pub(crate) const STEADY_POLLS: usize = 10;

/// Who fails again so often within them does not count as there.
const FALLS_MAX: usize = 3;

/// Whether a server is there, as several polls have it: one that fails is no outage, and one that succeeds between
/// others does not end it.
#[derive(Default)]
pub(crate) struct Debounce(VecDeque<bool>);

impl Debounce {
    /// The next poll's word, and what it comes to.
    pub(crate) fn take(&mut self, up: bool) -> Reached {
        if self.0.len() == STEADY_POLLS {
            self.0.pop_front();
        }
        self.0.push_back(up);
        let polls = self.0.iter().copied();
        let falls = polls.clone().zip(polls.clone().skip(1));
        let falls = falls.filter(|(before, after)| *before && !after).count();
        let mut latest = polls.rev();
        match (latest.next(), latest.next()) {
            _ if falls >= FALLS_MAX => Reached::Down,
            (Some(false), Some(false)) => Reached::Down,
            (Some(false), None) => Reached::Unknown,
            _ => Reached::Up,
        }
    }
}
