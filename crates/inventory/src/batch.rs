//! The result of a verb's call, for each of its requests.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use sqlx::{FromRow as _, Row, postgres::PgRow};

use crate::{
    ReservationId,
    reservation::{Refusal, Reservation, Status, answer},
    transition::{Change, Transition, expired, offered},
};

/// The result of a batch of requests.
#[derive(Debug)]
pub struct Batch {
    /// One answer for each request, in order.
    pub answers: Vec<Result<Reservation, Refusal>>,
    /// One change for each answer. For a refusal it has no meaning.
    changes: Vec<Change>,
    /// Number of due holds that this call also expired.
    pub expired: u64,
    /// Number of holds that this call offered to users who waited for units.
    pub offered: u64,
    /// How long the call has waited for locks that other sessions held. Only calls that reserve measure it.
    pub waited: Duration,
}

impl Batch {
    /// `changes` must have one entry for each answer. `expired` is the number of due holds that the call also
    /// expired.
    pub fn new(
        answers: Vec<Result<Reservation, Refusal>>,
        changes: Vec<Change>,
        expired: u64,
    ) -> Self {
        Self {
            answers,
            changes,
            expired,
            offered: 0,
            waited: Duration::ZERO,
        }
    }

    /// The transitions of this call, including repeats.
    pub fn transitions(&self) -> impl Iterator<Item = Transition<'_>> + Clone {
        self.changes()
            .map(|(change, reservation)| Transition::Of(change, reservation))
            .chain(expired(self.expired))
            .chain(offered(self.offered))
    }

    /// Replaces the refusal of a request with `later`, the result of a batch of only that request.
    pub(crate) fn replace(&mut self, position: usize, later: Self) {
        let (mut answers, mut changes) = (later.answers.into_iter(), later.changes.into_iter());
        if let (Some(answer), Some(change)) = (answers.next(), changes.next()) {
            self.answers[position] = answer;
            self.changes[position] = change;
        }
        self.expired += later.expired;
        self.offered += later.offered;
    }

    /// The batch as a whole, for a function that does all or none. The requests are named by `ids`.
    pub(crate) fn all_or_none<Id: Copy>(self, ids: &[Id]) -> AllOrNone<Id> {
        let answers = ids.iter().zip(self.answers);
        let answer: Result<Vec<_>, _> = answers
            .map(|(id, answer)| answer.map_err(|refusal| (*id, refusal)))
            .collect();
        // Where one request is refused, everything is rolled back.
        let is_done = answer.is_ok();
        AllOrNone {
            answer,
            changes: if is_done { self.changes } else { Vec::new() },
            expired: if is_done { self.expired } else { 0 },
            offered: if is_done { self.offered } else { 0 },
        }
    }

    /// The answer of each request, with the change that it made.
    pub(crate) fn outcomes(
        &self,
    ) -> impl Iterator<Item = (Change, &Result<Reservation, Refusal>)> + Clone {
        self.changes.iter().copied().zip(&self.answers)
    }

    fn changes(&self) -> impl Iterator<Item = (Change, &Reservation)> + Clone {
        let answers = self.answers.iter().zip(&self.changes);
        answers.filter_map(|(answer, change)| Some((*change, answer.as_ref().ok()?)))
    }
}

/// The result of a batch that is done as a whole or not at all.
#[derive(Debug)]
pub struct AllOrNone<Id> {
    /// All reservations, in the order of the requests. Or the first refusal, and which request it is.
    pub answer: Result<Vec<Reservation>, (Id, Refusal)>,
    /// One change for each reservation.
    pub(crate) changes: Vec<Change>,
    /// Number of due holds that this call also expired.
    pub expired: u64,
    /// Number of holds that this call offered to users who waited for units.
    pub offered: u64,
}

impl<Id> AllOrNone<Id> {
    /// The transitions of this call, including repeats.
    pub fn transitions(&self) -> impl Iterator<Item = Transition<'_>> + Clone {
        let reservations = self.answer.iter().flatten();
        let changes = self.changes.iter().copied().zip(reservations);
        changes
            .map(|(change, reservation)| Transition::Of(change, reservation))
            .chain(expired(self.expired))
            .chain(offered(self.offered))
    }
}

/// The result of a verb that moves reservations to the status `wanted`, with one answer for each id. `rows` is the
/// result of `confirm_v2` and similar functions: each existing reservation, and whether the verb made the `change`. Then
/// come the holds that the call offered to users who waited for units.
pub(crate) fn batch_ended_as(
    wanted: Status,
    change: Change,
    ids: &[ReservationId],
    rows: &[PgRow],
) -> Result<Batch, sqlx::Error> {
    let mut found: HashMap<_, (Reservation, bool)> = HashMap::with_capacity(ids.len());
    for row in rows {
        let reservation = Reservation::from_row(row)?;
        let changed = row.try_get("changed")?;
        // A changed reservation may appear twice: a later statement of the function read it again, unchanged.
        let (_, known) = found
            .entry(reservation.id)
            .or_insert((reservation, changed));
        *known |= changed;
    }
    let (mut answers, mut changes) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
    for id in ids {
        let of_id = found.get_mut(id);
        // If several requests name the same reservation, the first one counts as the change and the others as
        // repeats.
        let changed = of_id.is_some_and(|(_, changed)| std::mem::take(changed));
        changes.push(if changed { change } else { Change::Repeated });
        let reservation = found.get(id).map(|(reservation, _)| reservation);
        answers.push(answer(wanted, reservation));
    }
    let mut batch = Batch::new(answers, changes, 0);
    let asked: HashSet<_> = ids.iter().collect();
    batch.offered = found.keys().filter(|id| !asked.contains(id)).count() as u64;
    Ok(batch)
}
