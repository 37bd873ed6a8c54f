//! A relay: one transaction from claim to mark, and a broker in the middle of it that no transaction holds.

use crate::world::{State, Twin};

/// Rows of the outbox, as bits.
pub(crate) type Rows = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Relay {
    Idle,
    /// Has locked these rows.
    Claimed(Rows),
    /// PostgreSQL has ended its transaction (`idle_in_transaction_session_timeout`), and it does not know.
    Frozen(Rows),
    /// Has sent what it claimed, of which so much arrived, and waits for the broker's confirms.
    Sent {
        claimed: Rows,
        arrived: Rows,
    },
    /// Has marked, and not committed.
    Marked {
        claimed: Rows,
        marked: Rows,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    Claim,
    Freeze,
    /// Sends everything; so much arrives.
    Publish(Rows),
    /// So many confirms come; a return, a nack, a time-out and a lost connection are the same: none.
    Mark(Rows),
    Commit,
    Die,
}

impl Relay {
    /// What this relay, its broker, its network and its machine can do next.
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
            // What it marks afterwards is refused: its transaction is gone.
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

/// What is unpublished, less what SKIP LOCKED skips.
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

/// Every subset, the whole first.
fn subsets(of: Rows) -> impl Iterator<Item = Rows> {
    (0..=of).rev().filter(move |rows| rows & of == *rows)
}
