//! What Redis and `/metrics` are told of what the verbs did.

use inventory::reservation::Reservation;
use timer::Timer;

use crate::{metrics::Metrics, verb::Verdict};

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

    pub(crate) fn confirmed(&self, answers: &[Verdict], changed: u64) {
        self.timer.confirmed(ended(answers), changed);
        self.metrics.confirmed.inc_by(changed);
    }

    pub(crate) fn canceled(&self, answers: &[Verdict], changed: u64) {
        self.timer.canceled(ended(answers), changed);
        self.metrics.canceled.inc_by(changed);
    }

    /// Also what could not be extended further: its timer is the same again.
    pub(crate) fn extended(&self, answers: &[Verdict]) {
        self.timer.extended(timers(answers.iter().flatten()));
    }

    /// A reservation that was made and confirmed in one go is both.
    pub(crate) fn reacquired(&self, count: u64, expired: u64) {
        self.timer.reacquired(count, expired);
        self.metrics.created.inc_by(count);
        self.metrics.confirmed.inc_by(count);
        self.metrics.expired.inc_by(expired);
    }

    pub(crate) fn expired(&self, count: u64) {
        self.timer.expired(count);
        self.metrics.expired.inc_by(count);
    }
}

fn ended(answers: &[Verdict]) -> impl Iterator<Item = i64> {
    let ended = answers.iter().flatten();
    ended.map(|reservation| reservation.id.get())
}

/// Ids, and deadlines as Redis wants them: in Unix milliseconds.
fn timers<'a>(holds: impl Iterator<Item = &'a Reservation>) -> impl Iterator<Item = (i64, i64)> {
    holds.map(|hold| {
        let deadline = hold.expires_at;
        let milliseconds = deadline.unix_timestamp() * 1000 + i64::from(deadline.millisecond());
        (hold.id.get(), milliseconds)
    })
}
