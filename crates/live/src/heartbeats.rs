//! Computes what each process did between two of its heartbeats.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use presence::{Counts, Durations, FeedItem, Instance};
use time::OffsetDateTime;

use crate::{durations::Histogram, view::Rates};

/// The rates of a process are valid until its last heartbeat is this old.
const BEAT_LATE: Duration = Duration::from_secs(3);

/// How long failures are shown.
pub(crate) const RECENT: Duration = Duration::from_secs(10);

/// A process that is older at its first known heartbeat did its work at unknown times, so its rates start at 0.
const YOUNG: Duration = Duration::from_secs(5);

/// The last heartbeat of each process, by instance.
pub(crate) struct Heartbeats {
    last: HashMap<String, Heartbeat>,
    is_failure: fn(&str) -> bool,
}

struct Heartbeat {
    seen_at: OffsetDateTime,
    counts: Counts,
    problems: BTreeMap<String, u64>,
    reserve_times: Durations,
    rates: Rates,
    /// The number of the first transition that was not yet shown.
    next_transition: u64,
}

/// The changes since the heartbeats before.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) rates: Rates,
    /// Requests that failed, by problem code.
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) reserve_times: Histogram,
    pub(crate) feed: Vec<FeedItem>,
}

impl Heartbeats {
    /// `is_failure` decides whether a problem code is a failure of the service, not a refusal.
    pub(crate) fn new(is_failure: fn(&str) -> bool) -> Self {
        Self {
            last: HashMap::new(),
            is_failure,
        }
    }

    pub(crate) fn take(&mut self, processes: &[Instance]) -> Heard {
        let mut heard = Heard::default();
        let mut earlier = std::mem::take(&mut self.last);
        for seen in processes {
            let beat = match earlier.remove(&seen.instance) {
                Some(beat) if beat.seen_at == seen.seen_at => beat,
                earlier => Heartbeat::hear(seen, earlier, self.is_failure, &mut heard),
            };
            if seen.silent < BEAT_LATE {
                add(&mut heard.rates, &beat.rates);
            }
            self.last.insert(seen.instance.clone(), beat);
        }
        heard.feed.sort_by_key(|transition| transition.at);
        heard
    }
}

impl Heartbeat {
    fn hear(
        seen: &Instance,
        earlier: Option<Self>,
        is_failure: fn(&str) -> bool,
        heard: &mut Heard,
    ) -> Self {
        let report = &seen.report;
        if let Some(beat) = &earlier {
            let new = Histogram::between(&beat.reserve_times, &report.reserve_times);
            heard.reserve_times.add(&new);
        }
        let next_transition = earlier.as_ref().map_or(0, |beat| beat.next_transition);
        let (since, counts, problems) = match earlier {
            Some(beat) => (beat.seen_at, beat.counts, beat.problems),
            None if seen.seen_at - seen.started_at < YOUNG => {
                (seen.started_at, Counts::default(), BTreeMap::new())
            }
            None => (seen.seen_at, report.counts, report.problems.clone()),
        };
        // The first heartbeat is written at the start of the process, so the time can be close to 0.
        let seconds = (seen.seen_at - since).as_seconds_f64().max(1.0);
        let rate = |count: fn(&Counts) -> u64| {
            count(&report.counts).saturating_sub(count(&counts)) as f64 / seconds
        };
        let mut rates = Rates {
            reserved: rate(|counts| counts.reserved),
            confirmed: rate(|counts| counts.confirmed),
            canceled: rate(|counts| counts.canceled),
            expired: rate(|counts| counts.expired),
            published: rate(|counts| counts.published),
            ..Rates::default()
        };
        for (code, count) in &report.problems {
            let before = problems.get(code).copied().unwrap_or_default();
            let new = count.saturating_sub(before);
            if new == 0 {
                continue;
            }
            if is_failure(code) {
                // After an outage of PostgreSQL the counts of the whole outage arrive at once. They are not recent.
                if seconds < RECENT.as_secs_f64() {
                    *heard.failures.entry(code.clone()).or_default() += new;
                }
                rates.failed.insert(code.clone(), new as f64 / seconds);
            } else {
                rates.refused.insert(code.clone(), new as f64 / seconds);
            }
        }
        let new = report.recent.iter();
        let new = new.filter(|noted| noted.number >= next_transition);
        heard.feed.extend(new.map(|noted| noted.item.clone()));
        let newest = report.recent.last();
        Self {
            seen_at: seen.seen_at,
            counts: report.counts,
            problems: report.problems.clone(),
            reserve_times: report.reserve_times.clone(),
            rates,
            next_transition: newest.map_or(next_transition, |newest| newest.number + 1),
        }
    }
}

fn add(total: &mut Rates, rates: &Rates) {
    total.reserved += rates.reserved;
    total.confirmed += rates.confirmed;
    total.canceled += rates.canceled;
    total.expired += rates.expired;
    total.published += rates.published;
    for (total, rates) in [
        (&mut total.refused, &rates.refused),
        (&mut total.failed, &rates.failed),
    ] {
        for (code, rate) in rates {
            *total.entry(code.clone()).or_default() += rate;
        }
    }
}

#[cfg(test)]
mod tests {
    use presence::{Report, Role};

    use super::*;

    fn seen(instance: &str, age: i64, at: i64, reserved: u64, overloaded: u64) -> Instance {
        let seen_at = OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(at);
        Instance {
            role: Role::Api,
            instance: instance.to_owned(),
            started_at: seen_at - time::Duration::seconds(age),
            seen_at,
            silent: Duration::ZERO,
            report: Report {
                counts: Counts {
                    reserved,
                    ..Counts::default()
                },
                problems: [
                    ("overloaded".to_owned(), overloaded),
                    ("sold_out".to_owned(), reserved),
                ]
                .into(),
                ..Report::default()
            },
        }
    }

    #[test]
    fn a_rate_is_what_was_done_between_two_beats() {
        let mut beats = Heartbeats::new(|code| code == "overloaded");
        // The process has run for long, and this is its first known heartbeat: the times of its work are unknown.
        let heard = beats.take(&[seen("old", 1000, 0, 5_000, 0)]);
        assert_eq!(heard.rates.reserved, 0.0);
        // The first process continues, and another was just started.
        let heard = beats.take(&[seen("old", 1002, 2, 5_100, 6), seen("new", 2, 2, 8, 0)]);
        assert_eq!(heard.rates.reserved, 50.0 + 4.0);
        assert_eq!(heard.rates.refused["sold_out"], 54.0);
        assert_eq!(heard.rates.failed["overloaded"], 3.0);
        assert_eq!(heard.failures["overloaded"], 6);
        // Without a new heartbeat the rates stay for a while, and nothing is counted twice.
        let mut late = seen("old", 1002, 2, 5_100, 6);
        let heard = beats.take(std::slice::from_ref(&late));
        assert_eq!(heard.rates.reserved, 50.0);
        assert!(heard.failures.is_empty());
        late.silent = BEAT_LATE;
        assert_eq!(beats.take(&[late]).rates.reserved, 0.0);
        // PostgreSQL has crashed and lost all heartbeats.
        beats.take(&[]);
        let heard = beats.take(&[seen("old", 1012, 12, 5_200, 6)]);
        assert_eq!(heard.rates.reserved, 0.0);
    }
}
