//! Checks that all attempts with one `Idempotency-Key` had the effect of one request.

use std::collections::BTreeMap;

use super::finding::{About, Found, Promise};
use crate::chaos::history::{Answer, History, Operation, Request};

/// The history with all attempts under each key merged into one operation. Every other check treats it like an
/// operation without a key.
///
/// An answer is stored in the transaction of its work, and later attempts with the key get it again. So an answer
/// does not describe its own attempt, but the work of any attempt. That work was committed when the first answer
/// came, and cannot have begun before the first attempt that may have done it. An answer that says "nothing was done"
/// rules out its attempt. An attempt without an answer may have done the work after its client gave up, so its end is
/// no limit. If an answer is not marked as replayed, its own attempt did the work, and the time span is that of an
/// operation without a key.
pub(super) fn as_one(history: &History, found: &mut Found) -> History {
    let mut operations = Vec::new();
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        match &operation.key {
            Some(key) => keys.entry(key).or_default().push(operation),
            None => {
                if operation.replayed {
                    say(history, operation, "replayed without a key", found);
                }
                operations.push(operation.clone());
            }
        }
    }
    for attempts in keys.into_values() {
        one_answer(history, &attempts, found);
        let strange = attempts.iter().filter(|attempt| is_strange(attempt));
        operations.extend(strange.map(|attempt| Operation::clone(attempt)));
        let one = one(&attempts);
        let effects = effects(history, &one.request);
        if effects > usize::from(one.may_be_done()) {
            let why = format!("done {effects} times");
            say(history, &one, &why, found);
        }
        operations.push(one);
    }
    History {
        operations,
        ..history.clone()
    }
}

fn say(history: &History, operation: &Operation, why: &str, found: &mut Found) {
    let what = format!("{why}: {}", history.describe(operation));
    found.add(Promise::OnceUnderAKey, About::of(operation), what);
}

fn is_strange(attempt: &Operation) -> bool {
    matches!(attempt.answer, Answer::Strange(_))
}

/// Whether this attempt may have done the work.
fn may_have_done_it(attempt: &Operation) -> bool {
    !matches!(attempt.answer, Answer::Overloaded | Answer::InUse)
}

/// All attempts merged into one operation.
fn one(attempts: &[&Operation]) -> Operation {
    let began = |attempts: &mut dyn Iterator<Item = &&Operation>| {
        attempts.map(|attempt| attempt.began).min()
    };
    let may_have = began(&mut attempts.iter().filter(|attempt| may_have_done_it(attempt)));
    let answered = attempts.iter().filter(|attempt| attempt.acknowledged());
    let mut one = match answered.clone().min_by_key(|attempt| attempt.ended) {
        Some(first) => {
            let mut at_first_hand =
                answered.filter(|attempt| !attempt.replayed && attempt.began <= first.ended);
            Operation {
                began: began(&mut at_first_hand)
                    .or(may_have)
                    .unwrap_or(first.began),
                ..Operation::clone(first)
            }
        }
        None => Operation {
            answer: match may_have {
                Some(_) => Answer::Unknown("at every attempt".to_owned()),
                None => Answer::Overloaded,
            },
            began: may_have.unwrap_or(attempts[0].began),
            ended: attempts
                .iter()
                .map(|attempt| attempt.ended)
                .max()
                .unwrap_or_default(),
            ..attempts[0].clone()
        },
    };
    one.replayed = false;
    one
}

/// Checks the answers of the attempts against each other.
fn one_answer(history: &History, attempts: &[&Operation], found: &mut Found) {
    let answered: Vec<_> = attempts
        .iter()
        .filter(|attempt| attempt.acknowledged())
        .collect();
    let Some(first) = answered.iter().min_by_key(|attempt| attempt.ended) else {
        return in_use(history, attempts, None, found);
    };
    in_use(history, attempts, Some(first), found);
    let mut done = false;
    for attempt in &answered {
        // An answer cannot be replayed to the attempt that did the work.
        let candidates = attempts
            .iter()
            .filter(|other| may_have_done_it(other) && other.began <= attempt.ended);
        if attempt.answer != first.answer {
            let first = history.describe_answer(&first.answer);
            let why = format!("the answer was {first} at first");
            say(history, attempt, &why, found);
        } else if !attempt.replayed && std::mem::replace(&mut done, true) {
            say(history, attempt, "done a second time", found);
        } else if !attempt.replayed && attempt.began > first.ended {
            say(history, attempt, "done after it was answered", found);
        } else if attempt.replayed && candidates.count() < 2 {
            say(
                history,
                attempt,
                "replayed, but no attempt can have done it",
                found,
            );
        }
    }
}

/// A key may be in use only while another attempt may be at work, and never after the answer is known.
fn in_use(
    history: &History,
    attempts: &[&Operation],
    first: Option<&Operation>,
    found: &mut Found,
) {
    for attempt in attempts
        .iter()
        .filter(|attempt| attempt.answer == Answer::InUse)
    {
        let by_another = attempts.iter().any(|other| {
            // PostgreSQL may still work for an attempt that the API has given up.
            let lingers = matches!(other.answer, Answer::Unknown(_) | Answer::Overloaded);
            other.answer != Answer::InUse
                && other.began <= attempt.ended
                && (other.ended >= attempt.began || lingers)
        });
        if !by_another || first.is_some_and(|first| first.ended < attempt.began) {
            say(history, attempt, "key in use by no attempt", found);
        }
    }
}

/// How often a request was done, as far as rows show it. A hold cannot end twice. For an extension the deadline shows
/// it.
fn effects(history: &History, request: &Request) -> usize {
    let stored = &history.stored;
    match request {
        Request::CreateProduct(name, ..) => {
            stored.names.values().filter(|other| *other == name).count()
        }
        Request::Adjust { reason, .. } => {
            let adjustments = stored.adjustments.iter();
            adjustments.filter(|row| row.reason == *reason).count()
        }
        Request::Join { reference, .. } => {
            let entries = stored.entries.iter();
            let of_it = entries.filter(|entry| entry.reference.as_ref() == Some(reference));
            of_it.count()
        }
        Request::Reserve { .. } | Request::ReserveBatch { .. } => {
            // Another check ensures that each repetition was complete.
            let first = request.items().first().map(|(product, _)| *product);
            let holds = stored.holds.iter().filter(|hold| {
                hold.reference.as_deref() == request.reference()
                    && Some(hold.product) == first
                    && hold.reacquired_from.is_none()
            });
            holds.count()
        }
        _ => 0,
    }
}
