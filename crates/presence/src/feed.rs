//! The latest transitions of reservations in one process, for the live page.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

use inventory::{
    ProductId, Quantity, ReservationId, UserId,
    reservation::Reservation,
    schema::Utc,
    transition::{Change, Transition},
};
use runtime::lock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// How many are kept, and how many are taken between two reports.
const FEED_MAX: usize = 20;

/// What happened to one reservation, or to several at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Transition")]
pub struct FeedItem {
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "Utc")]
    pub at: OffsetDateTime,
    pub what: TransitionKind,
    /// How many reservations.
    pub count: u64,
    /// The reservation, where it is one.
    #[serde(flatten)]
    pub of: Option<Subject>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum TransitionKind {
    Reserved,
    Extended,
    Confirmed,
    Canceled,
    Expired,
    Returned,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Subject {
    pub reservation_id: ReservationId,
    pub product_id: ProductId,
    pub user_id: UserId,
    pub quantity: Quantity,
}

/// A transition as a report has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedEntry {
    /// Its place among all that the process has noted: reports repeat themselves.
    pub number: u64,
    #[serde(flatten)]
    pub item: FeedItem,
}

/// The latest transitions. Noting one costs next to nothing once there are enough for the next report.
#[derive(Debug, Default)]
pub struct Feed(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    latest: VecDeque<FeedEntry>,
    next_number: u64,
    /// Since the last report.
    noted: usize,
}

impl Feed {
    /// Notes the transitions of a committed call. Repeats are none.
    pub fn note<'a>(&self, transitions: impl Iterator<Item = Transition<'a>>) {
        let mut kept = self.kept();
        for transition in transitions {
            match transition {
                Transition::Expired(count) => kept.count(TransitionKind::Expired, count),
                Transition::Of(change, reservation) if kept.noted < FEED_MAX => {
                    kept.note(change, reservation);
                }
                Transition::Of(..) => {}
            }
        }
    }

    /// The latest, for a report: what an earlier report has is in it again, as far as there is room, since nobody
    /// may have seen that one.
    pub fn report(&self) -> Vec<FeedEntry> {
        let mut kept = self.kept();
        kept.noted = 0;
        kept.latest.iter().cloned().collect()
    }

    /// Nothing that is guarded here can be left half-changed.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.0)
    }
}

impl Kept {
    fn note(&mut self, change: Change, reservation: &Reservation) {
        let (what, at) = match change {
            Change::Reserved => (TransitionKind::Reserved, Some(reservation.created_at)),
            Change::Extended => (TransitionKind::Extended, None),
            Change::Confirmed | Change::Reacquired => {
                (TransitionKind::Confirmed, reservation.confirmed_at)
            }
            Change::Canceled => (TransitionKind::Canceled, reservation.canceled_at),
            Change::Returned => (TransitionKind::Returned, reservation.returned_at),
            Change::Repeated => return,
        };
        let subject = Subject {
            reservation_id: reservation.id,
            product_id: reservation.product_id,
            user_id: reservation.user_id,
            quantity: reservation.quantity,
        };
        let at = at.unwrap_or_else(OffsetDateTime::now_utc);
        self.push(what, at, 1, Some(subject));
    }

    /// Notes reservations of which only the number is known. Those of the same kind between two reports are one item.
    fn count(&mut self, what: TransitionKind, count: u64) {
        if count > 0 && !self.add(what, count) && self.noted < FEED_MAX {
            self.push(what, OffsetDateTime::now_utc(), count, None);
        }
    }

    /// Adds to a count that is in no report yet, if there is one.
    fn add(&mut self, what: TransitionKind, count: u64) -> bool {
        let mut unreported = self.latest.iter_mut().rev().take(self.noted);
        let same = unreported.find(|noted| noted.item.what == what && noted.item.of.is_none());
        if let Some(same) = same {
            same.item.count += count;
            return true;
        }
        false
    }

    fn push(&mut self, what: TransitionKind, at: OffsetDateTime, count: u64, of: Option<Subject>) {
        if self.latest.len() == FEED_MAX {
            self.latest.pop_front();
        }
        let item = FeedItem {
            at,
            what,
            count,
            of,
        };
        self.latest.push_back(FeedEntry {
            number: self.next_number,
            item,
        });
        self.next_number += 1;
        self.noted += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use inventory::reservation::Status;

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
        let reserved = holds.iter();
        feed.note(reserved.map(|hold| Transition::Of(Change::Reserved, hold)));
    }

    fn told(feed: &Feed) -> Vec<i64> {
        let report = feed.report();
        let told = report.iter().map(|noted| noted.item.of);
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
    fn expired_holds_are_counted_once_per_report() {
        let feed = Feed::default();
        let expire = |count| feed.note([Transition::Expired(count)].into_iter());
        let counts = || {
            let report = feed.report();
            let counts = report.iter().map(|noted| noted.item.count);
            counts.collect::<Vec<_>>()
        };
        expire(0);
        expire(1);
        for _ in 0..100 {
            expire(3);
        }
        assert_eq!(counts(), [301]);
        expire(4);
        assert_eq!(counts(), [301, 4]);
    }
}
