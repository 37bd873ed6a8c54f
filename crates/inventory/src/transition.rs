//! The transitions that a call made, in one list: whoever follows reservations (timers, counters, metrics, the live
//! page's feed) reads this list once the call is committed.

use crate::reservation::Reservation;

/// One entry of the list.
#[derive(Clone, Copy, Debug)]
pub enum Transition<'a> {
    /// A request changed this reservation, or repeated an earlier request.
    Of(Change, &'a Reservation),
    /// This many due holds were expired on the way. Their ids are not known.
    Expired(u64),
}

/// What a successful request did to its reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new hold.
    Reserved,
    /// The hold has the deadline that it was asked for, or its longest one.
    Extended,
    /// The hold was sold.
    Confirmed,
    /// The units of an expired hold were sold with a new reservation, which is CONFIRMED from the start.
    Reacquired,
    /// The hold was given up.
    Canceled,
    /// The sale was taken back.
    Returned,
    /// Nothing: an earlier request did it, or another one of the same batch.
    Repeated,
}
