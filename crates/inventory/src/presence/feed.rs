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

    /// So many reservations, now, of which no more is known.
    pub fn note_count(&self, what: What, count: u64) {
        let mut kept = self.kept();
        if count > 0 && kept.noted < FEED_MAX {
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
    use super::*;

    fn counts(feed: &Feed) -> Vec<u64> {
        let report = feed.report();
        report.iter().map(|noted| noted.transition.count).collect()
    }

    #[test]
    fn a_report_has_the_latest_and_no_more_than_there_is_room_for() {
        let feed = Feed::default();
        for count in 1..=3 {
            feed.note_count(What::Expired, count);
        }
        feed.note_count(What::Expired, 0);
        assert_eq!(counts(&feed), [1, 2, 3]);
        feed.note_count(What::Expired, 4);
        // Nobody may have seen the last report.
        assert_eq!(counts(&feed), [1, 2, 3, 4]);
        for count in 5..100 {
            feed.note_count(What::Expired, count);
        }
        // The rest of the storm was not noted: a sample of it is enough.
        assert_eq!(counts(&feed), (5..25).collect::<Vec<_>>());
        feed.note_count(What::Expired, 100);
        let report = feed.report();
        let last = report.last().expect("the last");
        assert_eq!((last.number, last.transition.count), (24, 100));
    }
}
