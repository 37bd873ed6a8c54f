//! Acts on whole orders: they are checked as acts on each of their holds.

use super::finding::{About, Found, Promise};
use crate::chaos::history::{Answer, History, Operation, Request};

/// The history with an operation for each hold instead of one for the whole order. Every other check treats them like
/// acts on single holds. A refusal is that of one hold: for the others nothing was done.
pub(super) fn as_singles(history: &History, found: &mut Found) -> History {
    let mut operations = Vec::new();
    for operation in &history.operations {
        let Request::Order(act, ids) = &operation.request else {
            operations.push(operation.clone());
            continue;
        };
        let single = |id: i64, answer: Answer| Operation {
            request: act.on(id),
            answer,
            ..operation.clone()
        };
        match &operation.answer {
            Answer::Holds(holds) => {
                if holds.len() != ids.len() {
                    say(history, operation, "not all holds", found);
                }
                let each = ids.iter().zip(holds);
                operations.extend(each.map(|(id, hold)| single(*id, Answer::Hold(hold.clone()))));
            }
            Answer::Refused { standing, .. } => match standing.filter(|id| ids.contains(id)) {
                Some(id) => operations.push(single(id, operation.answer.clone())),
                None => say(history, operation, "refused for none of its holds", found),
            },
            other => operations.extend(ids.iter().map(|id| single(*id, other.clone()))),
        }
    }
    History {
        operations,
        ..history.clone()
    }
}

fn say(history: &History, operation: &Operation, why: &str, found: &mut Found) {
    let what = format!("{why}: {}", history.describe(operation));
    found.add(Promise::AllOrNone, About::of(operation), what);
}
