//! The world of the model: its processes, their states, and their possible faults.

use crate::{
    relay::Relay,
    tables::{Answer, Tables, Work},
};

/// The size of the world: one product, and few enough of everything to explore all states.
#[derive(Clone, Copy)]
pub(crate) struct Protocol {
    pub(crate) units: i8,
    pub(crate) users: u8,
    /// The number of units that each user asks for.
    pub(crate) wants: &'static [i8],
    /// Maximum number of units that a user may hold and have bought.
    pub(crate) max_per_user: i8,
    pub(crate) kinds: &'static [Kind],
    pub(crate) holds_max: u8,
    /// The clock stops here.
    pub(crate) clock_max: u8,
    pub(crate) connections: usize,
    pub(crate) expirers: usize,
    pub(crate) relays: usize,
    /// How many leases the relays may take, and how often an event may be replayed.
    pub(crate) leases_max: u8,
    pub(crate) replays_max: u8,
    pub(crate) twin: Option<Twin>,
}

/// A fault in the protocol.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Twin {
    ConfirmWithoutDeadline,
    /// `now()` instead of `clock_timestamp()`.
    ClockBeforeLock,
    /// One statement locks and decides. After the wait it still sees the old state.
    SnapshotBeforeLock,
    /// The expirer ends holds that were due before it had the lock, without checking them again.
    ReclaimWithoutCompare,
    ReserveWithoutReclaim,
    /// A reserve that finds no free and no due unit refuses without a lock, but reads the clock before the tables.
    /// (In the right order, both are true at one moment, so the model leaves it out.)
    PeekWithEarlierClock,
    /// The expirer only reacts to a deadline at the moment when it passes, as with Redis alone, and never sweeps.
    ExpireWithoutSweep,
    ExtendWithoutDeadline,
    /// Neither searches for an earlier reacquire nor has the unique index.
    ReacquireWithoutLook,
    /// Searches before it has the lock, and has no unique index.
    ReacquireBeforeLock,
    ReacquireWithoutLimit,
    /// Returns what was CONFIRMED before it had the lock, without checking again.
    ReturnWithoutCompare,
    AnswerBeforeCommit,
    /// Confirm publishes the event itself before its commit.
    PublishBeforeCommit,
    /// The outbox row is written in a later transaction than the sale.
    EventAfterCommit,
    /// The relay marks what it sent without waiting for the broker's confirm.
    MarkBeforeConfirm,
    /// The relay records a late confirm by the id of the row, without checking that the row still has its lease.
    RecordWithoutLease,
    /// A row stays leased until its relay records an outcome, even if this relay is dead.
    LeaseWithoutEnd,
    /// A reserve takes free and due units although other users wait for them.
    ReserveBesideLine,
    /// Units come free in one transaction, and are offered to those who wait in a later one.
    OfferAfterCommit,
    /// If the first in line wants more units than are free, the next is served.
    OfferToWhoFits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Verb {
    /// For a user.
    Reserve(u8),
    Confirm(u8),
    Cancel(u8),
    Extend(u8),
    /// The units of this expired hold.
    Reacquire(u8),
    Return(u8),
    /// Removes a free unit, or adds one.
    Adjust(i8),
    /// A user joins or leaves the waitlist.
    Join(u8),
    Leave(u8),
    Expire,
}

/// The kinds of calls in a world. Every world has expirers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Reserve,
    Confirm,
    Cancel,
    Extend,
    Reacquire,
    Return,
    Adjust,
    Join,
    Leave,
}

/// The state of a connection or an expirer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Process {
    Idle,
    /// Waits for the lock with what it has read before.
    Waiting(Verb, Seen),
    /// Checks without a lock whether the product is sold out. `sold_out`: whether that was true at any time since the
    /// start.
    Peeking {
        user: u8,
        clock: u8,
        sold_out: bool,
    },
    /// Holds the product's lock since `locked_at`.
    Locked {
        verb: Verb,
        locked_at: u8,
        seen: Option<Seen>,
    },
    /// Holds the lock, and has read the clock.
    Timed {
        verb: Verb,
        locked_at: u8,
        t: u8,
        seen: Option<Seen>,
    },
    /// Holds the lock, and has written but not committed.
    Written {
        locked_at: u8,
        work: Work,
    },
    /// Has committed. The answer is on its way.
    Answering(Answer),
    /// Only in a broken twin: has sold, but not written the event.
    OwesEvent(u8),
}

/// What was read before the wait for the lock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seen {
    pub(crate) clock: u8,
    pub(crate) tables: Tables,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) clock: u8,
    pub(crate) tables: Tables,
    /// Sorted, like the other processes: their order makes no difference.
    pub(crate) connections: Vec<Process>,
    pub(crate) expirers: Vec<Process>,
    pub(crate) relays: Vec<Relay>,
    /// How often each hold's event reached the broker, counted up to 2.
    pub(crate) delivered: Vec<u8>,
    /// Whether a client was told that this hold is CONFIRMED.
    pub(crate) told_confirmed: Vec<bool>,
    pub(crate) told_sold_out_wrongly: bool,
    /// Number of leases so far. Each lease has its own number.
    pub(crate) leases: u8,
    pub(crate) replays: u8,
    /// Whether a confirm was recorded under a lease.
    pub(crate) marked_late: bool,
}

impl Process {
    fn has_lock(&self) -> bool {
        matches!(
            self,
            Self::Locked { .. } | Self::Timed { .. } | Self::Written { .. }
        )
    }

    /// Whether it may create a row.
    pub(crate) fn needs_room(&self) -> bool {
        match self {
            Self::Waiting(verb, _) | Self::Locked { verb, .. } | Self::Timed { verb, .. } => {
                matches!(verb, Verb::Reserve(_) | Verb::Reacquire(_) | Verb::Join(_))
            }
            Self::Written { work, .. } => work.makes_row(),
            Self::Peeking { .. } => true,
            Self::Idle | Self::Answering(_) | Self::OwesEvent(_) => false,
        }
    }
}

impl State {
    /// Whether any process has the product's lock. A crash releases it, because PostgreSQL rolls back.
    pub(crate) fn is_locked(&self) -> bool {
        self.connections
            .iter()
            .chain(&self.expirers)
            .any(Process::has_lock)
    }

    /// The broker receives the event of this hold.
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
