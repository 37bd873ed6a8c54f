//! Events that were lost, or made up.

use super::*;

#[test]
fn an_event_that_is_lost() {
    caught(Promise::NoLostEvent, |history| history.deliveries.clear());
    caught(Promise::NoLostEvent, |history| {
        history.stored.events.clear()
    });
    caught(Promise::NoLostEvent, |history| {
        history.stored.events[0].published = false
    });
    caught(Promise::NoLostEvent, |history| {
        history.stored.events[0].dead = true
    });
}

#[test]
fn an_event_that_is_not_true() {
    // Of a hold that was canceled.
    caught(Promise::TrueEvent, |history| {
        let sale = Sale {
            hold: 2,
            product: 1,
            user: 2,
            quantity: 1,
            confirmed: 4_050,
        };
        history.stored.events[0].sale = Some(sale);
    });
    // Two for one sale.
    caught(Promise::TrueEvent, |history| {
        let again = Event {
            id: "b".to_owned(),
            ..history.stored.events[0].clone()
        };
        history.stored.events.push(again);
    });
    // Changed on the way, or made up.
    caught(Promise::TrueEvent, |history| {
        if let Some(sale) = &mut history.deliveries[1].sale {
            sale.user = 7;
        }
    });
    caught(Promise::TrueEvent, |history| {
        history.deliveries[1].event = "b".to_owned()
    });
    caught(Promise::TrueEvent, |history| {
        history.deliveries[1].sale = None
    });
}
