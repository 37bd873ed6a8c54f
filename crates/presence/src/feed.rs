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

/// Most transitions that the feed stores, and most that it accepts between two reports.
const FEED_MAX: usize = 20;

/// A transition of one reservation, or of several reservations at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Transition")]
pub struct FeedItem {
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "Utc")]
    /// Time of the transition.
    pub at: OffsetDateTime,
    /// Kind of the transition.
    pub what: TransitionKind,
    /// Number of reservations.
    pub count: u64,
    /// The reservation. `None` if `count` reservations are one item.
    #[serde(flatten)]
    pub of: Option<Subject>,
}

/// The kind of a transition.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
#[allow(
    missing_docs,
    reason = "documented variants would turn the schema's enum into oneOf"
)]
pub enum TransitionKind {
    Reserved,
    Extended,
    Confirmed,
    Canceled,
    Expired,
    Returned,
    Offered,
}

/// The reservation of a transition.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Subject {
    /// Id of the reservation.
    pub reservation_id: ReservationId,
    /// Product of the reservation.
    pub product_id: ProductId,
    /// User of the reservation.
    pub user_id: UserId,
    /// Number of units.
    pub quantity: Quantity,
}

/// A transition in a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedEntry {
    /// Sequence number in this process. Reports repeat entries, so readers skip numbers that they already have.
    pub number: u64,
    /// The transition.
    #[serde(flatten)]
    pub item: FeedItem,
}

/// The latest transitions of this process. Once there are enough for the next report, further ones are skipped at
/// almost no cost.
#[derive(Debug, Default)]
pub struct Feed(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    latest: VecDeque<FeedEntry>,
    next_number: u64,
    /// Number of entries since the last report.
    noted: usize,
}

impl Feed {
    /// Adds the transitions of a committed call. Repeats are not transitions and are skipped.
    pub fn note<'a>(&self, transitions: impl Iterator<Item = Transition<'a>>) {
        let mut entries = self.entries();
        for transition in transitions {
            match transition {
                Transition::Expired(count) => entries.count(TransitionKind::Expired, count),
                Transition::Offered(count) => entries.count(TransitionKind::Offered, count),
                Transition::Of(change, reservation) if entries.noted < FEED_MAX => {
                    entries.note(change, reservation);
                }
                Transition::Of(..) | Transition::StockAdjusted => {}
            }
        }
    }

    /// The latest transitions, for a report. It repeats entries of earlier reports, up to the limit, because an
    /// earlier report may not have been read.
    pub fn report(&self) -> Vec<FeedEntry> {
        let mut entries = self.entries();
        entries.noted = 0;
        entries.latest.iter().cloned().collect()
    }

    /// Ignores a poisoned lock: no change under this lock can be half done.
    fn entries(&self) -> MutexGuard<'_, Entries> {
        lock(&self.0)
    }
}

impl Entries {
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

    /// Adds reservations of which only the number is known. Between two reports, all of the same kind are one item.
    fn count(&mut self, what: TransitionKind, count: u64) {
        if count > 0 && !self.add(what, count) && self.noted < FEED_MAX {
            self.push(what, OffsetDateTime::now_utc(), count, None);
        }
    }

    /// Adds to an item that is in no report yet, if there is one.
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

    fn ids(feed: &Feed) -> Vec<i64> {
        let report = feed.report();
        let ids = report.iter().map(|noted| noted.item.of);
        ids.map(|of| of.expect("one").reservation_id.get())
            .collect()
    }

    #[test]
    fn a_report_has_the_latest_and_no_more_than_there_is_room_for() {
        let feed = Feed::default();
        note(&feed, 1..4);
        assert_eq!(ids(&feed), [1, 2, 3]);
        note(&feed, 4..5);
        // The last report may not have been read, so its entries come again.
        assert_eq!(ids(&feed), [1, 2, 3, 4]);
        note(&feed, 5..15);
        note(&feed, 15..100);
        // The other transitions were skipped: a sample is enough.
        assert_eq!(ids(&feed), (5..25).collect::<Vec<_>>());
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
