//! More time for holds.

use std::collections::HashSet;

use inventory::reservation::Status;

use super::{Answer, Deadline, Reference};
use crate::support::MAX_HOLD_SECONDS;

impl Reference {
    /// Extends each hold if the rules allow it. Also returns the extended ones.
    pub(in super::super) fn extend(
        &mut self,
        requests: &[(Option<usize>, i32)],
    ) -> (Vec<Answer>, HashSet<usize>) {
        let (mut answers, mut moved) = (Vec::new(), HashSet::new());
        for (hold, seconds) in requests {
            answers.push(match *hold {
                None => Answer::ReservationNotFound,
                Some(hold) => match self.effective(hold) {
                    Status::Active => {
                        if self.extend_one(hold, *seconds) {
                            moved.insert(hold);
                        }
                        Answer::Ok(hold)
                    }
                    status => Answer::Ended(status),
                },
            });
        }
        (answers, moved)
    }

    fn extend_one(&mut self, hold: usize, seconds: i32) -> bool {
        self.extend_within(hold, seconds, hold)
    }

    /// Extends a hold as far as the rules of the hold `limit` allow it. The durations differ so much that all calls count
    /// as being at the time of the hold's creation.
    pub(super) fn extend_within(&mut self, hold: usize, seconds: i32, limit: usize) -> bool {
        let longest = self.longest(limit);
        let (lasts, since) = match self.holds[hold].deadline {
            Deadline::AfterCreation(lasts) => (lasts, self.holds[hold].born),
            Deadline::AfterCreationOf(other, lasts) => (lasts, self.holds[other].born),
            Deadline::Moved(lasts) => (lasts, usize::MAX),
        };
        self.holds[hold].deadline = if seconds < longest && seconds >= lasts {
            Deadline::Moved(seconds)
        } else if longest < seconds && (longest, self.holds[limit].born) > (lasts, since) {
            Deadline::AfterCreationOf(limit, longest)
        } else {
            return false;
        };
        true
    }

    pub(super) fn longest(&self, hold: usize) -> i32 {
        let own = self.products[self.holds[hold].product]
            .rules
            .max_hold_seconds;
        own.unwrap_or(MAX_HOLD_SECONDS)
    }
}
