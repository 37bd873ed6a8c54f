//! The rows in the end against each other, and against what was asked for.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{About, Found, Lives, Promise, answers::conserves, lives::Life};
use crate::chaos::history::{Answer, History, Hold, Micros, Operation, Request, Status};

pub(super) fn check(history: &History, lives: &Lives, found: &mut Found) {
    products(history, found);
    oversell(history, found);
    two_holds(history, found);
    for life in lives.all() {
        ends(history, life, found);
    }
    moved_are_expired(history, lives, found);
    unasked_holds(history, found);
    unasked_ends(history, found);
    for id in &history.stored.timers {
        let what = format!("Redis still has the timer of hold {id}");
        found.add(Promise::TimersGone, About::Hold(*id), what);
    }
}

/// The counters are those that the reservations make.
fn products(history: &History, found: &mut Found) {
    let mut units: HashMap<i64, (i64, i64)> = HashMap::new();
    for hold in &history.stored.holds {
        let (held, sold) = units.entry(hold.product).or_default();
        match hold.status {
            Status::Active => *held += hold.quantity,
            Status::Confirmed => *sold += hold.quantity,
            Status::Canceled | Status::Expired => {}
        }
    }
    for product in &history.stored.products {
        let (held, sold) = units.get(&product.id).copied().unwrap_or_default();
        let made_with = history.products.get(&product.id);
        if !conserves(product)
            || (product.held, product.sold) != (held, sold)
            || made_with.is_some_and(|total| *total != product.total)
        {
            let what = format!(
                "{product:?}, made with {made_with:?} units, and its reservations hold {held} and sold {sold}"
            );
            found.add(Promise::Conservation, About::Product(product.id), what);
        }
    }
    let stored: HashSet<i64> = history.stored.products.iter().map(|row| row.id).collect();
    for id in history.products.keys().filter(|id| !stored.contains(id)) {
        let what = format!("product {id} was acknowledged and is not stored");
        found.add(Promise::TrueAnswer, About::Product(*id), what);
    }
}

/// At no moment were more units taken than there are. A deadline counts as given back at once: a hold past it
/// may be reclaimed in the same moment.
fn oversell(history: &History, found: &mut Found) {
    let mut changes: HashMap<i64, BTreeMap<Micros, i64>> = HashMap::new();
    for hold in &history.stored.holds {
        let product = changes.entry(hold.product).or_default();
        *product.entry(hold.created).or_default() += hold.quantity;
        if hold.status != Status::Confirmed {
            // A deadline can have been moved to before the hold was made.
            let given_back = hold.ended.unwrap_or(hold.expires).max(hold.created);
            *product.entry(given_back).or_default() -= hold.quantity;
        }
    }
    for (product, changes) in changes {
        let Some(total) = history.products.get(&product) else {
            continue;
        };
        let mut taken = 0;
        for (at, change) in changes {
            taken += change;
            if taken > *total {
                let what = format!(
                    "{taken} of the {total} units of product {product} were taken at {}",
                    history.clock(at)
                );
                found.add(Promise::NoOversell, About::Product(product), what);
                break;
            }
        }
    }
}

/// A user's holds on one product come one after the other.
fn two_holds(history: &History, found: &mut Found) {
    let mut holds: HashMap<(i64, i64), Vec<&Hold>> = HashMap::new();
    for hold in &history.stored.holds {
        holds
            .entry((hold.user, hold.product))
            .or_default()
            .push(hold);
    }
    for holds in holds.values_mut() {
        holds.sort_by_key(|hold| (hold.created, hold.id));
        for pair in holds.windows(2) {
            if pair[0].ended.unwrap_or(pair[0].expires) > pair[1].created {
                let what = format!(
                    "two at once: {}; {}",
                    history.describe_hold(pair[0]),
                    history.describe_hold(pair[1])
                );
                found.add(Promise::OneHold, About::Product(pair[0].product), what);
            }
        }
    }
}

