//! The rows whose messages are in flight on one channel, and their leases.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use inventory::outbox::{LEASE, LEASE_MAX};
use lapin::types::ShortString;
use time::OffsetDateTime;
use tokio::time::Instant;
use trace::Span;

use crate::confirms::{Fate, Tag, classify_nacks};

/// No more rows are claimed while this many batches are in flight. With batches of 500 rows, which wait 0.5 s for their
/// confirms before the next batch is claimed, this suffices for confirms that take 20 s at full speed, and a few MB.
const BATCHES: usize = 40;

/// Number of batches that one transaction records: an update of 2,500 rows takes a tenth of a second.
const BATCHES_PER_TRANSACTION: usize = 5;

/// A message without a confirm is given up when another message was confirmed that was sent this much later: the broker
/// confirms the others, but not this one. Its queue may be unavailable. Less if there is no room for other rows.
const OVERTAKEN_LIMIT: Duration = Duration::from_secs(60);
const OVERTAKEN_LIMIT_FULL: Duration = Duration::from_secs(5);

/// A message without a confirm is given up after this time, or the age that its event had when it was sent. So the
/// limit doubles with each copy, and a slow broker gets few copies. Not longer, because a replayed event may be days old.
const CONFIRM_WAIT_MIN: Duration = Duration::from_secs(300);
const CONFIRM_WAIT_MAX: Duration = Duration::from_secs(3600);

/// All batches in flight, in the order of sending.
#[derive(Default)]
pub(crate) struct Flight {
    batches: VecDeque<Batch>,
    /// The newest time of sending of a confirmed message.
    confirmed_up_to: Option<Instant>,
}

struct Batch {
    first: Tag,
    sent_at: Instant,
    rows: Vec<Row>,
    /// Number of rows without an outcome.
    unknown: usize,
    /// Whether there are outcomes that no transaction has tried to record.
    news: bool,
    /// None while the transaction that claimed the rows is open.
    lease: Option<Lease>,
}

/// A row of the outbox whose message was sent.
pub(crate) struct Row {
    id: i64,
    created_at: OffsetDateTime,
    pub(crate) replayed: bool,
    routing_key: ShortString,
    /// Ends with the outcome.
    pub(crate) span: Span,
    fate: Fate,
    /// Whether the outcome has been recorded, or belongs to another relay by now.
    closed: bool,
}

struct Lease {
    /// The rows' new time, by PostgreSQL's clock: it identifies the lease.
    until: OffsetDateTime,
    renew_at: Instant,
}

/// Work for one transaction: outcomes to record, and leases to renew.
#[derive(Default)]
pub(crate) struct Due {
    /// The current leases of the rows below.
    pub(crate) leases: Vec<OffsetDateTime>,
    pub(crate) decided: Vec<RowOutcome>,
    /// No confirm is expected any more.
    pub(crate) given_up: Vec<i64>,
    /// They need a lease of this duration.
    pub(crate) waiting: Vec<i64>,
    pub(crate) lease_lasts: Duration,
    batches: Vec<Tag>,
    renewed_batches: Vec<Tag>,
}

/// A row whose outcome can be recorded.
#[derive(Clone, Copy)]
pub(crate) struct RowOutcome {
    pub(crate) id: i64,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) replayed: bool,
    pub(crate) fate: Fate,
}

impl Row {
    /// A row that is sent for the first time.
    pub(crate) fn new(id: i64, created_at: OffsetDateTime, routing_key: ShortString) -> Self {
        Self {
            id,
            created_at,
            replayed: false,
            routing_key,
            span: Span::none(),
            fate: Fate::Unknown,
            closed: false,
        }
    }

    fn settle(&mut self, fate: Fate) {
        self.fate = fate;
        let span = std::mem::replace(&mut self.span, Span::none());
        match fate {
            Fate::Acked => {}
            Fate::Returned => span.failed("returned", "no queue is bound for it"),
            Fate::QueueRejected | Fate::Refused => span.failed("refused", ""),
            Fate::Unknown => span.failed("_OTHER", "no outcome"),
        }
    }
}

impl Due {
    pub(crate) fn ids(&self) -> Vec<i64> {
        let decided = self.decided.iter().map(|row| row.id);
        let others = self.given_up.iter().chain(&self.waiting).copied();
        decided.chain(others).collect()
    }
}

