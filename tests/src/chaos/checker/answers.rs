//! Checks every acknowledged answer against the lives of the holds.

use std::collections::HashMap;

use super::{
    finding::{About, Found, Promise},
    lives::Lives,
    refusals::{self, expired},
    rules::Rules,
};
use crate::chaos::{
    clock::Micros,
    history::{Adjustment, Answer, History, Hold, Operation, Product, Request, Status},
};

const GIVEN_TWICE: &str = "one hold was given to two requests";

pub(super) fn check(history: &History, lives: &Lives, rules: &Rules, found: &mut Found) {
    let mut reserved: HashMap<i64, &Operation> = HashMap::new();
    for operation in &history.operations {
        let mut say = |promise, about, why: &str| {
            let what = format!("{why}: {}", history.describe(operation));
            found.add(promise, about, what);
        };
        match &operation.answer {
            Answer::Hold(hold) => {
                asked_for(history, rules, operation, hold, &mut say);
                lived(lives, operation, hold, &mut say);
                if matches!(operation.request, Request::Reserve { .. })
                    && reserved.insert(hold.id, operation).is_some()
                {
                    say(Promise::TrueAnswer, About::Hold(hold.id), GIVEN_TWICE);
                }
            }
            Answer::Holds(holds) if matches!(operation.request, Request::ReserveBatch { .. }) => {
                whole(operation, holds, &mut say);
                for hold in holds {
                    asked_for(history, rules, operation, hold, &mut say);
                    lived(lives, operation, hold, &mut say);
                    if reserved.insert(hold.id, operation).is_some() {
                        say(Promise::TrueAnswer, About::Hold(hold.id), GIVEN_TWICE);
                    }
                }
            }
            Answer::Holds(holds) => {
                for hold in holds {
                    lived(lives, operation, hold, &mut say);
                    if operation.request != Request::ListOfUser(hold.user) {
                        let why = "a list shows another user's hold";
                        say(Promise::TrueAnswer, About::Hold(hold.id), why);
                    }
                }
            }
            // Checked in line.rs.
            Answer::Refused { .. } if operation.request.is_of_a_line() => {}
            Answer::Refused {
                code,
                standing,
                product,
            } => {
                let refusal = (code.as_str(), *standing, *product);
                refusals::check(history, (lives, rules), operation, refusal, &mut say);
            }
            Answer::Product(product) => {
                adds_up(history, operation, product, &mut say);
                ruled(rules, operation, product, &mut say);
            }
            Answer::Audit { clean: false, .. } => {
                let why = "the audit is not clean";
                say(Promise::Conservation, About::Service, why);
            }
            Answer::Strange(_) => {
                let why = "not an answer of this service";
                say(Promise::TrueAnswer, About::of(operation), why);
            }
            // Keyed requests are checked in keys.rs.
            Answer::InUse if operation.key.is_none() => {
                let why = "answered that the key is in use, but the request has no key";
                say(Promise::TrueAnswer, About::of(operation), why);
            }
            Answer::Audit { .. }
            | Answer::Done
            | Answer::Entry(_)
            | Answer::Overloaded
            | Answer::InUse
            | Answer::Unknown(_) => {}
        }
    }
}

/// A batch was reserved as a whole, with one deadline.
fn whole(operation: &Operation, holds: &[Hold], say: &mut impl FnMut(Promise, About, &str)) {
    if operation.request.items().len() != holds.len() {
        say(
            Promise::AllOrNone,
            About::Service,
            "not all requested products",
        );
    }
    if holds
        .windows(2)
        .any(|pair| pair[0].expires != pair[1].expires)
    {
        let why = "the holds of one batch have several deadlines";
        say(Promise::AllOrNone, About::Service, why);
    }
}

/// A hold in an answer must belong to the request.
fn asked_for(
    history: &History,
    rules: &Rules,
    operation: &Operation,
    hold: &Hold,
    say: &mut impl FnMut(Promise, About, &str),
) {
    let within = |at: Micros| (operation.began..=operation.ended).contains(&at);
    let lasts = rules.hold_micros(hold);
    let fresh = hold.status == Status::Active
        && within(hold.created)
        && lasts.contains(&(hold.expires - hold.created));
    let right = match &operation.request {
        Request::Reserve {
            product,
            user,
            quantity,
            reference,
        } => {
            fresh
                && (hold.product, hold.user, hold.quantity) == (*product, *user, *quantity)
                && hold.reference == *reference
        }
        Request::ReserveBatch {
            user,
            items,
            reference,
        } => {
            fresh
                && hold.user == *user
                && items.contains(&(hold.product, hold.quantity))
                && hold.reference.as_ref() == Some(reference)
        }
        Request::Confirm(id) => (hold.id, hold.status) == (*id, Status::Confirmed),
        Request::Cancel(id) => (hold.id, hold.status) == (*id, Status::Canceled),
        Request::Extend(id, _) => {
            (hold.id, hold.status) == (*id, Status::Active)
                && hold.expires >= operation.began
                && hold.expires <= hold.created + history.max_hold_micros
        }
        Request::Reacquire(id) => {
            hold.status == Status::Confirmed
                && (hold.id == *id || hold.reacquired_from == Some(*id))
        }
        Request::Return(id) => (hold.id, hold.status) == (*id, Status::Returned),
        Request::Get(id) => hold.id == *id,
        _ => false,
    };
    if !right {
        say(
            Promise::TrueAnswer,
            About::Hold(hold.id),
            "not what was requested",
        );
    }
}

