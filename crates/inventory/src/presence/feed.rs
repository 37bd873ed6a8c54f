//! What a process did to reservations, as far as somebody can read along.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{ProductId, Quantity, ReservationId, UserId, reservation::Reservation, schema::Utc};

/// How many are kept, and how many are taken between two reports.
const FEED_MAX: usize = 20;

/// What became of one reservation, or of several at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "Utc")]
    pub at: OffsetDateTime,
    pub what: What,
    /// How many reservations.
    pub count: u64,
    /// The reservation, where it is one.
    #[serde(flatten)]
    pub of: Option<Of>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum What {
    Reserved,
    Extended,
    Confirmed,
    Canceled,
    Expired,
    Returned,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Of {
    pub reservation_id: ReservationId,
    pub product_id: ProductId,
    pub user_id: UserId,
    pub quantity: Quantity,
}

/// A transition as a report has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Noted {
    /// Its place among all that the process has noted: reports repeat themselves.
    pub number: u64,
    #[serde(flatten)]
    pub transition: Transition,
}

/// The latest transitions. Noting one costs next to nothing once there are enough for the next report.
#[derive(Debug, Default)]
pub struct Feed(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    latest: VecDeque<Noted>,
    next_number: u64,
    /// Since the last report.
    noted: usize,
}

impl Feed {
    /// These reservations, each at its time.
    pub fn note<'a>(
        &self,
        what: What,
        reservations: impl Iterator<Item = (&'a Reservation, OffsetDateTime)>,
    ) {
        let mut kept = self.kept();
        for (reservation, at) in reservations.take(FEED_MAX - kept.noted.min(FEED_MAX)) {
            let of = Of {
                reservation_id: reservation.id,
                product_id: reservation.product_id,
                user_id: reservation.user_id,
                quantity: reservation.quantity,
            };
            kept.push(what, at, 1, Some(of));
        }
    }

    /// So many reservations, now, of which no more is known. Those of the same time between two reports are told
    /// as one.
    pub fn note_count(&self, what: What, count: u64) {
        let mut kept = self.kept();
        if count > 0 && !kept.add(what, count) && kept.noted < FEED_MAX {
            kept.push(what, OffsetDateTime::now_utc(), count, None);
        }
    }

    /// The latest, for a report: what an earlier report has is in it again, as far as there is room, since nobody
    /// may have seen that one.
    pub fn report(&self) -> Vec<Noted> {
        let mut kept = self.kept();
        kept.noted = 0;
        kept.latest.iter().cloned().collect()
    }

    /// Nothing that is guarded here can be left half-changed.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Adds to a count that is in no report yet, if there is one.
    fn add(&mut self, what: What, count: u64) -> bool {
        let mut unreported = self.latest.iter_mut().rev().take(self.noted);
        let same =
            unreported.find(|noted| noted.transition.what == what && noted.transition.of.is_none());
        if let Some(same) = same {
            same.transition.count += count;
            return true;
        }
        false
    }

    fn push(&mut self, what: What, at: OffsetDateTime, count: u64, of: Option<Of>) {
        if self.latest.len() == FEED_MAX {
            self.latest.pop_front();
        }
        let transition = Transition {
            at,
            what,
            count,
            of,
        };
        self.latest.push_back(Noted {
            number: self.next_number,
            transition,
        });
        self.next_number += 1;
        self.noted += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::reservation::Status;

    fn note(feed: &Feed, ids: Range<i64>) {
        let at = OffsetDateTime::UNIX_EPOCH;
        let holds: Vec<Reservation> = ids
            .map(|id| Reservation {
                id: id.try_into().expect("an id"),
                product_id: ProductId::ONE,
                user_id: UserId::ONE,
                quantity: Quantity::ONE,
                status: Status::Active,
                expires_at: at,
                created_at: at,
                confirmed_at: None,
                canceled_at: None,
                expired_at: None,
                returned_at: None,
                reference: None,
                reacquired_from: None,
            })
            .collect();
        feed.note(What::Reserved, holds.iter().map(|hold| (hold, at)));
    }

    fn told(feed: &Feed) -> Vec<i64> {
        let report = feed.report();
        let told = report.iter().map(|noted| noted.transition.of);
        told.map(|of| of.expect("one").reservation_id.get())
            .collect()
    }

    #[test]
    fn a_report_has_the_latest_and_no_more_than_there_is_room_for() {
        let feed = Feed::default();
        note(&feed, 1..4);
        assert_eq!(told(&feed), [1, 2, 3]);
        note(&feed, 4..5);
        // Nobody may have seen the last report.
        assert_eq!(told(&feed), [1, 2, 3, 4]);
        note(&feed, 5..15);
        note(&feed, 15..100);
        // The rest of the storm was not noted: a sample of it is enough.
        assert_eq!(told(&feed), (5..25).collect::<Vec<_>>());
        note(&feed, 100..101);
        let last = feed.report().pop().expect("the last");
        assert_eq!(last.number, 24);
    }

    #[test]
    fn what_is_only_counted_is_told_once_a_report() {
        let feed = Feed::default();
        let counts = || {
            let report = feed.report();
            let counts = report.iter().map(|noted| noted.transition.count);
            counts.collect::<Vec<_>>()
        };
        feed.note_count(What::Expired, 1);
        feed.note_count(What::Confirmed, 2);
        feed.note_count(What::Returned, 0);
        for _ in 0..100 {
            feed.note_count(What::Expired, 3);
        }
        assert_eq!(counts(), [301, 2]);
        feed.note_count(What::Expired, 4);
        assert_eq!(counts(), [301, 2, 4]);
    }
}