impl Flight {
    /// A batch was sent, with consecutive tags. Its rows are locked by a transaction.
    pub(crate) fn push(&mut self, first: Tag, rows: Vec<Row>, now: Instant) {
        // A row that could be claimed again had lost its lease.
        if !self.batches.is_empty() {
            self.close(&rows.iter().map(|row| row.id).collect());
        }
        self.batches.push_back(Batch {
            first,
            sent_at: now,
            unknown: rows.len(),
            rows,
            news: false,
            lease: None,
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.batches.len() < BATCHES
    }

    /// Takes note of outcomes.
    pub(crate) fn settle(&mut self, outcomes: &[(Tag, Fate)]) {
        for &(tag, fate) in outcomes {
            let next = self.batches.partition_point(|batch| batch.first <= tag);
            let Some(batch) = next
                .checked_sub(1)
                .and_then(|index| self.batches.get_mut(index))
            else {
                continue;
            };
            let row = usize::try_from(tag - batch.first).ok();
            // A batch that was forgotten can still get outcomes.
            if let Some(row) = row.and_then(|row| batch.rows.get_mut(row)) {
                row.settle(fate);
                batch.unknown -= 1;
                batch.news = true;
                self.confirmed_up_to = self.confirmed_up_to.max(Some(batch.sent_at));
            }
        }
    }

    /// Whether every message of the newest batch has an outcome.
    pub(crate) fn newest_is_complete(&self) -> bool {
        self.batches.back().is_none_or(|batch| batch.unknown == 0)
    }

    /// The rows of the newest batch: those whose outcome can be recorded, and the others.
    pub(crate) fn newest(&self) -> (Vec<RowOutcome>, Vec<i64>) {
        self.batches.back().map(Batch::split).unwrap_or_default()
    }

    /// The transaction of the newest batch has recorded what was decided, and granted a lease for the other rows.
    pub(crate) fn lease_newest(
        &mut self,
        decided: &[RowOutcome],
        until: OffsetDateTime,
        now: Instant,
    ) {
        if let Some(batch) = self.batches.back_mut() {
            batch.lease = Some(Lease::granted(until, LEASE, now));
            batch.news = false;
        }
        self.close(&decided.iter().map(|row| row.id).collect());
    }

    /// The transaction of the newest batch has ended, and left nothing to do.
    pub(crate) fn forget_newest(&mut self) {
        if self
            .batches
            .back()
            .is_some_and(|batch| batch.lease.is_none())
        {
            self.batches.pop_back();
        }
    }

    /// When [`Self::due`] has something to do. A time in the past: now.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        let due_at = |batch: &Batch| {
            let renew_at = batch.lease.as_ref()?.renew_at;
            Some(if batch.news { batch.sent_at } else { renew_at })
        };
        self.batches.iter().filter_map(due_at).min()
    }

    /// Outcomes that can be recorded now, and leases that end soon.
    pub(crate) fn due(&self, now: Instant) -> Due {
        let is_due = |lease: &Lease, batch: &Batch| batch.news || lease.renew_at <= now;
        let mut due = Due::default();
        let leased = self.batches.iter();
        let leased = leased.filter_map(|batch| Some((batch.lease.as_ref()?, batch)));
        for (lease, batch) in leased
            .filter(|(lease, batch)| is_due(lease, batch))
            .take(BATCHES_PER_TRANSACTION)
        {
            let waiting = due.add(lease, batch);
            if lease.renew_at > now {
                continue;
            }
            if self.is_given_up(batch, now) {
                due.given_up.extend(waiting);
                continue;
            }
            due.waiting.extend(waiting);
            due.renewed_batches.push(batch.first);
            // The longer the wait, the rarer the updates. A crash at most doubles it.
            let lasts = (now - batch.sent_at).clamp(LEASE, LEASE_MAX);
            due.lease_lasts = due.lease_lasts.max(lasts);
        }
        due
    }

    /// Takes some of the batches, the oldest first: no more outcomes come. A lease without duration makes the waiting rows
    /// ready at once.
    pub(crate) fn take_rest(&mut self) -> Option<Due> {
        let mut due = Due::default();
        for _ in 0..BATCHES_PER_TRANSACTION {
            let Some(batch) = self.batches.pop_front() else {
                break;
            };
            if let Some(lease) = &batch.lease {
                let waiting = due.add(lease, &batch);
                due.waiting.extend(waiting);
            }
        }
        (!due.leases.is_empty()).then_some(due)
    }

