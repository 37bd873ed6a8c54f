//! Checks the waitlists: no unit went past a user who waited, and no offer happened twice or out of turn.

use std::collections::{HashMap, HashSet};

use super::{
    finding::{About, Found, Promise},
    lives::Lives,
    rules::Rules,
};
use crate::chaos::{
    clock::Micros,
    history::{Answer, Entry, EntryStatus, History, Hold, Operation, Product, Request},
};

pub(super) fn check(history: &History, lives: &Lives, rules: &Rules, found: &mut Found) {
    let rows: HashMap<i64, &Entry> = history
        .stored
        .entries
        .iter()
        .map(|entry| (entry.id, entry))
        .collect();
    for operation in &history.operations {
        let wrong = match &operation.answer {
            Answer::Entry(entry) => shown(&rows, operation, entry),
            Answer::Refused { code, standing, .. } if operation.request.is_of_a_line() => {
                refused(lives, rules, &rows, operation, (code, *standing))
            }
            _ => None,
        };
        if let Some(why) = wrong {
            let what = format!("{why}: {}", history.describe(operation));
            found.add(Promise::TrueAnswer, about(&rows, operation), what);
        }
    }
    for entry in &history.stored.entries {
        if let Some((promise, why)) = ended(history, lives, rules, entry) {
            found.add(
                promise,
                About::Product(entry.product),
                format!("{why}: {entry:?}"),
            );
        }
    }
    unasked(history, found);
    overtaken(history, lives, found);
    strangers(history, lives, found);
    for product in &history.stored.products {
        left_over(lives, product, found);
    }
}

fn about(rows: &HashMap<i64, &Entry>, operation: &Operation) -> About {
    let product = match operation.request {
        Request::Join { product, .. } => Some(product),
        Request::Leave(id) | Request::GetEntry(id) => rows.get(&id).map(|entry| entry.product),
        _ => None,
    };
    product.map_or(About::Service, About::Product)
}

/// The shown entry is the requested one, and was in this state at some moment.
fn shown(rows: &HashMap<i64, &Entry>, operation: &Operation, seen: &Entry) -> Option<&'static str> {
    let Some(row) = rows.get(&seen.id) else {
        return Some("the entry does not exist");
    };
    let identity = |entry: &Entry| {
        let of = (entry.product, entry.user, entry.quantity, entry.created);
        (of, entry.reference.clone())
    };
    // It ends once. Until then it waits.
    let end = |entry: &Entry| (entry.status, entry.hold, entry.ended);
    let waits = seen.status == EntryStatus::Waiting && seen.ended.is_none();
    if identity(seen) != identity(row) || !waits && end(seen) != end(row) {
        return Some("the database has another entry with this id");
    }
    let right = match &operation.request {
        Request::Join {
            product,
            user,
            quantity,
            reference,
        } => {
            (seen.product, seen.user, seen.quantity) == (*product, *user, *quantity)
                && seen.reference.as_ref() == Some(reference)
                && (operation.began..=operation.ended).contains(&seen.created)
        }
        Request::Leave(id) => (seen.id, seen.status) == (*id, EntryStatus::Left),
        Request::GetEntry(id) => seen.id == *id,
        _ => false,
    };
    (!right).then_some("not what was requested")
}

fn refused(
    lives: &Lives,
    rules: &Rules,
    rows: &HashMap<i64, &Entry>,
    operation: &Operation,
    (code, standing): (&str, Option<i64>),
) -> Option<&'static str> {
    let span = (operation.began, operation.ended);
    let right = match (&operation.request, code) {
        (Request::Join { product, user, .. }, "already_waiting") => {
            standing.and_then(|id| rows.get(&id)).is_some_and(|entry| {
                (entry.product, entry.user) == (*product, *user) && entry.may_wait(span.0, span.1)
            })
        }
        (Request::Join { product, user, .. }, "already_reserved") => {
            standing.and_then(|id| lives.get(id)).is_some_and(|life| {
                (life.hold.product, life.hold.user) == (*product, *user)
                    && life.hold.created <= span.1
                    && life.active_until() >= span.0
            })
        }
        (
            Request::Join {
                product,
                user,
                quantity,
                ..
            },
            "max_per_user_reached",
        ) => {
            let share = lives.largest_share((*product, *user), span.0, span.1);
            share + quantity > rules.limits(*product, span).0
        }
        (Request::Leave(id), "waitlist_entry_offered" | "waitlist_entry_closed") => {
            let status = match code {
                "waitlist_entry_offered" => EntryStatus::Offered,
                _ => EntryStatus::Closed,
            };
            let row = rows.get(id);
            row.is_some_and(|row| row.status == status && row.ended <= Some(span.1))
        }
        // Clients only use ids that they got in answers.
        _ => false,
    };
    (!right).then_some("the refusal does not fit")
}

