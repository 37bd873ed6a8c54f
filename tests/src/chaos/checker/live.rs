//! Checks the messages of the live page.

use std::collections::BTreeMap;

use super::finding::{About, Found, Promise};
use crate::chaos::history::{History, Product, Shown, Stored, View};

/// The live page shows this many of the newest products.
const PRODUCTS_MAX: usize = 500;

/// Does not check whether each fault was shown: faults are too short for that. Must run after the other checks.
pub(super) fn check(history: &History, found: &mut Found) {
    let inventory_inconsistent = (found.0.iter()).any(|one| one.promise == Promise::Conservation);
    let dead = history.stored.events.iter().any(|event| event.dead);
    for (api, shown) in history.viewers.iter().enumerate() {
        let mut say = |promise, about, what: String| {
            found.add(
                promise,
                about,
                format!("the live page of api{}: {what}", api + 1),
            );
        };
        let mut read: Option<(usize, &View)> = None;
        for one in shown {
            let (at, connection) = (history.clock(one.at), one.connection);
            let view = match &one.message {
                Ok(view) => view,
                Err(text) => {
                    let what = format!("at {at} no message: {text:?}");
                    say(Promise::TrueView, About::Service, what);
                    continue;
                }
            };
            let before = read.filter(|(of, _)| *of == connection);
            if !follows(one, view, before.map(|(_, view)| view)) {
                let (number, before) = (view.number, before.map(|(_, view)| view.number));
                let after = &one.after;
                let what =
                    format!("at {at} tick {number} after {before:?}, or at first after {after:?}");
                say(Promise::TrueView, About::Service, what);
            }
            read = Some((connection, view));
            for product in view.products.iter().filter(|product| !product.conserves()) {
                let what = format!("at {at} the counters do not add up: {product:?}");
                say(Promise::Conservation, About::Product(product.id), what);
            }
            for alarm in false_alarms(view, (inventory_inconsistent, dead)) {
                let what = format!("at {at} a false alarm, {alarm}");
                say(Promise::TrueView, About::Service, what);
            }
        }
        for wrong in not_well(shown, &history.stored) {
            say(
                Promise::TrueView,
                About::Service,
                format!("at the end {wrong}"),
            );
        }
    }
}

/// Whether a message continues the previous one: nothing missed and nothing repeated. `before` is the previous
/// message on this connection, or the one in its `Last-Event-ID`. A state message is always complete.
fn follows(shown: &Shown, view: &View, before: Option<&View>) -> bool {
    let id = |of: &View, number| format!("{}-{number}", of.epoch);
    let last = match before {
        Some(before) => Some(id(before, before.number)),
        None => shown.after.clone(),
    };
    view.whole || view.number > 0 && last == Some(id(view, view.number - 1))
}

/// Alarms of a message about guarantees that hold. If a guarantee is broken, the other checks find it too: the
/// service repairs neither counters nor dead letters.
fn false_alarms(view: &View, (inventory_inconsistent, dead): (bool, bool)) -> Vec<String> {
    let alerts = view.alerts.iter().filter(|(code, _)| match code.as_str() {
        "inventory_inconsistent" => !inventory_inconsistent,
        "events_dead" => !dead,
        _ => false,
    });
    let alerts = alerts.map(|(code, title)| format!("{code}: {title}"));
    let unclean = view.clean == Some(false) && !inventory_inconsistent;
    let unclean = unclean.then(|| "an audit that is not clean".to_owned());
    alerts.chain(unclean).collect()
}

/// Differences between the last messages and the stored state. Empty if all is well.
pub(crate) fn not_well(shown: &[Shown], stored: &Stored) -> Vec<String> {
    let since = shown
        .iter()
        .rposition(|one| one.message.as_ref().is_ok_and(|view| view.whole));
    let views: Vec<&View> = shown[since.unwrap_or(shown.len())..]
        .iter()
        .filter_map(|one| one.message.as_ref().ok())
        .collect();
    let Some(last) = views
        .last()
        .filter(|_| shown.last().is_some_and(|one| one.at >= stored.read))
    else {
        return vec!["it shows nothing".to_owned()];
    };
    let mut wrong: Vec<String> = last
        .alerts
        .iter()
        .map(|(code, title)| format!("it shows {code}: {title}"))
        .collect();
    let dead = stored.events.iter().filter(|event| event.dead).count();
    let waiting = stored
        .events
        .iter()
        .filter(|event| event.published_at.is_none() && !event.dead)
        .count();
    let events = (last.waiting_events, last.dead_events);
    if events != (waiting as i64, dead as i64) {
        wrong.push(format!(
            "its events are {events:?}, where {waiting} wait and {dead} are dead"
        ));
    }
    let changes = views.iter().flat_map(|view| &view.products);
    let mut products: BTreeMap<i64, &Product> =
        changes.map(|product| (product.id, product)).collect();
    while products.len() > PRODUCTS_MAX {
        products.pop_first();
    }
    let mut rows: BTreeMap<i64, &Product> =
        stored.products.iter().map(|row| (row.id, row)).collect();
    while rows.len() > PRODUCTS_MAX {
        rows.pop_first();
    }
    let differ = rows
        .iter()
        .filter(|(id, row)| products.get(id) != Some(row));
    let differ: Vec<_> = differ
        .map(|(id, row)| format!("{:?} for {row:?}", products.get(id)))
        .collect();
    let others = products.keys().filter(|id| !rows.contains_key(id)).count();
    if !differ.is_empty() || others > 0 {
        wrong.push(format!(
            "it shows {others} unknown products, and {}",
            differ.join("; ")
        ));
    }
    wrong
}
