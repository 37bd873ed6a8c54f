//! A relay: one transaction from claim to mark. The broker in between is not part of the transaction.

use crate::world::{State, Twin};

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
    /// Has marked, but not committed.
    Marked {
        claimed: Rows,
        marked: Rows,
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
    Die,
}

impl Relay {
    /// The possible next steps of this relay, its broker, its network and its machine.
    pub(crate) fn steps(&self, state: &State) -> Vec<Step> {
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
            Self::Marked { .. } => vec![Step::Commit, Step::Die],
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
            (Self::Sent { claimed, .. }, Step::Mark(marked)) => {
                Some(Self::Marked { claimed, marked })
            }
            (Self::Marked { marked, .. }, Step::Commit) => {
                for row in bits(marked) {
                    state.tables.outbox[usize::from(row)].published = true;
                }
                Some(Self::Idle)
            }
            (_, Step::Die) => Some(Self::Idle),
            _ => None,
        }
    }

    /// The rows that are locked by this relay's transaction.
    fn locks(&self) -> Rows {
        match *self {
            Self::Idle | Self::Frozen(_) => 0,
            Self::Claimed(claimed) | Self::Sent { claimed, .. } | Self::Marked { claimed, .. } => {
                claimed
            }
        }
    }
}

/// The unpublished rows that no other relay has locked (SKIP LOCKED).
fn unclaimed(state: &State) -> Rows {
    let unpublished = state.tables.outbox.iter().zip(0..);
    let unpublished = unpublished.filter(|(event, _)| !event.published);
    let locked = state
        .relays
        .iter()
        .fold(0, |rows, other| rows | other.locks());
    unpublished.fold(0, |rows, (_, row)| rows | 1 << row) & !locked
}

fn deliver(rows: Rows, state: &mut State) {
    for row in bits(rows) {
        state.deliver(state.tables.outbox[usize::from(row)].hold);
    }
}

fn bits(rows: Rows) -> impl Iterator<Item = u8> {
    (0..8).filter(move |row| rows & (1 << row) != 0)
}

/// Every subset, the whole set first.
fn subsets(of: Rows) -> impl Iterator<Item = Rows> {
    (0..=of).rev().filter(move |rows| rows & of == *rows)
}
