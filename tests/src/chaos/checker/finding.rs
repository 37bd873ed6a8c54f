//! What the checks report: violations of guarantees.

use std::fmt;

use crate::chaos::history::{Operation, Request};

/// A guarantee that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Promise {
    /// More units were held and sold than exist, at any moment.
    NoOversell,
    /// A request was refused although a unit was free, or its hold past the deadline.
    NoUndersell,
    /// Counters do not add up, or do not match the reservations.
    Conservation,
    /// A hold that had ended later had another status.
    OneEnd,
    /// A hold was confirmed or canceled past the deadline, or expired before it.
    ExactDeadline,
    /// A user had two ACTIVE holds on one product.
    OneHold,
    /// A user had more units than `max_per_user`, at any moment.
    FairShare,
    /// A reserve of several products reserved only some of them.
    AllOrNone,
    /// An expired hold was reacquired twice, or a hold was reacquired that had not expired.
    ReacquiredOnce,
    /// A repeated request with the same `Idempotency-Key` had another answer or a second effect.
    OnceUnderAKey,
    /// Units went past users who waited for them, or a user was offered units twice or out of turn.
    StrictLine,
    /// An acknowledged answer does not match the database.
    TrueAnswer,
    /// The service did something without a request, or after answering that nothing was done.
    NothingUnasked,
    /// A transition has no event at the consumer.
    NoLostEvent,
    /// An event describes a transition that did not happen, or has two ids.
    TrueEvent,
    /// A hold past its deadline stayed ACTIVE.
    Swept,
    /// The live page showed something wrong, or does not show the healthy state at the end.
    TrueView,
    /// Redis keeps the timer of a hold that has ended.
    TimersGone,
    /// While hostile clients were connected, an API served no other client.
    OthersServed,
    /// An API kept connections, open files or memory of hostile clients, beyond its limits.
    Bounded,
    /// Something did not recover in time after the last fault, or a process ended by itself.
    Recovery,
}

/// The object whose history explains the violation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum About {
    Hold(i64),
    Product(i64),
    Service,
}

impl About {
    /// What an operation is about.
    pub(super) fn of(operation: &Operation) -> Self {
        match (operation.request.hold(), &operation.request) {
            (Some(hold), _) => Self::Hold(hold),
            (
                _,
                Request::Reserve { product, .. }
                | Request::Product(product)
                | Request::Adjust { product, .. }
                | Request::ChangeProduct { product, .. },
            ) => Self::Product(*product),
            _ => Self::Service,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) promise: Promise,
    pub(crate) about: About,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.what)
    }
}

/// The violations that were found so far.
#[derive(Default)]
pub(super) struct Found(pub(super) Vec<Violation>);

impl Found {
    pub(super) fn add(&mut self, promise: Promise, about: About, what: impl Into<String>) {
        self.0.push(Violation {
            promise,
            about,
            what: what.into(),
        });
    }
}
