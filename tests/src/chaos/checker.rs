//! Whether the promises were kept: a pure function of the history.
//!
//! A row of `reservations` in the end tells the whole life of a hold: when it was made, until when it was
//! ACTIVE, how it ended. The service stamps each of its acts with the database's clock, read under the
//! product's lock, so those times are in the order in which the acts happened. Every answer must agree
//! with these lives at some moment between its request and its arrival; an unknown outcome agrees with either.
//! Refusals and reads take no lock: to them an act happens when it commits, which is a little after its time.

mod answers;
mod events;
mod keys;
mod live;
mod lives;
mod rows;
mod rules;
#[cfg(test)]
mod tests;

use std::fmt;

use super::history::History;
pub(super) use live::not_well;
use lives::Lives;
use rules::Rules;

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promise {
    /// More units held and sold than exist, at any moment.
    NoOversell,
    /// A unit that was free, or whose hold was past its deadline, was refused.
    NoUndersell,
    /// Counters that do not add up, or disagree with the reservations.
    Conservation,
    /// A hold that was seen to have ended is something else later.
    OneEnd,
    /// Confirmed or canceled past the deadline, or expired before it.
    ExactDeadline,
    /// Two ACTIVE holds of a user on one product.
    OneHold,
    /// A user had more units than a user may have, at any moment.
    FairShare,
    /// Of several products that were to be had together, some.
    AllOrNone,
    /// A lost hold that was reacquired twice, or that was not lost.
    ReacquiredOnce,
    /// What came again under its `Idempotency-Key` had another answer, or a second effect.
    OnceUnderAKey,
    /// An acknowledged answer that the database does not bear out.
    TrueAnswer,
    /// Something was done that nobody asked for, or that was answered as not done.
    NothingUnasked,
    /// A transition whose event did not arrive.
    NoLostEvent,
    /// An event that tells what did not happen, or tells it twice under different ids.
    TrueEvent,
    /// A hold past its deadline was left ACTIVE.
    Swept,
    /// The live page shows what is not so, or in the end not that all is well.
    TrueView,
    /// Redis keeps the timer of a hold that has ended.
    TimersGone,
    /// After the last fault something did not work again in time, or a process ended by itself.
    Recovery,
}

/// Whose history tells how it came about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum About {
    Hold(i64),
    Product(i64),
    Service,
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub promise: Promise,
    pub about: About,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.what)
    }
}

/// All violations in a history.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Found::default();
    let history = &keys::as_one(history, &mut found);
    let (lives, rules) = (Lives::of(history), Rules::of(history));
    answers::check(history, &lives, &rules, &mut found);
    rows::check(history, &lives, &rules, &mut found);
    events::check(history, &mut found);
    live::check(history, &mut found);
    found.0
}

#[derive(Default)]
struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, promise: Promise, about: About, what: impl Into<String>) {
        self.0.push(Violation {
            promise,
            about,
            what: what.into(),
        });
    }
}
