//! Group commit for hot rows: concurrent requests share one call.
//!
//! # Problem
//!
//! A database commits changes of one row one after the other. With one transaction per request, one row allows only a
//! few hundred changes per second on any hardware.
//!
//! # Solution
//!
//! A **lane** is a queue in front of a call. A lane runs at most one call at a time. Requests that arrive during the
//! call wait in the queue, and the next call takes all of them as one **batch**. As long as calls need not wait for locks, no
//! request waits for more to come: if requests come one at a time, a batch has one request, and a lane is a direct call. The
//! busier a lane, the larger its batches, and the less each request costs.
//!
//! Requests for the same row belong in the same lane, which a key selects ([`Lanes::ask`]). Two concurrent batches
//! for one row would only wait for each other's lock. Several lanes serve several rows at the same time.
//!
//! # Turns
//!
//! A lane serves many keys. If one of them has thousands of waiting requests, the others must not wait for all of
//! these. So each key has a queue of its own, and the keys with waiting requests share each batch equally. A request
//! of a quiet key waits for at most one batch. A lane that is full still accepts requests of a key that has less than
//! its share of the queue.
//!
//! Some requests do not name their row, and its id must be looked up ([`Lanes::ask_unkeyed`]). As long as the next batch
//! takes all that wait, the key decides nothing, and these requests wait without one. They are the first in the next
//! batch. Only when more requests wait are the keys of further ones looked up.
//!
//! # Limits
//!
//! The size of a batch, the length of the queue, and the time in the queue have limits ([`Limits`]). Nothing was done
//! yet for a request in the queue. Therefore it can be refused ([`NoAnswer::Overloaded`]), and it is dropped if its
//! client has disconnected. If a call panics or returns the wrong number of answers, all requests of its batch get
//! [`NoAnswer::OutcomeUnknown`], and the lane continues.
//!
//! # Several processes
//!
//! If another process changes the same row, a batch waits for the row's lock. Requests that arrive during the wait
//! are not part of the batch, so several processes would send small batches in turns, and each call would cost a wait. So a
//! call tells how long it has waited ([`Answers::after_wait`]), and its lane gathers requests before the next call: until as many
//! wait as the last batch had and as waited behind it, or for at most as long as that call took.
//!
//! # Blocked rows
//!
//! A row whose lock is never released would make every batch with this row fail. [`Quarantine`] detects such rows,
//! and keeps their requests out of the batches until the lock is free.
//!
//! This crate depends on neither HTTP nor SQL.

#![warn(missing_docs)]

mod answers;
mod lane;
mod overload;
mod pace;
mod quarantine;
mod queue;

pub use answers::Answers;
pub use lane::{Lanes, Limits};
pub use overload::{NoAnswer, Overload};
pub use quarantine::{LockProbe, Quarantine};

#[cfg(test)]
mod tests;
