//! The world of the model: who there is, where each of them is, and what they may do wrong.

use crate::{
    relay::Relay,
    tables::{Answer, Tables, Work},
};

/// The size of the world: one product, and so few of everything that all of it can be explored.
#[derive(Clone, Copy)]
pub(crate) struct Protocol {
    pub(crate) units: i8,
    pub(crate) users: u8,
    /// How many units each user asks for.
    pub(crate) wants: &'static [i8],
    /// Most units that a user may hold and have bought.
    pub(crate) max_per_user: i8,
    pub(crate) kinds: &'static [Kind],
    pub(crate) holds_max: u8,
    /// The clock stops here.
    pub(crate) clock_max: u8,
    pub(crate) connections: usize,
    pub(crate) expirers: usize,
    pub(crate) relays: usize,
    pub(crate) twin: Option<Twin>,
}

/// One thing done wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Twin {
    ConfirmWithoutDeadline,
    /// `now()` instead of `clock_timestamp()`.
    ClockBeforeLock,
    /// One statement that locks and decides: after the wait it still sees what was before.
    SnapshotBeforeLock,
    /// The expirer ends what it found due before it had the lock, without looking at it again.
    ReclaimWithoutCompare,
    ReserveWithoutReclaim,
    /// A reserve that finds nothing free or due refuses without a lock; it reads the clock, and then the
    /// tables. (The other way round both are true of one moment, and nobody else takes notice.)
    PeekWithEarlierClock,
    /// The expirer hears of a deadline when it passes, as by Redis alone, and never looks back.
    ExpireWithoutSweep,
    ExtendWithoutDeadline,
    /// Neither the look for an earlier one nor the unique index.
    ReacquireWithoutLook,
    /// It looks, before it has the lock, and there is no unique index.
    ReacquireBeforeLock,
    ReacquireWithoutLimit,
    /// It returns what it found CONFIRMED before it had the lock, without looking at it again.
    ReturnWithoutCompare,
    AnswerBeforeCommit,
    /// Confirm publishes the event itself, and then commits.
    PublishBeforeCommit,
    /// The outbox row in a transaction after the sale's.
    EventAfterCommit,
    /// The relay marks what it sent, whatever the broker says.
    MarkBeforeConfirm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Verb {
    /// For a user.
    Reserve(u8),
    Confirm(u8),
    Cancel(u8),
    Extend(u8),
    /// Of what this hold has lost.
    Reacquire(u8),
    Return(u8),
    /// Takes a free unit away, or adds one.
    Adjust(i8),
    Expire,
}

/// What clients ask for in a world; expirers are in each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Reserve,
    Confirm,
    Cancel,
    Extend,
    Reacquire,
    Return,
    Adjust,
}

/// Where a connection or an expirer is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Process {
    Idle,
    /// Has no lock and has done nothing, but takes along what it saw.
    Waiting(Verb, Seen),
    /// Looks whether to wait for the lock at all. `sold_out`: whether that was true at any time since.
    Peeking {
        user: u8,
        clock: u8,
        sold_out: bool,
    },
    /// The only one who has the product's lock, since `locked_at`.
    Locked {
        verb: Verb,
        locked_at: u8,
        seen: Option<Seen>,
    },
    /// Has the lock and the time by which it decides.
    Timed {
        verb: Verb,
        locked_at: u8,
        t: u8,
        seen: Option<Seen>,
    },
    /// Has the lock, has written, and has not committed.
    Written {
        locked_at: u8,
        work: Work,
    },
    /// Has committed; the answer is on its way.
    Answering(Answer),
    /// A broken twin's: has sold, and not written the event.
    OwesEvent(u8),
}

/// What was seen before the wait for the lock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seen {
    pub(crate) clock: u8,
    pub(crate) tables: Tables,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) clock: u8,
    pub(crate) tables: Tables,
    /// In any order, like the other processes: who is who makes no difference.
    pub(crate) connections: Vec<Process>,
    pub(crate) expirers: Vec<Process>,
    pub(crate) relays: Vec<Relay>,
    /// How often each hold's event reached the broker, counted up to 2.
    pub(crate) delivered: Vec<u8>,
    /// Whether somebody was told that this hold is CONFIRMED.
    pub(crate) told_confirmed: Vec<bool>,
    pub(crate) told_sold_out_wrongly: bool,
}

impl Process {
    fn has_lock(&self) -> bool {
        matches!(
            self,
            Self::Locked { .. } | Self::Timed { .. } | Self::Written { .. }
        )
    }

    /// Whether it may come to a new row.
    pub(crate) fn needs_room(&self) -> bool {
        match self {
            Self::Waiting(verb, _) | Self::Locked { verb, .. } | Self::Timed { verb, .. } => {
                matches!(verb, Verb::Reserve(_) | Verb::Reacquire(_))
            }
            Self::Written { work, .. } => work.makes_row(),
            Self::Peeking { .. } => true,
            Self::Idle | Self::Answering(_) | Self::OwesEvent(_) => false,
        }
    }
}

impl State {
    /// Whether somebody has the product's lock. A crash gives it back: PostgreSQL rolls back.
    pub(crate) fn is_locked(&self) -> bool {
        self.connections
            .iter()
            .chain(&self.expirers)
            .any(Process::has_lock)
    }

    /// The broker has the event of this hold, whatever becomes of whoever sent it.
    pub(crate) fn deliver(&mut self, hold: u8) {
        let delivered = &mut self.delivered[usize::from(hold)];
        *delivered = 2.min(*delivered + 1);
    }

    pub(crate) fn tell(&mut self, answer: Answer) {
        match answer {
            Answer::Confirmed(id) => self.told_confirmed[usize::from(id)] = true,
            Answer::WronglySoldOut => self.told_sold_out_wrongly = true,
            Answer::Done | Answer::Refused => {}
        }
    }
}
