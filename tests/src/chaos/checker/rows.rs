//! Checks the final rows against each other and against the requests.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    finding::{About, Found, Promise},
    lives::{Life, Lives},
    rules::Rules,
};
use crate::chaos::{
    clock::Micros,
    history::{Answer, History, Hold, Operation, Request, Status},
};

pub(super) fn check(history: &History, lives: &Lives, rules: &Rules, found: &mut Found) {
    products(history, found);
    last_rules(history, rules, found);
    unasked_products(history, found);
    oversell(history, found);
    two_holds(history, found);
    fair_shares(history, rules, found);
    batches(history, found);
    reacquired(history, lives, found);
    ledger(history, found);
    for life in lives.all() {
        ends(history, rules, life, found);
    }
    moved_are_expired(history, lives, found);
    unasked_holds(history, found);
    unasked_ends(history, found);
    for id in &history.stored.timers {
        let what = format!("Redis still has the timer of hold {id}");
        found.add(Promise::TimersGone, About::Hold(*id), what);
    }
}

/// The counters match the reservations.
fn products(history: &History, found: &mut Found) {
    let mut units: HashMap<i64, (i64, i64)> = HashMap::new();
    for hold in &history.stored.holds {
        let (held, sold) = units.entry(hold.product).or_default();
        match hold.status {
            Status::Active => *held += hold.quantity,
            Status::Confirmed => *sold += hold.quantity,
            Status::Canceled | Status::Expired | Status::Returned => {}
        }
    }
    for product in &history.stored.products {
        let (held, sold) = units.get(&product.id).copied().unwrap_or_default();
        let adjustments = history.stored.adjustments.iter();
        let adjusted: i64 = adjustments
            .filter(|adjusted| adjusted.product == product.id)
            .map(|adjusted| adjusted.delta)
            .sum();
        let made_with = history.products.get(&product.id);
        if !product.conserves()
            || (product.held, product.sold) != (held, sold)
            || made_with.is_some_and(|total| *total + adjusted != product.total)
        {
            let what = format!(
                "{product:?}, made with {made_with:?} units, adjusted by {adjusted}, and its reservations hold {held} and sold {sold}"
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

/// No acknowledged change of the rules is lost, and none was made without a request.
fn last_rules(history: &History, rules: &Rules, found: &mut Found) {
    let read = history.stored.read;
    for product in &history.stored.products {
        if !rules.may_be_those_of(product, (read, read)) {
            let what = format!("no request set these rules: {product:?}");
            found.add(Promise::TrueAnswer, About::Product(product.id), what);
        }
    }
}

/// Each product belongs to a request whose answer has it, or whose outcome is unknown. No request made two products.
fn unasked_products(history: &History, found: &mut Found) {
    let mut asked: HashMap<&str, &Answer> = HashMap::new();
    for operation in &history.operations {
        if let Request::CreateProduct(name, _) = &operation.request {
            asked.insert(name, &operation.answer);
        }
    }
    for (id, name) in &history.stored.names {
        let right = match asked.remove(name.as_str()) {
            Some(Answer::Product(product)) => product.id == *id,
            Some(Answer::Unknown(_)) => true,
            _ => false,
        };
        if !right {
            let what = format!("no request created product {id}, {name:?}");
            found.add(Promise::NothingUnasked, About::Product(*id), what);
        }
    }
}

/// At no moment were more units taken than exist. A deadline frees units at once, because the hold may be reclaimed
/// in the same moment.
fn oversell(history: &History, found: &mut Found) {
    let mut changes: HashMap<i64, BTreeMap<Micros, i64>> = HashMap::new();
    for hold in &history.stored.holds {
        let product = changes.entry(hold.product).or_default();
        *product.entry(hold.created).or_default() += hold.quantity;
        if let Some(freed) = hold.freed() {
            *product.entry(freed).or_default() -= hold.quantity;
        }
    }
    // A unit that an adjustment removed counts as taken.
    for adjusted in &history.stored.adjustments {
        let product = changes.entry(adjusted.product).or_default();
        *product.entry(adjusted.at).or_default() -= adjusted.delta;
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
                    "{taken} of the first {total} units of product {product} were taken at {}",
                    history.clock(at)
                );
                found.add(Promise::NoOversell, About::Product(product), what);
                break;
            }
        }
    }
}

/// A user's holds on one product never overlap.
fn two_holds(history: &History, found: &mut Found) {
    let mut holds: HashMap<(i64, i64), Vec<&Hold>> = HashMap::new();
    // A late payment creates no hold.
    let rows = history.stored.holds.iter();
    for hold in rows.filter(|hold| hold.reacquired_from.is_none()) {
        holds
            .entry((hold.user, hold.product))
            .or_default()
            .push(hold);
    }
    for holds in holds.values_mut() {
        holds.sort_by_key(|hold| (hold.created, hold.id));
        for pair in holds.windows(2) {
            let until = pair[0].decided().or(pair[0].ended);
            if until.unwrap_or(pair[0].expires) > pair[1].created {
                let what = format!(
                    "two holds at the same time: {}; {}",
                    history.describe_hold(pair[0]),
                    history.describe_hold(pair[1])
                );
                found.add(Promise::OneHold, About::Product(pair[0].product), what);
            }
        }
    }
}

/// No user took more units than the limit at that time. A user who already had more when the limit was lowered keeps
/// them.
fn fair_shares(history: &History, rules: &Rules, found: &mut Found) {
    // Changes of units per time, and whether units were taken.
    let mut shares: HashMap<(i64, i64), BTreeMap<Micros, (i64, bool)>> = HashMap::new();
    for hold in &history.stored.holds {
        let share = shares.entry((hold.product, hold.user)).or_default();
        let taken = share.entry(hold.created).or_default();
        *taken = (taken.0 + hold.quantity, true);
        if let Some(freed) = hold.freed() {
            share.entry(freed).or_default().0 -= hold.quantity;
        }
    }
    for ((product, user), changes) in shares {
        let mut units = 0;
        for (at, (change, taken)) in changes {
            units += change;
            if taken && units > rules.limits(product, (at, at)).1 {
                let at = history.clock(at);
                let what = format!("user {user} had {units} units of product {product} at {at}");
                found.add(Promise::FairShare, About::Product(product), what);
                break;
            }
        }
    }
}

/// Every reserve of several products is complete or absent.
fn batches(history: &History, found: &mut Found) {
    let mut asked: HashMap<&str, &Request> = HashMap::new();
    for operation in &history.operations {
        if let Some(reference) = operation.request.reference() {
            asked.insert(reference, &operation.request);
        }
    }
    let mut made: HashMap<(&str, Micros), Vec<&Hold>> = HashMap::new();
    let offered = history.stored.offered();
    let rows = history.stored.holds.iter();
    for hold in rows.filter(|hold| !offered.contains(&hold.id)) {
        if let (Some(reference), None) = (&hold.reference, hold.reacquired_from) {
            made.entry((reference, hold.created))
                .or_default()
                .push(hold);
        }
    }
    for ((reference, _), holds) in made {
        let mut items: Vec<(i64, i64)> = holds
            .iter()
            .map(|hold| (hold.product, hold.quantity))
            .collect();
        items.sort_unstable();
        let whole = asked.get(reference).is_some_and(|request| {
            let mut wanted = request.items();
            wanted.sort_unstable();
            wanted == items && holds.iter().all(|hold| request.user() == Some(hold.user))
        });
        if !whole {
            let rows: Vec<_> = holds
                .iter()
                .map(|hold| history.describe_hold(hold))
                .collect();
            let wanted = asked.get(reference);
            let what = format!("of {wanted:?} there is {}", rows.join("; "));
            found.add(Promise::AllOrNone, About::Hold(holds[0].id), what);
        }
    }
}

/// A late payment refers to an expired hold, and happens once per hold.
fn reacquired(history: &History, lives: &Lives, found: &mut Found) {
    let mut again = HashSet::new();
    for hold in &history.stored.holds {
        let Some(lost) = hold.reacquired_from else {
            continue;
        };
        let was_lost = lives.get(lost).is_some_and(|life| {
            let row = life.hold;
            // Holds that were never swept are found by another check.
            matches!(row.status, Status::Expired | Status::Active)
                && row.expires <= hold.created
                && (row.product, row.user, row.quantity) == (hold.product, hold.user, hold.quantity)
        });
        if !was_lost || !again.insert(lost) {
            let what = format!("{} is for hold {lost}", history.describe_hold(hold));
            found.add(Promise::ReacquiredOnce, About::Hold(lost), what);
        }
    }
}

/// Each adjustment has one request, and each acknowledged request has its adjustment.
fn ledger(history: &History, found: &mut Found) {
    let mut made: HashMap<&str, (i64, i64, Micros)> = HashMap::new();
    for row in &history.stored.adjustments {
        let values = (row.product, row.delta, row.at);
        if made.insert(&row.reason, values).is_some() {
            let what = format!("made twice: {row:?}");
            found.add(Promise::NothingUnasked, About::Product(row.product), what);
        }
    }
    for operation in &history.operations {
        let Request::Adjust {
            product,
            delta,
            reason,
        } = &operation.request
        else {
            continue;
        };
        let row = made.remove(reason.as_str());
        let right =
            row.is_some_and(|(of, by, at)| (of, by) == (*product, *delta) && at >= operation.began);
        let in_time = row.is_some_and(|(.., at)| at <= operation.ended);
        let (promise, wrong) = match operation.answer {
            Answer::Product(_) => (Promise::TrueAnswer, !right || !in_time),
            Answer::Unknown(_) => (Promise::NothingUnasked, row.is_some() && !right),
            _ => (Promise::NothingUnasked, row.is_some()),
        };
        if wrong {
            let what = format!("{}, and {row:?}", history.describe(operation));
            found.add(promise, About::Product(*product), what);
        }
    }
    for (reason, (product, ..)) in made {
        let what = format!("no request made the adjustment {reason}");
        found.add(Promise::NothingUnasked, About::Product(product), what);
    }
}

/// Each hold ended on the right side of its deadline.
fn ends(history: &History, rules: &Rules, life: &Life, found: &mut Found) {
    let hold = life.hold;
    let mut say = |promise, why: &str| {
        let what = format!("{why}: {}", history.describe_hold(hold));
        found.add(promise, About::Hold(hold.id), what);
    };
    let until = hold.expires - hold.created;
    if hold.reacquired_from.is_some() {
        if until != 0 || hold.confirmed != Some(hold.created) {
            say(Promise::ReacquiredOnce, "not sold when it was made");
        }
        return;
    }
    let lasts = rules.hold_micros(hold);
    if !lasts.contains(&until) && life.moved.is_none() {
        let extended = lasts.iter().any(|first| until > *first)
            && life.may_be_extended_to(hold.expires, history.max_hold_micros);
        if !extended || until > history.max_hold_micros {
            let why = "not the product's hold duration, and no request moved the deadline";
            say(Promise::ExactDeadline, why);
        }
    }
    match (hold.status, hold.ended) {
        (Status::Active, _) if hold.expires < history.stored.read => {
            say(Promise::Swept, "left ACTIVE past its deadline");
        }
        (Status::Active, None) => {}
        (Status::Confirmed | Status::Canceled | Status::Returned, Some(end))
            if hold
                .decided()
                .is_some_and(|at| at < hold.expires && at <= end) => {}
        (Status::Confirmed | Status::Canceled | Status::Returned, _) => {
            say(Promise::ExactDeadline, "ended past its deadline");
        }
        (Status::Expired, Some(at)) if at == hold.expires => {}
        (Status::Active | Status::Expired, _) => {
            say(Promise::ExactDeadline, "not ended at its deadline");
        }
    }
}

/// A hold that was ACTIVE when its deadline was moved into the past must expire.
fn moved_are_expired(history: &History, lives: &Lives, found: &mut Found) {
    let done = history.moves.iter().filter(|act| act.done);
    for life in done
        .flat_map(|act| &act.holds)
        .filter_map(|id| lives.get(*id))
    {
        if !matches!(life.hold.status, Status::Active | Status::Expired) {
            let what = format!(
                "not expired although its deadline was moved into the past: {}",
                history.describe_hold(life.hold)
            );
            found.add(Promise::ExactDeadline, About::Hold(life.hold.id), what);
        }
    }
}

/// Each hold belongs to a reserve whose answer has it, or whose outcome is unknown. No reserve made two holds of a
/// product.
fn unasked_holds(history: &History, found: &mut Found) {
    // Offered holds belong to their entries.
    let mut acknowledged = history.stored.offered();
    let mut unknown: HashMap<(i64, i64, Option<&str>), Vec<Micros>> = HashMap::new();
    for operation in &history.operations {
        let Some(user) = operation.request.user() else {
            continue;
        };
        match &operation.answer {
            Answer::Hold(hold) => drop(acknowledged.insert(hold.id)),
            Answer::Holds(holds) => acknowledged.extend(holds.iter().map(|hold| hold.id)),
            Answer::Unknown(_) => {
                let reference = operation.request.reference();
                for (product, _) in operation.request.items() {
                    let began = unknown.entry((product, user, reference)).or_default();
                    began.push(operation.began);
                }
            }
            _ => {}
        }
    }
    let mut rows: Vec<&Hold> = history.stored.holds.iter().collect();
    rows.retain(|hold| hold.reacquired_from.is_none() && !acknowledged.contains(&hold.id));
    rows.sort_by_key(|hold| hold.created);
    unknown.values_mut().for_each(|began| began.sort_unstable());
    let mut used: HashMap<_, usize> = HashMap::new();
    for hold in rows {
        let key = (hold.product, hold.user, hold.reference.as_deref());
        let next = used.entry(key).or_default();
        let asked = unknown.get(&key).and_then(|began| began.get(*next));
        if asked.is_some_and(|began| *began <= hold.created) {
            *next += 1;
        } else {
            let what = format!("no request created it: {}", history.describe_hold(hold));
            found.add(Promise::NothingUnasked, About::Hold(hold.id), what);
        }
    }
}

/// Each confirmed, canceled or returned hold has a request that may have done it.
fn unasked_ends(history: &History, found: &mut Found) {
    let mut asked: HashMap<(i64, Status), Micros> = HashMap::new();
    let may_have = history.operations.iter().filter(|one| one.may_be_done());
    for Operation { began, request, .. } in may_have {
        let key = match request {
            Request::Confirm(id) | Request::Reacquire(id) => (*id, Status::Confirmed),
            Request::Cancel(id) => (*id, Status::Canceled),
            Request::Return(id) => (*id, Status::Returned),
            _ => continue,
        };
        let first = asked.entry(key).or_insert(*began);
        *first = (*began).min(*first);
    }
    for hold in &history.stored.holds {
        // A late payment names the expired hold.
        let sold = (hold.reacquired_from.unwrap_or(hold.id), Status::Confirmed);
        let ended = (hold.id, hold.status);
        let acts = match hold.status {
            Status::Active | Status::Expired => vec![],
            Status::Canceled => vec![(ended, hold.ended)],
            Status::Confirmed => vec![(sold, hold.confirmed)],
            Status::Returned => vec![(sold, hold.confirmed), (ended, hold.ended)],
        };
        for (act, at) in acts {
            let first = asked.get(&act);
            if first.is_none_or(|began| at.is_some_and(|at| at < *began)) {
                let what = format!("no request ended it: {}", history.describe_hold(hold));
                found.add(Promise::NothingUnasked, About::Hold(hold.id), what);
            }
        }
    }
}
