//! The shoppers' record of the answers that they got, and of nothing else.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Maximum number of unexpected answers to print.
const STRANGE_SHOWN: usize = 3;

#[derive(Default)]
pub(crate) struct Journal(Mutex<Entries>);

#[derive(Default)]
pub(crate) struct Entries {
    pub(crate) arrived: usize,
    /// Holds by reservation id.
    holds: HashMap<i64, Hold>,
    /// Units of each product in confirms that have no answer yet.
    unanswered: HashMap<i64, i64>,
    /// Refusals by code, including 503.
    pub(crate) refusals: BTreeMap<String, usize>,
    /// Latency of each answered reserve.
    pub(crate) reserve_times: Vec<Duration>,
    /// Shoppers who joined a waitlist.
    pub(crate) waited: usize,
    /// Shoppers in a waitlist who were offered units.
    pub(crate) offered: usize,
    /// Requests without an answer.
    pub(crate) lost: usize,
    /// Answers replayed for an Idempotency-Key.
    pub(crate) replayed: usize,
    pub(crate) strange: usize,
    /// The first unexpected answers.
    pub(crate) strange_answers: Vec<String>,
}

#[derive(Clone, Copy)]
pub(crate) struct Hold {
    pub(crate) id: i64,
    pub(crate) product: i64,
    pub(crate) quantity: i64,
    /// Not earlier than the service's deadline.
    pub(crate) deadline: Instant,
    pub(crate) end: Option<End>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum End {
    Confirmed,
    /// Reacquired and confirmed in one call, for an expired hold.
    PaidLate,
    Canceled,
}

/// Reservations by outcome.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) reserved: usize,
    pub(crate) confirmed: usize,
    /// Late ones among the confirmed.
    pub(crate) late: usize,
    pub(crate) canceled: usize,
    pub(crate) expired: usize,
    pub(crate) held: usize,
}

/// Units of one product, by the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sold {
    pub(crate) told: i64,
    /// May also be sold: the confirm has no answer.
    pub(crate) unanswered: i64,
}

impl Journal {
    /// Ignores poisoning: the journal is valid after any panic.
    pub(crate) fn open(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// A retry may return the same hold again.
    pub(crate) fn held(&mut self, hold: Hold) {
        self.holds.entry(hold.id).or_insert(hold);
    }

    pub(crate) fn ended(&mut self, hold: &Hold, end: End) {
        if let Some(known) = self.holds.get_mut(&hold.id) {
            known.end = Some(end);
        }
    }

    /// From now on the hold may be sold, until an answer says whether it is.
    pub(crate) fn asks_to_sell(&mut self, hold: &Hold) {
        *self.unanswered.entry(hold.product).or_default() += hold.quantity;
    }

    pub(crate) fn answered(&mut self, hold: &Hold) {
        *self.unanswered.entry(hold.product).or_default() -= hold.quantity;
    }

    pub(crate) fn refused(&mut self, code: &str) {
        *self.refusals.entry(code.to_owned()).or_default() += 1;
    }

    pub(crate) fn strange(&mut self, answer: String) {
        self.strange += 1;
        if self.strange_answers.len() < STRANGE_SHOWN {
            self.strange_answers.push(answer);
        }
    }

    pub(crate) fn tally(&self, now: Instant) -> Tally {
        let mut tally = Tally {
            reserved: self.holds.len(),
            ..Tally::default()
        };
        for hold in self.holds.values() {
            match hold.end {
                Some(End::Confirmed) => tally.confirmed += 1,
                Some(End::PaidLate) => {
                    tally.confirmed += 1;
                    tally.late += 1;
                }
                Some(End::Canceled) => tally.canceled += 1,
                None if hold.deadline <= now => tally.expired += 1,
                None => tally.held += 1,
            }
        }
        tally
    }

    /// When all holds are over, also by the journal's later deadlines.
    pub(crate) fn all_over(&self) -> Instant {
        let deadlines = self.holds.values().map(|hold| hold.deadline);
        deadlines.max().unwrap_or_else(Instant::now)
    }

    pub(crate) fn sold(&self, product: i64) -> Sold {
        let sold = |hold: &&Hold| {
            hold.product == product && matches!(hold.end, Some(End::Confirmed | End::PaidLate))
        };
        Sold {
            told: self.holds.values().filter(sold).map(|h| h.quantity).sum(),
            unanswered: self.unanswered.get(&product).copied().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_counts_once_and_by_its_end() {
        let now = Instant::now();
        let mut entries = Entries::default();
        for (id, end) in [
            (1, Some(End::Confirmed)),
            (2, Some(End::PaidLate)),
            (3, Some(End::Canceled)),
            (4, None),
        ] {
            let hold = Hold {
                id,
                product: 7,
                quantity: 2,
                deadline: now + Duration::from_secs(1),
                end: None,
            };
            entries.held(hold);
            if let Some(end) = end {
                entries.asks_to_sell(&hold);
                entries.ended(&hold, end);
                entries.answered(&hold);
            }
            entries.held(hold);
            if id == 4 {
                entries.asks_to_sell(&hold);
            }
        }
        let tally = Tally {
            reserved: 4,
            confirmed: 2,
            late: 1,
            canceled: 1,
            expired: 0,
            held: 1,
        };
        assert_eq!(entries.tally(now), tally);
        let later = entries.tally(now + Duration::from_secs(1));
        assert_eq!((later.held, later.expired), (0, 1));
        assert_eq!(entries.tally(entries.all_over()), later);
        let sold = Sold {
            told: 4,
            unanswered: 2,
        };
        assert_eq!(entries.sold(7), sold);
        assert_eq!(entries.sold(8), Sold::default());
    }
}
