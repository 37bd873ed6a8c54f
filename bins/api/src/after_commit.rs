//! Effects after the commit of a call. Its transitions are reported to Redis, to `/metrics` and to the live page.

use std::sync::Arc;

use inventory::{
    event::Events,
    reservation::{Reservation, Status},
    transition::{Change, Transition},
};
use presence::Feed;
use timer::{Counter, Notes, Timer};

use crate::metrics::Metrics;

/// The followers of transitions. A clone is cheap: each call has its own.
#[derive(Clone)]
pub(crate) struct AfterCommit {
    timer: Timer,
    metrics: &'static Metrics,
    feed: Arc<Feed>,
    events: &'static Events,
}

impl AfterCommit {
    /// `events` are the types of events that the calls write.
    pub(crate) fn new(
        timer: Timer,
        metrics: &'static Metrics,
        feed: Arc<Feed>,
        events: &'static Events,
    ) -> Self {
        Self {
            timer,
            metrics,
            feed,
            events,
        }
    }

    /// Reports the transitions of one committed call to all followers.
    pub(crate) fn tell<'a>(&self, transitions: impl Iterator<Item = Transition<'a>> + Clone) {
        self.timer.note(|notes| {
            let mut wakes_relay = false;
            for transition in transitions.clone() {
                note(notes, transition);
                self.metrics.count(transition);
                wakes_relay = wakes_relay || transition.has_event(self.events);
            }
            if wakes_relay {
                notes.wake_relay();
            }
        });
        self.feed.note(transitions);
    }

    /// Tells relays of events that a call made due again.
    pub(crate) fn wake_relay(&self) {
        self.timer.note(|notes| notes.wake_relay());
    }
}

/// Sets or removes the timer of a hold, and increments the counters in Redis.
fn note(notes: &mut Notes<'_>, transition: Transition<'_>) {
    let (change, reservation) = match transition {
        Transition::Of(change, reservation) => (change, reservation),
        Transition::Expired(count) => return notes.count(Counter::Expired, count),
        // Without timers: the holds are not known here. The sweep that waits for the next deadline ends them in time.
        Transition::Offered(count) => return notes.count(Counter::Created, count),
        Transition::StockAdjusted => return,
    };
    let id = reservation.id.get();
    match change {
        Change::Reserved => {
            notes.count(Counter::Created, 1);
            notes.arm(id, deadline_unix_ms(reservation));
        }
        Change::Extended => notes.arm(id, deadline_unix_ms(reservation)),
        Change::Confirmed => {
            notes.count(Counter::Confirmed, 1);
            notes.disarm(id);
        }
        Change::Reacquired => {
            notes.count(Counter::Created, 1);
            notes.count(Counter::Confirmed, 1);
        }
        Change::Canceled => {
            notes.count(Counter::Canceled, 1);
            notes.disarm(id);
        }
        // A sale has no timer, and no counter counts returns.
        Change::Returned => {}
        // The process that made the change may have stopped before it told Redis.
        Change::Repeated if reservation.status == Status::Active => {
            notes.arm(id, deadline_unix_ms(reservation));
        }
        Change::Repeated => notes.disarm(id),
    }
}

fn deadline_unix_ms(hold: &Reservation) -> i64 {
    let deadline = hold.expires_at;
    deadline.unix_timestamp() * 1000 + i64::from(deadline.millisecond())
}
