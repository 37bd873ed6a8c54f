//! Checks every acknowledged answer against the lives of the holds.

use std::collections::HashMap;

use super::{
    finding::{About, Found, Promise},
    lives::Lives,
    rules::Rules,
};
use crate::chaos::{
    clock::Micros,
    history::{Adjustment, Answer, History, Hold, Operation, Product, Request, Status},
};

pub(super) fn check(history: &History, lives: &Lives, rules: &Rules, found: &mut Found) {
    let mut reserved: HashMap<i64, &Operation> = HashMap::new();
    for operation in &history.operations {
        let mut say = |promise, about, why: &str| {
            found.add(
                promise,
                about,
                format!("{why}: {}", history.describe(operation)),
            );
        };
        match &operation.answer {
            Answer::Hold(hold) => {
                asked_for(history, rules, operation, hold, &mut say);
                lived(lives, operation, hold, &mut say);
                if matches!(operation.request, Request::Reserve { .. })
                    && reserved.insert(hold.id, operation).is_some()
                {
                    let about = About::Hold(hold.id);
                    say(
                        Promise::TrueAnswer,
                        about,
                        "one hold was given to two requests",
                    );
                }
            }
            Answer::Holds(holds) if matches!(operation.request, Request::ReserveBatch { .. }) => {
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
                for hold in holds {
                    asked_for(history, rules, operation, hold, &mut say);
                    lived(lives, operation, hold, &mut say);
                    if reserved.insert(hold.id, operation).is_some() {
                        let about = About::Hold(hold.id);
                        say(
                            Promise::TrueAnswer,
                            about,
                            "one hold was given to two requests",
                        );
                    }
                }
            }
            Answer::Holds(holds) => {
                for hold in holds {
                    lived(lives, operation, hold, &mut say);
                    if operation.request != Request::ListOfUser(hold.user) {
                        let about = About::Hold(hold.id);
                        say(
                            Promise::TrueAnswer,
                            about,
                            "a list shows another user's hold",
                        );
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
                refused(history, (lives, rules), operation, refusal, &mut say);
            }
            Answer::Product(product) => {
                adds_up(history, operation, product, &mut say);
                ruled(rules, operation, product, &mut say);
            }
            Answer::Audit { clean: false, .. } => {
                say(
                    Promise::Conservation,
                    About::Service,
                    "the audit is not clean",
                );
            }
            Answer::Strange(_) => {
                say(
                    Promise::TrueAnswer,
                    about(operation),
                    "not an answer of this service",
                );
            }
            // Keyed requests are checked in keys.rs.
            Answer::InUse if operation.key.is_none() => {
                let why = "answered that the key is in use, but the request has no key";
                say(Promise::TrueAnswer, about(operation), why);
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

pub(super) fn about(operation: &Operation) -> About {
    match (operation.request.hold(), &operation.request) {
        (Some(hold), _) => About::Hold(hold),
        (
            _,
            Request::Reserve { product, .. }
            | Request::Product(product)
            | Request::Adjust { product, .. }
            | Request::ChangeProduct { product, .. },
        ) => About::Product(*product),
        _ => About::Service,
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

/// A hold was past its deadline when the answer came, and never became anything but EXPIRED.
fn expired(
    lives: &Lives,
    operation: &Operation,
    id: i64,
    say: &mut impl FnMut(Promise, About, &str),
) {
    let about = About::Hold(id);
    let Some(row) = lives.get(id).map(|life| life.hold) else {
        return say(Promise::TrueAnswer, about, "the hold does not exist");
    };
    // Holds that were never swept are found by another check.
    if !matches!(row.status, Status::Expired | Status::Active) {
        say(
            Promise::OneEnd,
            about,
            "answered as expired, but it has another end",
        );
    } else if row.expires > operation.ended {
        say(
            Promise::ExactDeadline,
            about,
            "answered as expired before its deadline",
        );
    }
}

fn refused(
    history: &History,
    (lives, rules): (&Lives, &Rules),
    operation: &Operation,
    (code, standing, of): (&str, Option<i64>, Option<i64>),
    say: &mut impl FnMut(Promise, About, &str),
) {
    let (about, request) = (about(operation), &operation.request);
    let span = (operation.began, operation.ended);
    let row = |id: &i64| lives.get(*id).map(|life| life.hold);
    // Whether these units were free all the time, and nobody waited for them.
    let free = |product: i64, units: i64| {
        let total = history.products.get(&product).copied().unwrap_or(0);
        lives.most_taken(product, span.0, span.1) + units <= total
            && !lives.may_wait(product, span.0, span.1)
    };
    // The requested units per product: product, user, units.
    let wanted = match request {
        Request::Reserve {
            product,
            user,
            quantity,
            ..
        } => Some((*product, *user, *quantity)),
        Request::ReserveBatch { user, items, .. } => items
            .iter()
            .find(|(product, _)| of == Some(*product))
            .map(|(product, units)| (*product, *user, *units)),
        Request::Reacquire(id) => row(id).map(|lost| (lost.product, lost.user, lost.quantity)),
        _ => None,
    };
    let reserves = matches!(
        request,
        Request::Reserve { .. } | Request::ReserveBatch { .. }
    );
    match (request, code, wanted) {
        (_, "sold_out", Some((product, _, units))) if reserves => {
            if free(product, units) {
                say(
                    Promise::NoUndersell,
                    about,
                    "refused although the units were free all the time",
                );
            }
        }
        (_, "already_reserved", Some((product, user, _))) if reserves => {
            let stands = standing.and_then(|id| lives.get(id)).is_some_and(|life| {
                (life.hold.product, life.hold.user) == (product, user)
                    && life.hold.created <= operation.ended
                    && life.active_until() >= operation.began
            });
            if !stands {
                say(
                    Promise::NoUndersell,
                    about,
                    "refused without an ACTIVE hold",
                );
            }
        }
        (_, "max_per_user_reached", Some((product, user, units))) => {
            let share = lives.largest_share((product, user), span.0, span.1);
            if share + units <= rules.limits(product, span).0 {
                say(
                    Promise::NoUndersell,
                    about,
                    "refused although the user was below the limit all the time",
                );
            }
            if let Request::Reacquire(id) = request {
                expired(lives, operation, *id, say);
            }
        }
        (Request::Reacquire(id), "expired_sold_out", Some((product, _, units))) => {
            if free(product, units) {
                say(
                    Promise::NoUndersell,
                    about,
                    "refused although the units were free all the time",
                );
            }
            expired(lives, operation, *id, say);
        }
        (Request::Adjust { product, delta, .. }, "insufficient_stock", _) => {
            if free(*product, -delta) {
                say(
                    Promise::NoUndersell,
                    about,
                    "refused although the units were free all the time",
                );
            }
        }
        (
            Request::Confirm(id)
            | Request::Cancel(id)
            | Request::Extend(id, _)
            | Request::Return(id),
            "reservation_expired",
            _,
        ) => expired(lives, operation, *id, say),
        (Request::Return(id) | Request::Reacquire(id), "reservation_not_confirmed", _) => {
            if lives
                .get(*id)
                .is_none_or(|life| life.active_until() < operation.began)
            {
                say(
                    Promise::OneEnd,
                    about,
                    "answered as ACTIVE after its end was known",
                );
            }
        }
        (
            Request::Confirm(id)
            | Request::Extend(id, _)
            | Request::Reacquire(id)
            | Request::Return(id),
            "reservation_canceled",
            _,
        ) => {
            if !row(id).is_some_and(|row| {
                row.status == Status::Canceled && row.ended <= Some(operation.ended)
            }) {
                say(Promise::OneEnd, about, "the database has another end");
            }
        }
        (Request::Cancel(id) | Request::Extend(id, _), "reservation_confirmed", _) => {
            let sold = row(id).and_then(|row| row.confirmed);
            if sold.is_none_or(|at| at > operation.ended) {
                say(Promise::OneEnd, about, "the database has another end");
            }
        }
        (
            Request::Confirm(id)
            | Request::Cancel(id)
            | Request::Extend(id, _)
            | Request::Reacquire(id),
            "reservation_returned",
            _,
        ) => {
            let mut rows = lives.all().map(|life| life.hold);
            // For a late payment, the new reservation was returned.
            if !rows.any(|row| {
                (row.id == *id || row.reacquired_from == Some(*id))
                    && row.status == Status::Returned
                    && row.ended <= Some(operation.ended)
            }) {
                say(
                    Promise::OneEnd,
                    about,
                    "not returned according to the database",
                );
            }
        }
        // Clients only use ids that they got in answers.
        _ => say(Promise::TrueAnswer, about, "the refusal does not fit"),
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
    if !totals.contains(&product.total) || !conserves(product) {
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

pub(super) fn conserves(product: &Product) -> bool {
    let parts = [product.stock, product.held, product.sold];
    parts.iter().all(|units| *units >= 0) && parts.iter().sum::<i64>() == product.total
}