    /// A transaction has done this work. Only the rows in `ours` still had their lease.
    pub(crate) fn done(
        &mut self,
        due: &Due,
        ours: &HashSet<i64>,
        until: Option<OffsetDateTime>,
        now: Instant,
    ) {
        let decided = due.decided.iter().map(|row| row.id);
        let given_up = due.given_up.iter().copied();
        let lost = due.waiting.iter().copied().filter(|id| !ours.contains(id));
        for batch in &mut self.batches {
            if due.batches.contains(&batch.first) {
                batch.news = false;
            }
            if let Some(until) = until
                && due.renewed_batches.contains(&batch.first)
            {
                batch.lease = Some(Lease::granted(until, due.lease_lasts, now));
            }
        }
        self.close(&decided.chain(given_up).chain(lost).collect());
    }

    fn close(&mut self, ids: &HashSet<i64>) {
        for batch in &mut self.batches {
            for row in &mut batch.rows {
                row.closed |= ids.contains(&row.id);
            }
        }
        self.batches
            .retain(|batch| batch.rows.iter().any(|row| !row.closed));
    }

    fn is_given_up(&self, batch: &Batch, now: Instant) -> bool {
        let overtaken = if self.has_room() {
            OVERTAKEN_LIMIT
        } else {
            OVERTAKEN_LIMIT_FULL
        };
        let waited = now - batch.sent_at;
        let age = batch.rows.first().map_or(Duration::ZERO, |row| {
            let age = OffsetDateTime::now_utc() - row.created_at;
            age.try_into().unwrap_or(Duration::ZERO)
        });
        let age_when_sent = age.saturating_sub(waited);
        self.confirmed_up_to >= Some(batch.sent_at + overtaken)
            || waited >= age_when_sent.clamp(CONFIRM_WAIT_MIN, CONFIRM_WAIT_MAX)
    }
}

impl Batch {
    /// The open rows: those whose outcome can be recorded, and the others. A nack can be recorded only when the
    /// outcomes of all messages with its routing key are known: they show whether the message was refused alone.
    fn split(&self) -> (Vec<RowOutcome>, Vec<i64>) {
        let mut fates: Vec<Fate> = self.rows.iter().map(|row| row.fate).collect();
        classify_nacks(&mut fates, self.rows.iter().map(|row| &row.routing_key));
        let is_incomplete = |key: &ShortString| {
            let mut others = self.rows.iter().filter(|row| row.routing_key == *key);
            others.any(|row| row.fate == Fate::Unknown)
        };
        let (mut decided, mut waiting) = (Vec::new(), Vec::new());
        for (row, &fate) in self.rows.iter().zip(&fates).filter(|(row, _)| !row.closed) {
            let id = row.id;
            match fate {
                Fate::Unknown => waiting.push(id),
                Fate::QueueRejected if self.unknown > 0 && is_incomplete(&row.routing_key) => {
                    waiting.push(id);
                }
                _ => decided.push(RowOutcome {
                    id,
                    created_at: row.created_at,
                    replayed: row.replayed,
                    fate,
                }),
            }
        }
        (decided, waiting)
    }
}

impl Lease {
    fn granted(until: OffsetDateTime, lasts: Duration, now: Instant) -> Self {
        let renew_at = now + lasts / 2;
        Self { until, renew_at }
    }
}

