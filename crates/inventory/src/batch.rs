//! What a verb's call came to, request by request.

use std::collections::HashMap;

use sqlx::{FromRow as _, Row, postgres::PgRow};

use crate::{
    ReservationId,
    reservation::{Refusal, Reservation, Status, answer},
    transition::{Change, Transition},
};

/// What a batch of requests came to.
#[derive(Debug)]
pub struct Batch {
    /// One answer for each request, in order.
    pub answers: Vec<Result<Reservation, Refusal>>,
    /// One for each answer: what the request did. Of a refusal it means nothing.
    changes: Vec<Change>,
    /// Due holds that this call expired on its way.
    pub expired: u64,
}

impl Batch {
    /// One change for each answer.
    pub fn new(
        answers: Vec<Result<Reservation, Refusal>>,
        changes: Vec<Change>,
        expired: u64,
    ) -> Self {
        Self {
            answers,
            changes,
            expired,
        }
    }

    /// How many reservations this call changed. Less than the successful answers where some were repeats.
    pub fn changed(&self) -> u64 {
        let changes = self.changes();
        changes
            .filter(|(change, _)| *change != Change::Repeated)
            .count() as u64
    }

    /// The transitions that this call made, and its repeats.
    pub fn transitions(&self) -> impl Iterator<Item = Transition<'_>> + Clone {
        let expired = (self.expired > 0).then_some(Transition::Expired(self.expired));
        self.changes()
            .map(|(change, reservation)| Transition::Of(change, reservation))
            .chain(expired)
    }

    /// Puts `later`, which is the batch of one request, in the place of that request's refusal.
    pub(crate) fn replace(&mut self, position: usize, later: Self) {
        let (mut answers, mut changes) = (later.answers.into_iter(), later.changes.into_iter());
        if let (Some(answer), Some(change)) = (answers.next(), changes.next()) {
            self.answers[position] = answer;
            self.changes[position] = change;
        }
        self.expired += later.expired;
    }

    fn changes(&self) -> impl Iterator<Item = (Change, &Reservation)> + Clone {
        let answers = self.answers.iter().zip(&self.changes);
        answers.filter_map(|(answer, change)| Some((*change, answer.as_ref().ok()?)))
    }
}

/// The batch of a verb after which a reservation is `wanted`, one answer for each id. `rows` are those of `confirm_v2`
/// and its like: each reservation that there is, and whether the verb made the `change`.
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
        // One that was changed may come again as it stood a statement later, which is the same.
        let (_, known) = found
            .entry(reservation.id)
            .or_insert((reservation, changed));
        *known |= changed;
    }
    let (mut answers, mut changes) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
    for id in ids {
        let of_id = found.get_mut(id);
        // The first request of a batch that names a reservation is the one that changed it.
        let changed = of_id.is_some_and(|(_, changed)| std::mem::take(changed));
        changes.push(if changed { change } else { Change::Repeated });
        let reservation = found.get(id).map(|(reservation, _)| reservation);
        answers.push(answer(wanted, reservation));
    }
    Ok(Batch::new(answers, changes, 0))
}
