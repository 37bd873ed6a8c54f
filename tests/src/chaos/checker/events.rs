//! Sales, the outbox, and what the consumer got.

use std::collections::{HashMap, HashSet};

use super::{About, Found, Lives, Promise};
use crate::chaos::history::{History, Hold, Sale, Status};

pub(super) fn check(history: &History, lives: &Lives, found: &mut Found) {
    let mut told: HashMap<i64, &str> = HashMap::new();
    for event in &history.stored.events {
        let about = about(event.sale.as_ref());
        if !is_true(event.sale.as_ref(), lives) {
            found.add(Promise::TrueEvent, about, format!("not a sale: {event:?}"));
            continue;
        }
        if event.dead || !event.published {
            let what = format!("left in the outbox: {event:?}");
            found.add(Promise::NoLostEvent, about, what);
        }
        if let Some(sale) = &event.sale
            && let Some(other) = told.insert(sale.hold, &event.id)
        {
            let what = format!(
                "hold {} has two events: {other} and {}",
                sale.hold, event.id
            );
            found.add(Promise::TrueEvent, about, what);
        }
    }
    let known: HashMap<&str, Option<&Sale>> = history
        .stored
        .events
        .iter()
        .map(|event| (event.id.as_str(), event.sale.as_ref()))
        .collect();
    let mut received = HashSet::new();
    for delivery in &history.deliveries {
        let sale = delivery.sale.as_ref();
        if known.get(delivery.event.as_str()) != Some(&sale) {
            let what = format!("not an event of the outbox: {delivery:?}");
            found.add(Promise::TrueEvent, about(sale), what);
        }
        received.extend(sale.map(|sale| sale.hold));
    }
    for Hold { id, status, .. } in &history.stored.holds {
        if *status == Status::Confirmed {
            let (about, lost) = (About::Hold(*id), Promise::NoLostEvent);
            if !told.contains_key(id) {
                found.add(lost, about, format!("hold {id} was sold without an event"));
            }
            if !received.contains(id) {
                let what = format!("the event of hold {id} was not received");
                found.add(lost, about, what);
            }
        }
    }
}

fn about(sale: Option<&Sale>) -> About {
    sale.map_or(About::Service, |sale| About::Hold(sale.hold))
}

/// An event tells of a hold that was sold, as it was sold.
fn is_true(sale: Option<&Sale>, lives: &Lives) -> bool {
    let Some(sale) = sale else { return false };
    lives.get(sale.hold).is_some_and(|life| {
        let hold = life.hold;
        let sold = Sale {
            hold: hold.id,
            product: hold.product,
            user: hold.user,
            quantity: hold.quantity,
            confirmed: hold.ended.unwrap_or_default(),
        };
        hold.status == Status::Confirmed && *sale == sold
    })
}
