//! What Redis and `/metrics` are told of what the verbs did.

use inventory::reservation::{Batch, Reservation};
use timer::Timer;

use crate::metrics::Metrics;

/// Cheap to clone: each call has its own.
#[derive(Clone)]
pub(crate) struct Books {
    timer: Timer,
    metrics: Metrics,
}

impl Books {
    pub(crate) fn new(timer: Timer, metrics: Metrics) -> Self {
        Self { timer, metrics }
    }

    /// These holds were made, and `expired` ended along the way.
    pub(crate) fn reserved<'a>(
        &self,
        holds: impl Iterator<Item = &'a Reservation> + Clone,
        expired: u64,
    ) {
        self.metrics.created.inc_by(holds.clone().count() as u64);
        self.metrics.expired.inc_by(expired);
        self.timer.reserved(timers(holds), expired);
    }

    pub(crate) fn confirmed(&self, batch: &Batch) {
        self.timer.confirmed(ended(batch), batch.changed);
        self.metrics.confirmed.inc_by(batch.changed);
    }

    pub(crate) fn canceled(&self, batch: &Batch) {
        self.timer.canceled(ended(batch), batch.changed);
        self.metrics.canceled.inc_by(batch.changed);
    }

    /// Also what could not be extended further: its timer is the same again.
    pub(crate) fn extended(&self, batch: &Batch) {
        self.timer.extended(timers(batch.answers.iter().flatten()));
    }

    /// A reservation that was made and confirmed in one go is both.
    pub(crate) fn reacquired(&self, batch: &Batch) {
        self.timer.reacquired(batch.changed, batch.expired);
        self.metrics.created.inc_by(batch.changed);
        self.metrics.confirmed.inc_by(batch.changed);
        self.metrics.expired.inc_by(batch.expired);
    }

    pub(crate) fn expired(&self, count: u64) {
        self.timer.expired(count);
        self.metrics.expired.inc_by(count);
    }
}

fn ended(batch: &Batch) -> impl Iterator<Item = i64> {
    batch
        .answers
        .iter()
        .flatten()
        .map(|reservation| reservation.id.get())
}

/// Ids, and deadlines as Redis wants them: in Unix milliseconds.
fn timers<'a>(holds: impl Iterator<Item = &'a Reservation>) -> impl Iterator<Item = (i64, i64)> {
    holds.map(|hold| {
        let deadline = hold.expires_at;
        let milliseconds = deadline.unix_timestamp() * 1000 + i64::from(deadline.millisecond());
        (hold.id.get(), milliseconds)
    })
}
