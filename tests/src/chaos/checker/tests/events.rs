//! Lost and invented events.

use super::*;

#[test]
fn an_event_that_is_lost() {
    caught(Promise::NoLostEvent, |history| history.deliveries.clear());
    caught(Promise::NoLostEvent, |history| {
        history.stored.events.clear()
    });
    caught(Promise::NoLostEvent, |history| {
        history.stored.events[0].published_at = None
    });
    caught(Promise::NoLostEvent, |history| {
        history.stored.events[0].dead = true
    });
}

#[test]
fn an_event_that_is_not_true() {
    // The event of a sale for a canceled hold.
    caught(Promise::TrueEvent, |history| {
        let row = &history.stored.holds[1];
        history.stored.events[0].told = Some(told("ReservationConfirmed", row, 4_050));
    });
    // Two events for one sale.
    caught(Promise::TrueEvent, |history| {
        let again = Event {
            id: "b".to_owned(),
            ..history.stored.events[0].clone()
        };
        history.stored.events.push(again);
    });
    // Changed on the way, or invented.
    caught(Promise::TrueEvent, |history| {
        if let Some(told) = &mut history.deliveries[1].told {
            told.user = 7;
        }
    });
    caught(Promise::TrueEvent, |history| {
        history.deliveries[1].event = "b".to_owned()
    });
    caught(Promise::TrueEvent, |history| {
        history.deliveries[1].told = None
    });
    // The version of another event.
    caught(Promise::TrueEvent, |history| {
        history.deliveries[1].version = Some(1)
    });
}

#[test]
fn every_transition_has_its_event() {
    for event in 0..clean().stored.events.len() {
        caught(Promise::NoLostEvent, |history| {
            history.stored.events.remove(event);
        });
    }
    for delivery in 2..clean().deliveries.len() {
        caught(Promise::NoLostEvent, |history| {
            history.deliveries.remove(delivery);
        });
    }
}
