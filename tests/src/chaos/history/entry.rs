//! Entries of waitlists, as in answers and in the database.

use crate::chaos::clock::Micros;

/// A user's place in the line of a product. Ids are the order of the line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) id: i64,
    pub(crate) product: i64,
    pub(crate) user: i64,
    pub(crate) quantity: i64,
    pub(crate) status: EntryStatus,
    pub(crate) reference: Option<String>,
    /// The hold that was offered.
    pub(crate) hold: Option<i64>,
    pub(crate) created: Micros,
    /// When it stopped waiting.
    pub(crate) ended: Option<Micros>,
}

impl Entry {
    /// Whether it may have waited at some moment of this time span.
    pub(crate) fn may_wait(&self, from: Micros, to: Micros) -> bool {
        self.created <= to && self.ended.is_none_or(|at| at >= from)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryStatus {
    Waiting,
    Offered,
    Left,
    Closed,
}

impl EntryStatus {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "WAITING" => Some(Self::Waiting),
            "OFFERED" => Some(Self::Offered),
            "LEFT" => Some(Self::Left),
            "CLOSED" => Some(Self::Closed),
            _ => None,
        }
    }
}
