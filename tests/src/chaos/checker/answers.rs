//! Every acknowledged answer against the lives of the holds.

use std::collections::HashMap;

use super::{About, Found, Lives, Promise};
use crate::chaos::history::{Answer, History, Hold, Operation, Product, Request, Status};

pub(super) fn check(history: &History, lives: &Lives, found: &mut Found) {
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
                asked_for(history, operation, hold, &mut say);
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
            Answer::Refused { code, standing } => {
                refused(history, lives, operation, (code, *standing), &mut say);
            }
            Answer::Product(product) => adds_up(history, product, &mut say),
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
            Answer::Audit { .. } | Answer::Done | Answer::Overloaded | Answer::Unknown(_) => {}
        }
    }
}

fn about(operation: &Operation) -> About {
    match (operation.request.hold(), &operation.request) {
        (Some(hold), _) => About::Hold(hold),
        (_, Request::Reserve { product, .. } | Request::Product(product)) => {
            About::Product(*product)
        }
        _ => About::Service,
    }
}

/// An answer with a hold is one to this request.
fn asked_for(
    history: &History,
    operation: &Operation,
    hold: &Hold,
    say: &mut impl FnMut(Promise, About, &str),
) {
    let right = match operation.request {
        Request::Reserve { product, user } => {
            let fresh = (operation.began..=operation.ended).contains(&hold.created);
            (hold.product, hold.user, hold.status) == (product, user, Status::Active)
                && fresh
                && hold.expires == hold.created + history.hold_micros
        }
        Request::Confirm(id) => (hold.id, hold.status) == (id, Status::Confirmed),
        Request::Cancel(id) => (hold.id, hold.status) == (id, Status::Canceled),
        Request::Get(id) => hold.id == id,
        _ => false,
    };
    if !right {
        say(
            Promise::TrueAnswer,
            About::Hold(hold.id),
            "not what was asked for",
        );
    }
}

/// What an answer shows of a hold was so at some moment between request and answer.
fn lived(
    lives: &Lives,
    operation: &Operation,
    seen: &Hold,
    say: &mut impl FnMut(Promise, About, &str),
) {
    let about = About::Hold(seen.id);
    let Some(life) = lives.get(seen.id) else {
        return say(Promise::TrueAnswer, about, "there is no such hold");
    };
    let row = life.hold;
    let identity = |hold: &Hold| (hold.product, hold.user, hold.quantity, hold.created);
    let deadline_kept = seen.expires == row.expires || life.moved.is_some();
    if identity(seen) != identity(row) || !deadline_kept {
        return say(
            Promise::TrueAnswer,
            about,
            "it is another one in the database",
        );
    }
    if row.created > operation.ended {
        return say(Promise::TrueAnswer, about, "it was not there yet");
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
        Status::Confirmed | Status::Canceled => {
            if row.status != seen.status {
                say(Promise::OneEnd, about, "in the database it ended otherwise");
            } else if row.ended != seen.ended || row.ended.is_none_or(|at| at > operation.ended) {
                say(
                    Promise::TrueAnswer,
                    about,
                    "in the database it ended at another time",
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
        return say(Promise::TrueAnswer, about, "there is no such hold");
    };
    // What was never swept is the business of another check.
    if !matches!(row.status, Status::Expired | Status::Active) {
        say(
            Promise::OneEnd,
            about,
            "called expired, and ended otherwise",
        );
    } else if row.expires > operation.ended {
        say(
            Promise::ExactDeadline,
            about,
            "called expired before its deadline",
        );
    }
}

fn refused(
    history: &History,
    lives: &Lives,
    operation: &Operation,
    (code, standing): (&str, Option<i64>),
    say: &mut impl FnMut(Promise, About, &str),
) {
    let (about, request) = (about(operation), &operation.request);
    match (request, code) {
        (Request::Reserve { product, .. }, "sold_out") => {
            let total = history.products.get(product).copied().unwrap_or(0);
            if lives.most_taken(*product, operation.began, operation.ended) < total {
                say(
                    Promise::NoUndersell,
                    about,
                    "refused though a unit was free all the time",
                );
            }
        }
        (Request::Reserve { product, user }, "already_reserved") => {
            let stands = standing.and_then(|id| lives.get(id)).is_some_and(|life| {
                (life.hold.product, life.hold.user) == (*product, *user)
                    && life.hold.created <= operation.ended
                    && life.active_until() >= operation.began
            });
            if !stands {
                say(
                    Promise::NoUndersell,
                    about,
                    "no ACTIVE hold stood in the way",
                );
            }
        }
        (Request::Confirm(id) | Request::Cancel(id), "reservation_expired") => {
            expired(lives, operation, *id, say);
        }
        (Request::Confirm(id), "reservation_canceled")
        | (Request::Cancel(id), "reservation_confirmed") => {
            let end = if code == "reservation_canceled" {
                Status::Canceled
            } else {
                Status::Confirmed
            };
            let row = lives.get(*id).map(|life| life.hold);
            if !row.is_some_and(|row| {
                row.status == end && row.ended.is_some_and(|at| at <= operation.ended)
            }) {
                say(Promise::OneEnd, about, "in the database it ended otherwise");
            }
        }
        // Clients ask only for what they were told of.
        _ => say(Promise::TrueAnswer, about, "this cannot be refused so"),
    }
}

fn adds_up(history: &History, product: &Product, say: &mut impl FnMut(Promise, About, &str)) {
    if history.products.get(&product.id) != Some(&product.total) || !conserves(product) {
        say(
            Promise::Conservation,
            About::Product(product.id),
            "counters that do not add up",
        );
    }
}

pub(super) fn conserves(product: &Product) -> bool {
    let parts = [product.stock, product.held, product.sold];
    parts.iter().all(|units| *units >= 0) && parts.iter().sum::<i64>() == product.total
}
