//! What Redis, `/metrics` and the live page are told of what the verbs did.

use std::{collections::HashSet, sync::Arc};

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
        self.feed.note(
            What::Confirmed,
            ended_now(answers, changed, |sold| sold.confirmed_at),
        );
    }

    pub(crate) fn canceled(&self, answers: &[Verdict], changed: u64) {
        self.timer.canceled(ended(answers), changed);
        self.metrics.canceled.inc_by(changed);
        self.feed.note(
            What::Canceled,
            ended_now(answers, changed, |hold| hold.canceled_at),
        );
    }

    pub(crate) fn returned(&self, answers: &[Verdict], changed: u64) {
        self.feed.note(
            What::Returned,
            ended_now(answers, changed, |sold| sold.returned_at),
        );
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

/// The reservations that have just ended, each once. It is not said of each: a retry has the same answer, but an
/// earlier time.
fn ended_now(
    answers: &[Verdict],
    changed: u64,
    end: fn(&Reservation) -> Option<OffsetDateTime>,
) -> impl Iterator<Item = (&Reservation, OffsetDateTime)> {
    let ended = answers.iter().flatten();
    let ended = ended.filter_map(move |reservation| Some((reservation, end(reservation)?)));
    let now = ended.clone().map(|(_, at)| at).max();
    let now = now.filter(|_| changed > 0);
    let mut told = HashSet::new();
    ended.filter(move |(reservation, at)| Some(*at) == now && told.insert(reservation.id))
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

#[cfg(test)]
mod tests {
    use inventory::{ProductId, Quantity, UserId, reservation::Status};

    use super::*;

    fn sold(id: i64, at: i64) -> Verdict {
        let at = OffsetDateTime::from_unix_timestamp(at).expect("a time");
        Ok(Reservation {
            id: id.try_into().expect("an id"),
            product_id: ProductId::ONE,
            user_id: UserId::ONE,
            quantity: Quantity::ONE,
            status: Status::Confirmed,
            expires_at: at,
            created_at: at,
            confirmed_at: Some(at),
            canceled_at: None,
            expired_at: None,
            returned_at: None,
            reference: None,
            reacquired_from: None,
        })
    }

    #[test]
    fn a_retry_has_not_ended_now() {
        let ids = |answers: &[Verdict], changed| {
            let ended = ended_now(answers, changed, |sold| sold.confirmed_at);
            ended.map(|(sold, _)| sold.id.get()).collect::<Vec<_>>()
        };
        let answers = [sold(1, 100), sold(2, 50), sold(3, 100), sold(1, 100)];
        assert_eq!(ids(&answers, 2), [1, 3]);
        assert_eq!(ids(&answers[1..2], 0), [0; 0]);
    }
}
