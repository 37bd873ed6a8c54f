//! Decides from several polls whether a server is up.

use std::collections::VecDeque;

use crate::view::Reached;

/// Number of latest polls that decide.
pub(crate) const STEADY_POLLS: usize = 10;

/// A server that goes from up to down this many times within these polls counts as down.
const FALLS_MAX: usize = 3;

/// The latest polls of a server. It is down after two failed polls in a row, or after three falls within ten polls. It
/// is up after one successful poll, unless there were three such falls.
#[derive(Default)]
pub(crate) struct Debounce(VecDeque<bool>);

impl Debounce {
    /// Adds the result of a poll, and returns the state of the server.
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
