//! What Redis, `/metrics` and the live page are told of what the verbs did.

use std::sync::Arc;

use inventory::{
    presence::{Feed, What},
    reservation::Reservation,
};
use time::OffsetDateTime;
use timer::Timer;

use crate::{metrics::Metrics, verb::Verdict};

/// Cheap to clone: each call has its own.
#[derive(Clone)]
pub(crate) struct Books {
    timer: Timer,
    metrics: Metrics,
    feed: Arc<Feed>,
}

impl Books {
    pub(crate) fn new(timer: Timer, metrics: Metrics, feed: Arc<Feed>) -> Self {
        Self {
            timer,
            metrics,
            feed,
        }
    }

    /// These holds were made, and `expired` ended along the way.
    pub(crate) fn reserved<'a>(
        &self,
        holds: impl Iterator<Item = &'a Reservation> + Clone,
        expired: u64,
    ) {
        self.metrics.created.inc_by(holds.clone().count() as u64);
        self.metrics.expired.inc_by(expired);
        self.timer.reserved(timers(holds.clone()), expired);
        let made = holds.map(|hold| (hold, hold.created_at));
        self.feed.note(What::Reserved, made);
        self.feed.note_count(What::Expired, expired);
    }

    pub(crate) fn confirmed(&self, answers: &[Verdict], changed: u64) {
        self.timer.confirmed(ended(answers), changed);
        self.metrics.confirmed.inc_by(changed);
        self.ended_now(What::Confirmed, answers, changed, |sold| sold.confirmed_at);
    }

    pub(crate) fn canceled(&self, answers: &[Verdict], changed: u64) {
        self.timer.canceled(ended(answers), changed);
        self.metrics.canceled.inc_by(changed);
        self.ended_now(What::Canceled, answers, changed, |hold| hold.canceled_at);
    }

    pub(crate) fn returned(&self, answers: &[Verdict], changed: u64) {
        self.ended_now(What::Returned, answers, changed, |sold| sold.returned_at);
    }

    /// The feed is told of those that have changed, which is not said of each: a retry has the same answer, but an
    /// earlier time.
    fn ended_now(
        &self,
        what: What,
        answers: &[Verdict],
        changed: u64,
        end: fn(&Reservation) -> Option<OffsetDateTime>,
    ) {
        let ended = answers.iter().flatten();
        let ended = ended.filter_map(|reservation| Some((reservation, end(reservation)?)));
        let now = ended.clone().map(|(_, at)| at).max();
        if changed > 0 {
            let ended = ended.filter(|(_, at)| Some(*at) == now);
            self.feed.note(what, ended);
        }
    }

    /// Also what could not be extended further: its timer is the same again.
    pub(crate) fn extended(&self, answers: &[Verdict]) {
        let extended = answers.iter().flatten();
        self.timer.extended(timers(extended.clone()));
        let now = OffsetDateTime::now_utc();
        let extended = extended.map(|hold| (hold, now));
        self.feed.note(What::Extended, extended);
    }

    /// A reservation that was made and confirmed in one go is both.
    pub(crate) fn reacquired(&self, count: u64, expired: u64) {
        self.timer.reacquired(count, expired);
        self.metrics.created.inc_by(count);
        self.metrics.confirmed.inc_by(count);
        self.metrics.expired.inc_by(expired);
        self.feed.note_count(What::Confirmed, count);
        self.feed.note_count(What::Expired, expired);
    }

    pub(crate) fn expired(&self, count: u64) {
        self.timer.expired(count);
        self.metrics.expired.inc_by(count);
        self.feed.note_count(What::Expired, count);
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
