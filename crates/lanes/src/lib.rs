//! Group commit for hot rows: concurrent requests share one call.
//!
//! # Problem
//!
//! A database commits changes of one row one after the other. With a transaction per request, a popular row allows some
//! hundred changes per second, whatever the hardware.
//!
//! # Solution
//!
//! A **lane** is a queue in front of a call. At most one call is under way per lane. Requests that arrive meanwhile
//! wait in the queue, and the next call takes all of them as one **batch**. There is no timer and no added delay: with
//! one request at a time a batch has one request, and a lane is a direct call. The busier a lane, the larger its
//! batches, and the less each request costs.
//!
//! Requests for the same row belong into the same lane, chosen by a key ([`Lanes::ask`]). Two batches under way for one
//! row would only wait for each other's lock. Several lanes serve several rows at once.
//!
//! # Limits
//!
//! A batch, the queue, and the time in the queue are bounded ([`Limits`]). Nothing was done yet for a request in the
//! queue. So it can be refused ([`NoAnswer::Overloaded`]), and it is dropped when its client has hung up. A call that
//! panics, or that returns too few answers, costs its batch ([`NoAnswer::OutcomeUnknown`]), and the lane goes on.
//!
//! # Several processes
//!
//! A batch that waits for a row's lock, because another process changes the same row, would miss the requests that
//! arrive during the wait. A call can take these along once it has the lock: it asks its [`Turn`] for latecomers.
//!
//! # Blocked rows
//!
//! A row whose lock is never released would fail each batch that needs it. [`Quarantine`] finds such rows, and keeps
//! their requests out of the batches until the lock is free.
//!
//! This crate knows neither HTTP nor SQL.

mod lane;
mod overload;
mod quarantine;

pub use lane::{Lanes, Limits, Turn};
pub use overload::{NoAnswer, Overload};
pub use quarantine::{LockProbe, Quarantine};

#[cfg(test)]
mod tests;