/// Each hold ended on the right side of its deadline.
fn ends(history: &History, life: &Life, found: &mut Found) {
    let hold = life.hold;
    let mut say = |promise, why: &str| {
        let what = format!("{why}: {}", history.describe_hold(hold));
        found.add(promise, About::Hold(hold.id), what);
    };
    if hold.expires != hold.created + history.hold_micros && life.moved.is_none() {
        say(Promise::ExactDeadline, "its deadline was moved by nobody");
    }
    match (hold.status, hold.ended) {
        (Status::Active, _) if hold.expires < history.stored.read => {
            say(Promise::Swept, "left ACTIVE past its deadline");
        }
        (Status::Active, None) => {}
        (Status::Confirmed | Status::Canceled, Some(at)) if at < hold.expires => {}
        (Status::Confirmed | Status::Canceled, _) => {
            say(Promise::ExactDeadline, "ended past its deadline");
        }
        (Status::Expired, Some(at)) if at == hold.expires => {}
        (Status::Active | Status::Expired, _) => {
            say(Promise::ExactDeadline, "not ended at its deadline");
        }
    }
}

/// What was ACTIVE when its deadline was moved into the past can have no other end.
fn moved_are_expired(history: &History, lives: &Lives, found: &mut Found) {
    let done = history.moves.iter().filter(|act| act.done);
    for life in done
        .flat_map(|act| &act.holds)
        .filter_map(|id| lives.get(*id))
    {
        if matches!(life.hold.status, Status::Confirmed | Status::Canceled) {
            let what = format!(
                "ended otherwise after its deadline was moved into the past: {}",
                history.describe_hold(life.hold)
            );
            found.add(Promise::ExactDeadline, About::Hold(life.hold.id), what);
        }
    }
}

/// Each hold is the work of a reserve that was answered with it, or of one whose outcome is unknown; and no
/// such reserve made two.
fn unasked_holds(history: &History, found: &mut Found) {
    let mut acknowledged = HashSet::new();
    let mut unknown: HashMap<(i64, i64), Vec<Micros>> = HashMap::new();
    for operation in &history.operations {
        if let Request::Reserve { product, user } = operation.request {
            match &operation.answer {
                Answer::Hold(hold) => drop(acknowledged.insert(hold.id)),
                Answer::Unknown(_) => {
                    unknown
                        .entry((product, user))
                        .or_default()
                        .push(operation.began);
                }
                _ => {}
            }
        }
    }
    let mut rows: Vec<&Hold> = history.stored.holds.iter().collect();
    rows.retain(|hold| !acknowledged.contains(&hold.id));
    rows.sort_by_key(|hold| hold.created);
    unknown.values_mut().for_each(|began| began.sort_unstable());
    let mut used: HashMap<(i64, i64), usize> = HashMap::new();
    for hold in rows {
        let key = (hold.product, hold.user);
        let next = used.entry(key).or_default();
        let asked = unknown.get(&key).and_then(|began| began.get(*next));
        if asked.is_some_and(|began| *began <= hold.created) {
            *next += 1;
        } else {
            let what = format!("nobody asked for it: {}", history.describe_hold(hold));
            found.add(Promise::NothingUnasked, About::Hold(hold.id), what);
        }
    }
}

/// Each hold that was confirmed or canceled was so by a request that may have done it.
fn unasked_ends(history: &History, found: &mut Found) {
    let mut asked: HashMap<(i64, bool), Micros> = HashMap::new();
    let may_have = history.operations.iter().filter(|one| one.may_be_done());
    for Operation { began, request, .. } in may_have {
        let key = match request {
            Request::Confirm(id) => (*id, true),
            Request::Cancel(id) => (*id, false),
            _ => continue,
        };
        let first = asked.entry(key).or_insert(*began);
        *first = (*began).min(*first);
    }
    for hold in &history.stored.holds {
        let confirmed = match hold.status {
            Status::Confirmed => true,
            Status::Canceled => false,
            Status::Active | Status::Expired => continue,
        };
        let first = asked.get(&(hold.id, confirmed));
        if first.is_none_or(|began| hold.ended.is_some_and(|at| at < *began)) {
            let what = format!("nobody ended it so: {}", history.describe_hold(hold));
            found.add(Promise::NothingUnasked, About::Hold(hold.id), what);
        }
    }
}
