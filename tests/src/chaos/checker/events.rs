//! Checks that the transitions, the outbox and the received messages match.

use std::collections::{HashMap, HashSet};

use super::finding::{About, Found, Promise};
use crate::chaos::history::{Adjustment, Entry, History, Hold, Status, Told};

pub(super) fn check(history: &History, found: &mut Found) {
    let rows = history.stored.holds.iter().flat_map(of_hold);
    let wanted: Vec<Told> = rows
        .chain(history.stored.adjustments.iter().map(of_adjustment))
        .chain(history.stored.entries.iter().filter_map(of_offer))
        .collect();
    let happened: HashMap<(&str, i64), &Told> =
        wanted.iter().map(|told| (key(told), told)).collect();
    let mut written: HashMap<(&str, i64), &str> = HashMap::new();
    for event in &history.stored.events {
        let about = about(event.told.as_ref());
        let Some(told) = event
            .told
            .as_ref()
            .filter(|told| happened.get(&key(told)) == Some(told))
        else {
            let what = format!("it did not happen: {event:?}");
            found.add(Promise::TrueEvent, about, what);
            continue;
        };
        if event.dead || event.published_at.is_none() {
            let what = format!("left in the outbox: {event:?}");
            found.add(Promise::NoLostEvent, about, what);
        }
        if let Some(other) = written.insert(key(told), &event.id) {
            let what = format!("two events: {told:?} has {other} and {}", event.id);
            found.add(Promise::TrueEvent, about, what);
        }
    }
    let known: HashMap<&str, Option<&Told>> = history
        .stored
        .events
        .iter()
        .map(|event| (event.id.as_str(), event.told.as_ref()))
        .collect();
    let mut received = HashSet::new();
    for delivery in &history.deliveries {
        let told = delivery.told.as_ref();
        if known.get(delivery.event.as_str()) != Some(&told)
            || told.is_some_and(|told| delivery.version != version(told))
        {
            let what = format!("not an event of the outbox: {delivery:?}");
            found.add(Promise::TrueEvent, about(told), what);
        }
        received.extend(told.map(key));
    }
    for told in &wanted {
        let (about, lost) = (about(Some(told)), Promise::NoLostEvent);
        if !written.contains_key(&key(told)) {
            found.add(lost, about, format!("the event is missing: {told:?}"));
        }
        if !received.contains(&key(told)) {
            found.add(lost, about, format!("the event was not received: {told:?}"));
        }
    }
}

fn about(told: Option<&Told>) -> About {
    match told {
        None => About::Service,
        Some(told) => match told.hold() {
            Some(hold) => About::Hold(hold),
            None => About::Product(told.product),
        },
    }
}

fn key(told: &Told) -> (&str, i64) {
    (&told.event_type, told.id)
}

/// The version by which consumers order the events of a reservation.
fn version(told: &Told) -> Option<i64> {
    match told.event_type.as_str() {
        "ReservationCreated" | "WaitlistOffered" => Some(1),
        "StockAdjusted" => None,
        "ReservationReturned" => Some(3),
        _ => Some(2),
    }
}

/// All transitions of a hold, from its row.
fn of_hold(hold: &Hold) -> Vec<Told> {
    let created = Some(hold.created).filter(|_| hold.reacquired_from.is_none());
    let ended = |status| hold.ended.filter(|_| hold.status == status);
    [
        ("ReservationCreated", created),
        ("ReservationConfirmed", hold.confirmed),
        ("ReservationCanceled", ended(Status::Canceled)),
        ("ReservationExpired", ended(Status::Expired)),
        ("ReservationReturned", ended(Status::Returned)),
    ]
    .into_iter()
    .filter_map(|(event_type, at)| {
        Some(Told {
            event_type: event_type.to_owned(),
            id: hold.id,
            product: hold.product,
            user: hold.user,
            quantity: hold.quantity,
            at: at?,
        })
    })
    .collect()
}

/// The offer of an entry, by its hold.
fn of_offer(entry: &Entry) -> Option<Told> {
    Some(Told {
        event_type: "WaitlistOffered".to_owned(),
        id: entry.hold?,
        product: entry.product,
        user: entry.user,
        quantity: entry.quantity,
        at: entry.ended?,
    })
}

fn of_adjustment(adjusted: &Adjustment) -> Told {
    Told {
        event_type: "StockAdjusted".to_owned(),
        id: adjusted.id,
        product: adjusted.product,
        user: 0,
        quantity: adjusted.delta,
        at: adjusted.at,
    }
}
