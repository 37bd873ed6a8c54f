//! The waitlist: its entries, and who is offered units that come free.

use crate::{
    tables::{Answer, Hold, Tables, Work},
    world::{Protocol, Twin},
};

/// A row of `waitlist_entries`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entry {
    pub(crate) user: u8,
    pub(crate) units: i8,
    pub(crate) status: EntryStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum EntryStatus {
    Waiting,
    /// With this hold.
    Offered(u8),
    /// The user left, or may have no more units.
    Ended,
}

impl Tables {
    /// The entries of users who wait, first in line first.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Entry> {
        let line = self.line.iter();
        line.filter(|entry| entry.status == EntryStatus::Waiting)
    }

    pub(crate) fn join(&self, user: u8, t: u8, world: &Protocol) -> Work {
        let units = world.wants[usize::from(user)];
        let mut waiting = self.waiting();
        let mut own = self.active(|hold| hold.user == user && hold.expires_at > t);
        if waiting.any(|entry| entry.user == user)
            || own.next().is_some()
            || units > self.remaining(user, t, world)
        {
            return Work::that(Answer::Refused);
        }
        let mut work = Work::that(Answer::Done);
        work.joined = Some(user);
        work.expired = self.due(t);
        work
    }

    /// Offers free units to those who wait, as long as they suffice for the first in line.
    pub(crate) fn offer(&mut self, t: u8, world: &Protocol) {
        for position in 0..self.line.len() {
            let Entry {
                user,
                units,
                status,
            } = self.line[position];
            if status != EntryStatus::Waiting {
                continue;
            }
            if units > self.remaining(user, t, world) {
                self.line[position].status = EntryStatus::Ended;
            } else if units <= self.stock {
                self.line[position].status = EntryStatus::Offered(self.holds.len() as u8);
                self.hold(Hold::new(user, units, t));
            } else if world.twin != Some(Twin::OfferToWhoFits) {
                return;
            }
        }
    }
}
