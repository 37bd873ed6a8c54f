//! What the shoppers learn from their answers, and nothing else.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Enough of the answers that nobody expects.
const STRANGE_SHOWN: usize = 3;

#[derive(Default)]
pub(crate) struct Journal(Mutex<Book>);

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) arrived: usize,
    /// By their reservations' ids.
    holds: HashMap<i64, Hold>,
    /// Units of each product that were asked to be sold, without an answer so far.
    unanswered: HashMap<i64, i64>,
    /// Answers by their code, those of 503 among them.
    pub(crate) refusals: BTreeMap<String, usize>,
    /// How long each answered reserve took.
    pub(crate) reserve_times: Vec<Duration>,
    /// Requests without an answer.
    pub(crate) lost: usize,
    /// Answers that came again under an Idempotency-Key.
    pub(crate) replayed: usize,
    pub(crate) strange: usize,
    /// The first of them.
    pub(crate) strange_answers: Vec<String>,
}

#[derive(Clone, Copy)]
pub(crate) struct Hold {
    pub(crate) id: i64,
    pub(crate) product: i64,
    pub(crate) quantity: i64,
    /// Not earlier than what the service goes by.
    pub(crate) deadline: Instant,
    pub(crate) end: Option<End>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum End {
    Confirmed,
    /// Made and confirmed in one, for a hold that had expired.
    PaidLate,
    Canceled,
}

/// Reservations by what has become of them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) reserved: usize,
    pub(crate) confirmed: usize,
    /// Of the confirmed.
    pub(crate) late: usize,
    pub(crate) canceled: usize,
    pub(crate) expired: usize,
    pub(crate) held: usize,
}

/// What the answers say of one product, in units.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sold {
    pub(crate) told: i64,
    /// Perhaps sold as well.
    pub(crate) unanswered: i64,
}

impl Journal {
    /// Nothing panics while it has the lock; were it to, the book would still be whole.
    pub(crate) fn open(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// A retry may be told of the same hold again.
    pub(crate) fn held(&mut self, hold: Hold) {
        self.holds.entry(hold.id).or_insert(hold);
    }

    pub(crate) fn ended(&mut self, hold: &Hold, end: End) {
        if let Some(known) = self.holds.get_mut(&hold.id) {
            known.end = Some(end);
        }
    }

    /// From here on it may be sold, until an answer says that it is or is not.
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
        let mut book = Book::default();
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
            book.held(hold);
            if let Some(end) = end {
                book.asks_to_sell(&hold);
                book.ended(&hold, end);
                book.answered(&hold);
            }
            book.held(hold);
            if id == 4 {
                book.asks_to_sell(&hold);
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
        assert_eq!(book.tally(now), tally);
        let later = book.tally(now + Duration::from_secs(1));
        assert_eq!((later.held, later.expired), (0, 1));
        let sold = Sold {
            told: 4,
            unanswered: 2,
        };
        assert_eq!(book.sold(7), sold);
        assert_eq!(book.sold(8), Sold::default());
    }
}
