//! What the processes have done, from one beat of each to its next.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use presence::{Counts, FeedItem, Instance};
use time::OffsetDateTime;

use crate::view::Rates;

/// A process's rates are those of its last beat, until the next is this late.
const BEAT_LATE: Duration = Duration::from_secs(3);

/// Failures are told of for so long.
pub(crate) const RECENT: Duration = Duration::from_secs(10);

/// Who is older when it is heard for the first time has not done everything just now.
const YOUNG: Duration = Duration::from_secs(5);

/// The last beat of each process, by its instance.
pub(crate) struct Heartbeats {
    last: HashMap<String, Heartbeat>,
    is_failure: fn(&str) -> bool,
}

struct Heartbeat {
    seen_at: OffsetDateTime,
    counts: Counts,
    problems: BTreeMap<String, u64>,
    rates: Rates,
    /// The number of its first transition that was not told.
    next_transition: u64,
}

/// What is new.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) rates: Rates,
    /// Requests that failed, by the code of their problem.
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) feed: Vec<FeedItem>,
}

impl Heartbeats {
    /// `is_failure` tells whether a problem's code is a failure of the service, and not a refusal.
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
        let next_transition = earlier.as_ref().map_or(0, |beat| beat.next_transition);
        let (since, counts, problems) = match earlier {
            Some(beat) => (beat.seen_at, beat.counts, beat.problems),
            None if seen.seen_at - seen.started_at < YOUNG => {
                (seen.started_at, Counts::default(), BTreeMap::new())
            }
            None => (seen.seen_at, report.counts, report.problems.clone()),
        };
        // Its first beat comes with its start.
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
                // What comes late (PostgreSQL was away) is no news.
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
        // It has run for long, and was never heard before: nobody knows when it did that.
        let heard = beats.take(&[seen("old", 1000, 0, 5_000, 0)]);
        assert_eq!(heard.rates.reserved, 0.0);
        // One goes on, and another was just started.
        let heard = beats.take(&[seen("old", 1002, 2, 5_100, 6), seen("new", 2, 2, 8, 0)]);
        assert_eq!(heard.rates.reserved, 50.0 + 4.0);
        assert_eq!(heard.rates.refused["sold_out"], 54.0);
        assert_eq!(heard.rates.failed["overloaded"], 3.0);
        assert_eq!(heard.failures["overloaded"], 6);
        // No new beat: the rates stay for a while, and nothing is counted twice.
        let mut late = seen("old", 1002, 2, 5_100, 6);
        let heard = beats.take(std::slice::from_ref(&late));
        assert_eq!(heard.rates.reserved, 50.0);
        assert!(heard.failures.is_empty());
        late.silent = BEAT_LATE;
        assert_eq!(beats.take(&[late]).rates.reserved, 0.0);
        // PostgreSQL has crashed, and with it all beats were gone.
        beats.take(&[]);
        let heard = beats.take(&[seen("old", 1012, 12, 5_200, 6)]);
        assert_eq!(heard.rates.reserved, 0.0);
    }
}
