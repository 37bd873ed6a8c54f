//! The list of transitions of a call. All followers of reservations (timers, counters, metrics, and the live page's
//! feed) read this list after the commit of the call.

use crate::{event::Events, reservation::Reservation};

/// One entry of the list.
#[derive(Clone, Copy, Debug)]
pub enum Transition<'a> {
    /// A request changed this reservation, or repeated an earlier request.
    Of(Change, &'a Reservation),
    /// The call also expired this number of due holds. Their ids are not known.
    Expired(u64),
    /// The call also offered this number of holds to users who waited for units.
    Offered(u64),
    /// The call changed the stock of a product, and perhaps of further ones.
    StockAdjusted,
}

impl Transition<'_> {
    /// Whether the call wrote events about it, if it writes these types of events.
    pub fn has_event(self, events: &Events) -> bool {
        let types = events.types();
        match self {
            Self::Of(change, _) => change
                .event_type()
                .is_some_and(|event_type| types.contains(&event_type)),
            Self::Expired(_) => types.contains(&"ReservationExpired"),
            Self::Offered(_) => {
                types.contains(&"ReservationCreated") || types.contains(&"WaitlistOffered")
            }
            Self::StockAdjusted => types.contains(&"StockAdjusted"),
        }
    }
}

/// The change that a successful request made to its reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new hold.
    Reserved,
    /// The hold has a new deadline.
    Extended,
    /// The hold was sold.
    Confirmed,
    /// The units of an expired hold were sold with a new reservation, which is CONFIRMED from the start.
    Reacquired,
    /// The hold was canceled.
    Canceled,
    /// The sale was returned.
    Returned,
    /// No change: an earlier request, or another request of the same batch, had already made it.
    Repeated,
}

impl Change {
    /// The type of its event. `None`: it has none.
    fn event_type(self) -> Option<&'static str> {
        match self {
            Self::Reserved => Some("ReservationCreated"),
            Self::Confirmed | Self::Reacquired => Some("ReservationConfirmed"),
            Self::Canceled => Some("ReservationCanceled"),
            Self::Returned => Some("ReservationReturned"),
            Self::Extended | Self::Repeated => None,
        }
    }
}

/// The entry for due holds that a call expired on the way, if there were any.
pub(crate) fn expired<'a>(holds: u64) -> Option<Transition<'a>> {
    (holds > 0).then_some(Transition::Expired(holds))
}

/// The entry for holds that a call offered to a waitlist, if there were any.
pub(crate) fn offered<'a>(holds: u64) -> Option<Transition<'a>> {
    (holds > 0).then_some(Transition::Offered(holds))
}