/// The shown state of a hold was true at some moment between request and answer.
fn lived(
    lives: &Lives,
    operation: &Operation,
    seen: &Hold,
    say: &mut impl FnMut(Promise, About, &str),
) {
    let about = About::Hold(seen.id);
    let Some(life) = lives.get(seen.id) else {
        return say(Promise::TrueAnswer, about, "the hold does not exist");
    };
    let row = life.hold;
    let identity = |hold: &Hold| {
        let unchanging = (hold.product, hold.user, hold.quantity, hold.created);
        (unchanging, hold.reacquired_from, hold.reference.clone())
    };
    // Extensions only move a deadline later, so the stored deadline is at least the shown one.
    let deadline_kept = seen.expires == row.expires
        || life.moved.is_some()
        || !life.extensions.is_empty() && seen.expires < row.expires;
    if identity(seen) != identity(row) || !deadline_kept {
        return say(
            Promise::TrueAnswer,
            about,
            "the database has another hold with this id",
        );
    }
    if row.created > operation.ended {
        return say(Promise::TrueAnswer, about, "it did not exist yet");
    }
    match seen.status {
        Status::Active if life.active_until() < operation.began => {
            say(
                Promise::OneEnd,
                about,
                "shown as ACTIVE after its end was known",
            );
        }
        Status::Active => {}
        Status::Expired => expired(lives, operation, seen.id, say),
        // It may have been returned since.
        Status::Confirmed if row.status == Status::Returned => {
            if row.confirmed != seen.confirmed || row.confirmed > Some(operation.ended) {
                say(
                    Promise::TrueAnswer,
                    about,
                    "the database has another time of the sale",
                );
            }
        }
        Status::Confirmed | Status::Canceled | Status::Returned => {
            if row.status != seen.status {
                say(Promise::OneEnd, about, "the database has another end");
            } else if row.ended != seen.ended || row.ended.is_none_or(|at| at > operation.ended) {
                say(
                    Promise::TrueAnswer,
                    about,
                    "the database has another time of the end",
                );
            }
        }
    }
}

fn adds_up(
    history: &History,
    operation: &Operation,
    product: &Product,
    say: &mut impl FnMut(Promise, About, &str),
) {
    // The totals that the product may have had: its initial units with any possible adjustments.
    let mut totals: Vec<i64> = history
        .products
        .get(&product.id)
        .copied()
        .into_iter()
        .collect();
    let mut adjustments: Vec<&Adjustment> = history.stored.adjustments.iter().collect();
    adjustments.retain(|adjusted| adjusted.product == product.id && adjusted.at <= operation.ended);
    adjustments.sort_by_key(|adjusted| adjusted.at);
    for adjusted in adjustments {
        totals.extend(totals.last().map(|total| total + adjusted.delta));
    }
    if !totals.contains(&product.total) || !product.conserves() {
        say(
            Promise::Conservation,
            About::Product(product.id),
            "the counters do not add up",
        );
    }
}

/// The rules were in force at some moment between request and answer. After a change they are the requested ones.
fn ruled(
    rules: &Rules,
    operation: &Operation,
    product: &Product,
    say: &mut impl FnMut(Promise, About, &str),
) {
    let obeyed = match operation.request {
        Request::ChangeProduct {
            product: id,
            hold_seconds,
            max_per_user,
        } => {
            product.id == id
                && (hold_seconds.is_none() || product.hold_seconds == hold_seconds)
                && (max_per_user.is_none() || product.max_per_user == max_per_user)
        }
        _ => true,
    };
    if !obeyed || !rules.may_be_those_of(product, (operation.began, operation.ended)) {
        let about = About::Product(product.id);
        say(Promise::TrueAnswer, about, "not the product's rules");
    }
}
