//! Checks the guarantees of the service: a pure function of the history.
//!
//! The final row of a reservation contains the whole life of the hold: when it was created, until when it was ACTIVE,
//! and how it ended. The service stamps each change with the database's clock, read under the product's lock, so the
//! times are in the order of the changes. Every answer must match these lives at some moment between its request and
//! its arrival. An unknown outcome matches either way. Refusals and reads take no lock: they see a change only after
//! its commit, which is a little later than its time.

mod answers;
mod events;
mod finding;
mod hostile;
mod keys;
mod line;
mod live;
mod lives;
mod orders;
mod refusals;
mod rows;
mod rules;
#[cfg(test)]
mod tests;

use super::history::History;
use finding::Found;
pub(crate) use finding::{About, Promise, Violation};
pub(crate) use live::not_well;
use lives::Lives;
use rules::Rules;

/// All violations in a history.
pub(crate) fn check(history: &History) -> Vec<Violation> {
    let mut found = Found::default();
    let history = &keys::as_one(history, &mut found);
    let history = &orders::as_singles(history, &mut found);
    let (lives, rules) = (Lives::of(history), Rules::of(history));
    answers::check(history, &lives, &rules, &mut found);
    rows::check(history, &lives, &rules, &mut found);
    line::check(history, &lives, &rules, &mut found);
    events::check(history, &mut found);
    hostile::check(history, &mut found);
    live::check(history, &mut found);
    found.0
}
