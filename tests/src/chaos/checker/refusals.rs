//! Checks every refusal: its reason was true at some moment between request and answer.

use super::{
    finding::{About, Promise},
    lives::Lives,
    rules::Rules,
};
use crate::chaos::history::{History, Operation, Request, Status};

const FREE: &str = "refused although the units were free all the time";

/// `refusal`: its code, the hold or entry that it names, and the product of several that caused it.
pub(super) fn check(
    history: &History,
    (lives, rules): (&Lives, &Rules),
    operation: &Operation,
    (code, standing, of): (&str, Option<i64>, Option<i64>),
    say: &mut impl FnMut(Promise, About, &str),
) {
    let request = &operation.request;
    // An order is about several.
    let about = of.map_or(About::of(operation), About::Product);
    let span = (operation.began, operation.ended);
    // Whether these units were free all the time, and nobody waited for them.
    let free = |product: i64, units: i64| {
        let total = history.products.get(&product).copied().unwrap_or(0);
        lives.most_taken(product, span.0, span.1) + units <= total
            && !lives.may_wait(product, span.0, span.1)
    };
    let reserves = matches!(
        request,
        Request::Reserve { .. } | Request::ReserveBatch { .. }
    );
    match (request, code, wanted(lives, request, of)) {
        (_, "sold_out", Some((product, _, units))) if reserves => {
            if free(product, units) {
                say(Promise::NoUndersell, about, FREE);
            }
        }
        (_, "already_reserved", Some((product, user, _))) if reserves => {
            let stands = standing.and_then(|id| lives.get(id)).is_some_and(|life| {
                (life.hold.product, life.hold.user) == (product, user)
                    && life.hold.created <= operation.ended
                    && life.active_until() >= operation.began
            });
            if !stands {
                let why = "refused without an ACTIVE hold";
                say(Promise::NoUndersell, about, why);
            }
        }
        (_, "max_per_user_reached", Some((product, user, units))) => {
            let share = lives.largest_share((product, user), span.0, span.1);
            if share + units <= rules.limits(product, span).0 {
                let why = "refused although the user was below the limit all the time";
                say(Promise::NoUndersell, about, why);
            }
            if let Request::Reacquire(id) = request {
                expired(lives, operation, *id, say);
            }
        }
        (Request::Reacquire(id), "expired_sold_out", Some((product, _, units))) => {
            if free(product, units) {
                say(Promise::NoUndersell, about, FREE);
            }
            expired(lives, operation, *id, say);
        }
        (Request::Adjust { product, delta, .. }, "insufficient_stock", _) => {
            if free(*product, -delta) {
                say(Promise::NoUndersell, about, FREE);
            }
        }
        _ => by_status(lives, operation, code, say),
    }
}

/// The units that were refused: product, user, units. `of`: the product of several that caused it.
fn wanted(lives: &Lives, request: &Request, of: Option<i64>) -> Option<(i64, i64, i64)> {
    match request {
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
        Request::Reacquire(id) => lives.get(*id).map(|life| {
            let lost = life.hold;
            (lost.product, lost.user, lost.quantity)
        }),
        _ => None,
    }
}

/// A refusal for the status of a hold: it had this status.
fn by_status(
    lives: &Lives,
    operation: &Operation,
    code: &str,
    say: &mut impl FnMut(Promise, About, &str),
) {
    let about = About::of(operation);
    let row = |id: &i64| lives.get(*id).map(|life| life.hold);
    match (&operation.request, code) {
        (
            Request::Confirm(id)
            | Request::Cancel(id)
            | Request::Extend(id, _)
            | Request::Return(id),
            "reservation_expired",
        ) => expired(lives, operation, *id, say),
        (Request::Return(id) | Request::Reacquire(id), "reservation_not_confirmed") => {
            if lives
                .get(*id)
                .is_none_or(|life| life.active_until() < operation.began)
            {
                let why = "answered as ACTIVE after its end was known";
                say(Promise::OneEnd, about, why);
            }
        }
        (
            Request::Confirm(id)
            | Request::Extend(id, _)
            | Request::Reacquire(id)
            | Request::Return(id),
            "reservation_canceled",
        ) => {
            if !row(id).is_some_and(|row| {
                row.status == Status::Canceled && row.ended <= Some(operation.ended)
            }) {
                say(Promise::OneEnd, about, "the database has another end");
            }
        }
        (Request::Cancel(id) | Request::Extend(id, _), "reservation_confirmed") => {
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
        ) => {
            let mut rows = lives.all().map(|life| life.hold);
            // For a late payment, the new reservation was returned.
            if !rows.any(|row| {
                (row.id == *id || row.reacquired_from == Some(*id))
                    && row.status == Status::Returned
                    && row.ended <= Some(operation.ended)
            }) {
                let why = "not returned according to the database";
                say(Promise::OneEnd, about, why);
            }
        }
        // Clients only use ids that they got in answers.
        _ => say(Promise::TrueAnswer, about, "the refusal does not fit"),
    }
}

/// A hold was past its deadline when the answer came, and never became anything but EXPIRED.
pub(super) fn expired(
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