/// The end of an entry is right by itself: an offer has a hold that fits, and only a user without room is closed.
fn ended(
    history: &History,
    lives: &Lives,
    rules: &Rules,
    entry: &Entry,
) -> Option<(Promise, &'static str)> {
    let (user, at) = ((entry.product, entry.user), entry.ended.unwrap_or(0));
    let wrong = match entry.status {
        EntryStatus::Waiting => entry.ended.is_some().then_some("ended, and waits"),
        EntryStatus::Offered => {
            let hold = entry.hold.and_then(|id| lives.get(id));
            let fits = hold.is_some_and(|life| {
                let Hold {
                    product,
                    user,
                    quantity,
                    created,
                    ..
                } = *life.hold;
                (product, user, quantity) == (entry.product, entry.user, entry.quantity)
                    && Some(created) == entry.ended
                    && life.hold.reference == entry.reference
            });
            (!fits).then_some("offered without a hold that fits")
        }
        // The rows cannot show a hold that ends in the same moment.
        EntryStatus::Closed => {
            let had_room = lives.largest_share(user, at, at) + entry.quantity
                <= rules.limits(entry.product, (at, at)).0;
            had_room.then_some("closed, although the user may have the units")
        }
        EntryStatus::Left => {
            let mut leaves = history.operations.iter();
            let asked = leaves.any(|operation| {
                operation.request == Request::Leave(entry.id)
                    && operation.may_be_done()
                    && operation.began <= at
            });
            return (!asked).then_some((Promise::NothingUnasked, "no request ended it"));
        }
    };
    wrong.map(|why| (Promise::StrictLine, why))
}

/// Each entry belongs to a join whose answer has it, or to one whose outcome is unknown. No hold is offered twice.
fn unasked(history: &History, found: &mut Found) {
    let mut acknowledged = HashSet::new();
    let mut unknown: HashMap<&str, usize> = HashMap::new();
    for operation in &history.operations {
        match (&operation.request, &operation.answer) {
            (Request::Join { .. }, Answer::Entry(entry)) => drop(acknowledged.insert(entry.id)),
            (Request::Join { reference, .. }, Answer::Unknown(_)) => {
                *unknown.entry(reference).or_default() += 1;
            }
            _ => {}
        }
    }
    let mut offered = HashSet::new();
    for entry in &history.stored.entries {
        let about = About::Product(entry.product);
        let reference = entry.reference.as_deref().unwrap_or_default();
        let left = unknown.get_mut(reference).filter(|left| **left > 0);
        if !acknowledged.contains(&entry.id) {
            match left {
                Some(left) => *left -= 1,
                None => {
                    let what = format!("no request created it: {entry:?}");
                    found.add(Promise::NothingUnasked, about, what);
                }
            }
        }
        if entry.hold.is_some_and(|hold| !offered.insert(hold)) {
            let what = format!("its hold was offered twice: {entry:?}");
            found.add(Promise::StrictLine, about, what);
        }
    }
}

/// Nobody was offered units while somebody waited who had joined before. A user waits once for a product.
fn overtaken(history: &History, lives: &Lives, found: &mut Found) {
    for behind in &history.stored.entries {
        let line = lives.line(behind.product);
        let before = line.iter().filter(|entry| entry.id < behind.id);
        for entry in before {
            let still_waits =
                |at: Option<Micros>| at.is_some_and(|at| entry.ended.is_none_or(|end| end > at));
            let overtakes = behind.status == EntryStatus::Offered && still_waits(behind.ended);
            let twice = entry.user == behind.user && still_waits(Some(behind.created));
            if overtakes || twice || entry.created > behind.created {
                let what = format!("{entry:?}, and out of turn {behind:?}");
                found.add(Promise::StrictLine, About::Product(entry.product), what);
            }
        }
    }
}

/// While somebody waits, only holds are made that are offered.
fn strangers(history: &History, lives: &Lives, found: &mut Found) {
    let offered = history.stored.offered();
    for hold in &history.stored.holds {
        let mut line = lives.line(hold.product).iter();
        let waits = line.find(|entry| {
            entry.created < hold.created && entry.ended.is_none_or(|at| at > hold.created)
        });
        if let (Some(entry), false) = (waits, offered.contains(&hold.id)) {
            let what = format!("{}, while {entry:?} waited", history.describe_hold(hold));
            found.add(Promise::StrictLine, About::Hold(hold.id), what);
        }
    }
}

/// At the end no unit is left that is enough for the first in line, and the number of those who wait is right.
fn left_over(lives: &Lives, product: &Product, found: &mut Found) {
    let line = lives.line(product.id).iter();
    let mut line = line.filter(|entry| entry.status == EntryStatus::Waiting);
    let waiting = line.clone().count() as i64;
    let first = line.next();
    if first.is_some_and(|first| first.quantity <= product.stock) {
        let what = format!("{first:?} waits, and {product:?}");
        found.add(Promise::StrictLine, About::Product(product.id), what);
    }
    if waiting != product.waiting {
        let what = format!("{waiting} entries wait, and {product:?}");
        found.add(Promise::Conservation, About::Product(product.id), what);
    }
}
