//! Whole orders: all or none.

use std::collections::HashSet;

use inventory::reservation::Status;

use super::{Answer, Reference};

/// The answers to all holds of an order, or the position of the first refusal.
pub(in super::super) type Whole = Result<Vec<Answer>, (usize, Answer)>;

impl Reference {
    /// Extends all holds to the same deadline, or none. Also returns the extended ones.
    pub(in super::super) fn extend_batch(
        &mut self,
        holds: &[Option<usize>],
        seconds: i32,
    ) -> (Whole, HashSet<usize>) {
        let mut answers = Vec::new();
        for (position, hold) in holds.iter().enumerate() {
            answers.push(match hold.map(|hold| (hold, self.effective(hold))) {
                Some((hold, Status::Active)) => Answer::Ok(hold),
                Some((_, status)) => {
                    return (Err((position, Answer::Ended(status))), HashSet::new());
                }
                None => return (Err((position, Answer::ReservationNotFound)), HashSet::new()),
            });
        }
        let all = holds.iter().copied().flatten();
        let limit = all
            .clone()
            .min_by_key(|hold| (self.longest(*hold), self.holds[*hold].born));
        let moved = all.filter(|hold| self.extend_within(*hold, seconds, limit.unwrap()));
        let moved = moved.collect();
        (Ok(answers), moved)
    }

    pub(in super::super) fn cancel_batch(&mut self, holds: &[Option<usize>]) -> Whole {
        let whole = self.all_or_none(holds, |reference, hold| {
            reference.turn_each(&[hold], Status::Active, Status::Canceled)[0]
        });
        if whole.is_ok() {
            self.offer_all();
        }
        whole
    }

    /// Confirms all holds, or none. Also returns how many due holds were expired.
    pub(in super::super) fn confirm_batch(
        &mut self,
        holds: &[Option<usize>],
        reacquire: bool,
    ) -> (Whole, u64) {
        let mut expired = 0;
        let whole = self.all_or_none(holds, |reference, hold| {
            let answer = reference.confirm(&[hold])[0];
            if !reacquire || answer != Answer::Ended(Status::Expired) {
                return answer;
            }
            let (answer, on_the_way) = reference.reacquire(hold);
            expired += on_the_way;
            answer
        });
        let expired = if whole.is_ok() { expired } else { 0 };
        (whole, expired)
    }

    fn all_or_none(
        &mut self,
        holds: &[Option<usize>],
        mut act: impl FnMut(&mut Self, Option<usize>) -> Answer,
    ) -> Whole {
        let mut trial = self.clone();
        let mut answers = Vec::new();
        for (position, hold) in holds.iter().enumerate() {
            match act(&mut trial, *hold) {
                Answer::Ok(done) => answers.push(Answer::Ok(done)),
                refusal => return Err((position, refusal)),
            }
        }
        *self = trial;
        Ok(answers)
    }
}