impl Due {
    /// Adds what is decided. Returns the other rows.
    fn add(&mut self, lease: &Lease, batch: &Batch) -> Vec<i64> {
        let (decided, waiting) = batch.split();
        self.leases.push(lease.until);
        self.decided.extend(decided);
        self.batches.push(batch.first);
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTIL: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    /// Batches of these ids, all with a lease since the returned time.
    fn flight(batches: &[&[i64]]) -> (Flight, Instant) {
        let (mut flight, now) = (Flight::default(), Instant::now());
        let mut first = 0;
        for ids in batches {
            push(&mut flight, first, ids, now);
            flight.lease_newest(&[], UNTIL, now);
            first += ids.len() as Tag;
        }
        (flight, now)
    }

    fn push(flight: &mut Flight, first: Tag, ids: &[i64], now: Instant) {
        let row = |id: &i64| Row::new(*id, OffsetDateTime::now_utc(), "a".into());
        flight.push(first, ids.iter().map(row).collect(), now);
    }

    fn decided(due: &Due) -> Vec<(i64, Fate)> {
        due.decided.iter().map(|row| (row.id, row.fate)).collect()
    }

    /// All rows are still ours.
    fn done(flight: &mut Flight, due: &Due, now: Instant) {
        flight.done(due, &due.ids().into_iter().collect(), Some(UNTIL), now);
    }

    #[test]
    fn what_was_confirmed_is_recorded_although_the_rest_was_not() {
        let (mut flight, now) = flight(&[&[1, 2, 3], &[4]]);
        assert!(flight.due_at() > Some(now));
        flight.settle(&[(1, Fate::Acked), (3, Fate::Acked)]);
        assert!(flight.due_at() <= Some(now));
        let due = flight.due(now);
        assert_eq!(decided(&due), [(2, Fate::Acked), (4, Fate::Acked)]);
        assert_eq!(due.waiting, [0_i64; 0]);
        done(&mut flight, &due, now);
        assert_eq!(flight.due(now).ids(), [0_i64; 0]);
        flight.settle(&[(0, Fate::Acked), (2, Fate::Acked)]);
        let due = flight.due(now);
        done(&mut flight, &due, now);
        assert!(flight.is_empty());
    }

    #[test]
    fn a_nack_is_judged_when_its_neighbours_are_known() {
        let (mut flight, now) = flight(&[&[1, 2, 3]]);
        flight.settle(&[(0, Fate::Acked), (1, Fate::QueueRejected)]);
        let due = flight.due(now);
        assert_eq!(decided(&due), [(1, Fate::Acked)]);
        done(&mut flight, &due, now);
        flight.settle(&[(2, Fate::Acked)]);
        let due = flight.due(now);
        assert_eq!(decided(&due), [(2, Fate::Refused), (3, Fate::Acked)]);
    }

    #[test]
    fn a_lease_is_renewed_in_time_and_ever_more_rarely() {
        let (mut flight, sent_at) = flight(&[&[1, 2]]);
        let (mut renewals, mut granted, mut lease) = (0, sent_at, LEASE);
        for second in 1..300 {
            let now = sent_at + Duration::from_secs(second);
            let due = flight.due(now);
            if due.waiting.is_empty() {
                continue;
            }
            assert_eq!(due.waiting, [1, 2]);
            assert!(now < granted + lease, "too late");
            assert!(due.lease_lasts >= lease && due.lease_lasts <= LEASE_MAX);
            (granted, lease) = (now, due.lease_lasts);
            renewals += 1;
            done(&mut flight, &due, now);
        }
        assert!((15..25).contains(&renewals), "{renewals}");
        let due = flight.due(sent_at + Duration::from_secs(320));
        assert_eq!(due.given_up, [1, 2]);
    }

    #[test]
    fn an_old_event_is_given_up_after_an_hour() {
        let (mut flight, sent_at) = (Flight::default(), Instant::now());
        let created_at = OffsetDateTime::now_utc() - time::Duration::days(5);
        let row = Row::new(1, created_at, "a".into());
        flight.push(0, vec![row], sent_at);
        flight.lease_newest(&[], UNTIL, sent_at);
        for (minutes, given_up) in [(59, &[] as &[i64]), (61, &[1])] {
            let due = flight.due(sent_at + Duration::from_secs(minutes * 60));
            assert_eq!(due.given_up, given_up, "after {minutes} min");
        }
    }

    #[test]
    fn a_message_that_others_have_overtaken_by_far_is_given_up() {
        let (mut flight, sent_at) = flight(&[&[1]]);
        let now = sent_at + OVERTAKEN_LIMIT;
        push(&mut flight, 1, &[2], now);
        flight.lease_newest(&[], UNTIL, now);
        assert_eq!(flight.due(now).given_up, [0_i64; 0]);
        flight.settle(&[(1, Fate::Acked)]);
        assert_eq!(flight.due(now).given_up, [1]);
    }

    #[test]
    fn a_row_that_is_not_ours_any_more_is_forgotten() {
        let (mut flight, sent_at) = flight(&[&[1, 2]]);
        let now = sent_at + LEASE;
        let due = flight.due(now);
        flight.done(&due, &HashSet::from([2]), Some(UNTIL), now);
        let now = now + LEASE;
        assert_eq!(flight.due(now).waiting, [2]);
        // Claimed again, after its lease had ended.
        push(&mut flight, 2, &[2], now);
        assert_eq!(flight.due(now).ids(), [0_i64; 0]);
    }
}
