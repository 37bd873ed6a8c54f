//! A relay: one transaction from claim to mark. The broker in between is not part of the transaction.
//!
//! A relay that does not want to wait for the confirms ends this transaction with a lease for the rows without one. It
//! records their confirms in a later transaction, if the rows still have this lease.

use crate::{
    tables::Event,
    world::{State, Twin},
};

/// Rows of the outbox, as bits.
pub(crate) type Rows = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Relay {
    Idle,
    /// Has locked these rows.
    Claimed(Rows),
    /// PostgreSQL has ended its transaction (`idle_in_transaction_session_timeout`), and the relay does not know it
    /// yet.
    Frozen(Rows),
    /// Has sent its claimed rows, of which these arrived, and waits for confirms.
    Sent {
        claimed: Rows,
        arrived: Rows,
    },
    /// Has marked, but not committed. Of the other rows, these arrived.
    Marked {
        claimed: Rows,
        marked: Rows,
        arrived: Rows,
    },
    /// Has no transaction, and waits for the confirms of leased rows. These arrived.
    Waiting {
        leased: Rows,
        arrived: Rows,
        lease: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    Claim,
    Freeze,
    /// Sends everything. These rows arrive.
    Publish(Rows),
    /// These rows are confirmed. A return, a nack, a timeout and a lost connection all count as no confirm.
    Mark(Rows),
    Commit,
    /// Commits, with a lease for the rows that are not confirmed.
    Lease,
    /// A new lease for the rows that still have the old one.
    Renew,
    /// Marks these rows, which were confirmed late, if they still have their lease. The check and the mark are one
    /// transaction with the rows' locks, so nothing comes between them.
    Record(Rows),
    Die,
}

impl Relay {
    /// The possible next steps of this relay, its broker, its network and its machine.
    pub(crate) fn steps(&self, state: &State, leases_max: u8) -> Vec<Step> {
        let may_lease = state.leases < leases_max;
        match *self {
            Self::Idle if unclaimed(state) == 0 => vec![],
            Self::Idle => vec![Step::Claim],
            Self::Claimed(rows) => [Step::Freeze, Step::Die]
                .into_iter()
                .chain(subsets(rows).map(Step::Publish))
                .collect(),
            Self::Frozen(rows) => [Step::Die]
                .into_iter()
                .chain(subsets(rows).map(Step::Publish))
                .collect(),
            Self::Sent { arrived, .. } => [Step::Die]
                .into_iter()
                .chain(subsets(arrived).map(Step::Mark))
                .collect(),
            Self::Marked {
                claimed, marked, ..
            } => {
                let lease = (may_lease && marked != claimed).then_some(Step::Lease);
                [Step::Commit, Step::Die].into_iter().chain(lease).collect()
            }
            Self::Waiting { arrived, .. } => {
                let renew = may_lease.then_some(Step::Renew);
                let confirmed = subsets(arrived).filter(|rows| *rows != 0);
                [Step::Die]
                    .into_iter()
                    .chain(renew)
                    .chain(confirmed.map(Step::Record))
                    .collect()
            }
        }
    }

    pub(crate) fn next(&self, step: Step, state: &mut State, twin: Option<Twin>) -> Option<Self> {
        match (*self, step) {
            (Self::Idle, Step::Claim) => match unclaimed(state) {
                0 => None,
                rows => Some(Self::Claimed(rows)),
            },
            (Self::Claimed(rows), Step::Freeze) => Some(Self::Frozen(rows)),
            (Self::Claimed(claimed), Step::Publish(arrived)) => {
                deliver(arrived, state);
                Some(if twin == Some(Twin::MarkBeforeConfirm) {
                    Self::Marked {
                        claimed,
                        marked: claimed,
                        arrived: 0,
                    }
                } else {
                    Self::Sent { claimed, arrived }
                })
            }
            // A later mark fails, because the transaction has ended.
            (Self::Frozen(_), Step::Publish(arrived)) => {
                deliver(arrived, state);
                Some(Self::Idle)
            }
            (Self::Sent { claimed, arrived }, Step::Mark(marked)) => Some(Self::Marked {
                claimed,
                marked,
                arrived: arrived & !marked,
            }),
            (Self::Marked { marked, .. }, Step::Commit) => {
                mark(marked, state);
                Some(Self::Idle)
            }
            (
                Self::Marked {
                    claimed,
                    marked,
                    arrived,
                },
                Step::Lease,
            ) => {
                mark(marked, state);
                Some(lease(claimed & !marked, arrived, state))
            }
            (
                Self::Waiting {
                    leased,
                    arrived,
                    lease: old,
                },
                Step::Renew,
            ) => {
                let ours = ours(leased, old, state);
                Some(match ours {
                    0 => Self::Idle,
                    _ => lease(ours, arrived & ours, state),
                })
            }
            (
                Self::Waiting {
                    leased,
                    arrived,
                    lease,
                },
                Step::Record(confirmed),
            ) => {
                let ours = match twin {
                    Some(Twin::RecordWithoutLease) => unlocked(confirmed, state),
                    _ => ours(confirmed, lease, state),
                };
                mark(ours, state);
                state.marked_late |= ours != 0;
                Some(match leased & !confirmed {
                    0 => Self::Idle,
                    leased => Self::Waiting {
                        leased,
                        arrived: arrived & !confirmed,
                        lease,
                    },
                })
            }
            (_, Step::Die) => Some(Self::Idle),
            _ => None,
        }
    }

    /// The rows that are locked by this relay's transaction.
    fn locks(&self) -> Rows {
        match *self {
            Self::Idle | Self::Frozen(_) | Self::Waiting { .. } => 0,
            Self::Claimed(claimed) | Self::Sent { claimed, .. } | Self::Marked { claimed, .. } => {
                claimed
            }
        }
    }
}

/// The unpublished rows without a lease that no other relay has locked (SKIP LOCKED).
fn unclaimed(state: &State) -> Rows {
    let ready = of_rows(state, |event| !event.published && !event.is_leased);
    unlocked(ready, state)
}

/// Those of the rows that are unpublished, not locked, and were not leased again or replayed since this lease. It does
/// not matter whether the lease has ended.
fn ours(rows: Rows, lease: u8, state: &State) -> Rows {
    let ours = of_rows(state, |event| !event.published && event.lease == lease);
    unlocked(rows & ours, state)
}

fn unlocked(rows: Rows, state: &State) -> Rows {
    let locks = state.relays.iter().map(Relay::locks);
    rows & !locks.fold(0, |rows, locked| rows | locked)
}

fn of_rows(state: &State, is_meant: impl Fn(&Event) -> bool) -> Rows {
    let rows = state.tables.outbox.iter().zip(0..);
    let meant = rows.filter(|(event, _)| is_meant(event));
    meant.fold(0, |rows, (_, row)| rows | 1 << row)
}

fn mark(rows: Rows, state: &mut State) {
    for row in bits(rows) {
        state.tables.outbox[usize::from(row)].published = true;
    }
}

fn lease(rows: Rows, arrived: Rows, state: &mut State) -> Relay {
    state.leases += 1;
    for row in bits(rows) {
        let event = &mut state.tables.outbox[usize::from(row)];
        (event.lease, event.is_leased) = (state.leases, true);
    }
    Relay::Waiting {
        leased: rows,
        arrived,
        lease: state.leases,
    }
}

fn deliver(rows: Rows, state: &mut State) {
    for row in bits(rows) {
        let event = &mut state.tables.outbox[usize::from(row)];
        event.is_owed = false;
        let hold = event.hold;
        state.deliver(hold);
    }
}

fn bits(rows: Rows) -> impl Iterator<Item = u8> {
    (0..8).filter(move |row| rows & (1 << row) != 0)
}

/// Every subset, the whole set first.
fn subsets(of: Rows) -> impl Iterator<Item = Rows> {
    (0..=of).rev().filter(move |rows| rows & of == *rows)
}
