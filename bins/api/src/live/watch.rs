//! Makes views of what the polls find.

use std::collections::{BTreeMap, HashMap, VecDeque};

use inventory::{
    ProductId, outbox,
    presence::{Audited, Role, SILENCE_LIMIT, Seen, Transition},
    product::Product,
};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{
    alerts::{Alert, alerts},
    beats::{Beats, Heard},
    view::{Expiry, Funnel, History, Outbox, Process, Rates, Reached, Servers, Shown, View},
};

/// How many products are shown.
pub(super) const PRODUCTS_MAX: usize = 500;

/// How many transitions a state has.
const FEED_MAX: usize = 50;

/// How long a failure of requests is told of, in polls.
const FAILURES_KEPT: usize = 10;

/// What a poll found in PostgreSQL.
pub(super) struct Found {
    pub(super) now: OffsetDateTime,
    pub(super) processes: Vec<Seen>,
    /// One more than are shown tells that there are more.
    pub(super) products: Vec<Product>,
    pub(super) lag_seconds: f64,
    /// Not counted each time.
    pub(super) outbox: Option<outbox::Status>,
}

/// What is known from one poll to the next.
pub(super) struct Watch {
    view: View,
    history: History,
    beats: Beats,
    /// Of each of the last polls.
    failures: VecDeque<BTreeMap<String, u64>>,
    /// What is wrong as of the last poll: it is told once it is wrong in two in a row.
    suspected: Vec<Alert>,
    /// When PostgreSQL answered for the first time, or for the first time again. The beats of the others need a moment.
    answers_since: Option<Instant>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            view: View {
                at: OffsetDateTime::now_utc(),
                alerts: Vec::new(),
                servers: Servers {
                    postgres: Reached::Unknown,
                    redis: Reached::Unknown,
                    rabbitmq: Reached::Unknown,
                },
                processes: Vec::new(),
                rates: Rates::default(),
                funnel: None,
                expiry: Expiry::default(),
                outbox: Outbox::default(),
                audit: None,
                products_shown: Shown::All,
                products: Vec::new(),
                feed: Vec::new(),
                history: None,
            },
            history: History::default(),
            beats: Beats::default(),
            failures: VecDeque::new(),
            suspected: Vec::new(),
            answers_since: None,
        }
    }

    /// Takes in one poll: what PostgreSQL says, if it answers, and the counters of Redis, if it does. Answers how
    /// everything stands, and what has changed.
    pub(super) fn update(
        &mut self,
        found: Option<Found>,
        counters: Option<[i64; 4]>,
        audit: Option<Audited>,
    ) -> (View, View) {
        self.view.servers.redis = reached(counters.is_some());
        self.view.funnel = counters.map(|[reserved, confirmed, canceled, expired]| Funnel {
            reserved,
            confirmed,
            canceled,
            expired,
        });
        let (mut products, mut feed) = (Vec::new(), Vec::new());
        match found {
            Some(found) => {
                self.answers_since.get_or_insert_with(Instant::now);
                (products, feed) = self.take(found, audit);
            }
            None => {
                self.answers_since = None;
                self.view.at = OffsetDateTime::now_utc();
                self.view.servers.postgres = Reached::Down;
                self.view.servers.rabbitmq = Reached::Unknown;
                self.view.rates = Rates::default();
                self.note_failures(BTreeMap::new());
            }
        }
        self.judge();
        self.history.push(&self.view);
        self.view.feed.extend(feed.iter().cloned());
        let too_many = self.view.feed.len().saturating_sub(FEED_MAX);
        self.view.feed.drain(..too_many);
        let state = View {
            history: Some(self.history.clone()),
            ..self.view.clone()
        };
        let tick = View {
            products,
            feed,
            ..self.view.clone()
        };
        (state, tick)
    }

    /// Answers the products that have changed, and the transitions that are new.
    fn take(
        &mut self,
        mut found: Found,
        audit: Option<Audited>,
    ) -> (Vec<Product>, Vec<Transition>) {
        let Heard {
            rates,
            failures,
            feed,
        } = self.beats.take(&found.processes);
        self.note_failures(failures);
        let view = &mut self.view;
        view.rates = rates;
        view.at = found.now;
        view.servers.postgres = Reached::Up;
        view.servers.rabbitmq = rabbitmq(&found.processes);
        view.processes = found.processes.iter().map(process).collect();
        view.expiry.lag_seconds = found.lag_seconds;
        if let Some(status) = found.outbox {
            view.outbox = Outbox {
                depth: status.depth,
                oldest_age_seconds: status.oldest_age_seconds,
                dead: status.dead,
            };
        }
        let audits = found.processes.iter().map(|seen| seen.report.audit.clone());
        let audits = audits.chain([audit, view.audit.take()]).flatten();
        view.audit = audits.max_by_key(|audit| audit.at);
        view.products_shown = Shown::All;
        if found.products.len() > PRODUCTS_MAX {
            view.products_shown = Shown::Newest;
            found.products.remove(0);
        }
        let old = std::mem::replace(&mut view.products, found.products);
        let old: HashMap<ProductId, Product> = old
            .into_iter()
            .map(|product| (product.id, product))
            .collect();
        let changed = view.products.iter();
        let changed = changed.filter(|product| old.get(&product.id) != Some(product));
        (changed.cloned().collect(), feed)
    }

    fn note_failures(&mut self, failures: BTreeMap<String, u64>) {
        if self.failures.len() == FAILURES_KEPT {
            self.failures.pop_front();
        }
        self.failures.push_back(failures);
    }

    fn judge(&mut self) {
        let mut failures = BTreeMap::new();
        for (code, count) in self.failures.iter().flatten() {
            *failures.entry(code.clone()).or_default() += count;
        }
        let mut found = alerts(&self.view, &failures);
        let settled = self
            .answers_since
            .is_some_and(|since| since.elapsed() > SILENCE_LIMIT);
        // As long as PostgreSQL was away, nobody could say that they are there.
        found.retain(|alert| settled || !alert.is_of_beats());
        let suspected = std::mem::replace(&mut self.suspected, found.clone());
        found.retain(|alert| suspected.iter().any(|before| before.code == alert.code));
        self.view.alerts = found;
    }
}

fn reached(up: bool) -> Reached {
    match up {
        true => Reached::Up,
        false => Reached::Down,
    }
}

/// As the relays say.
fn rabbitmq(processes: &[Seen]) -> Reached {
    let relays = processes.iter();
    let relays = relays.filter(|seen| seen.role == Role::Relay && is_alive(seen));
    let mut says = relays.filter_map(|seen| seen.report.reaches.get("rabbitmq").copied());
    match says.next() {
        None => Reached::Unknown,
        Some(first) => reached(first || says.any(|up| up)),
    }
}

fn is_alive(seen: &Seen) -> bool {
    seen.silent <= SILENCE_LIMIT
}

fn process(seen: &Seen) -> Process {
    let reaches = seen.report.reaches.iter();
    let down = reaches.filter(|(_, up)| !**up);
    Process {
        role: seen.role,
        instance: seen.instance.clone(),
        version: seen.report.version.clone(),
        alive: is_alive(seen),
        heard_seconds_ago: seen.silent.as_secs_f64(),
        started_at: seen.started_at,
        cannot_reach: down.map(|(server, _)| server.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const COUNTERS: Option<[i64; 4]> = Some([0; 4]);

    /// PostgreSQL answers, and nobody is there.
    fn nobody() -> Option<Found> {
        Some(Found {
            now: OffsetDateTime::now_utc(),
            processes: Vec::new(),
            products: Vec::new(),
            lag_seconds: 0.0,
            outbox: None,
        })
    }

    fn told(watch: &mut Watch, found: Option<Found>, counters: Option<[i64; 4]>) -> Vec<&str> {
        let (state, tick) = watch.update(found, counters, None);
        assert_eq!(state.alerts, tick.alerts);
        let alerts = state.alerts.iter();
        alerts.map(|alert| alert.code).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_bad_poll_is_no_alert() {
        let mut watch = Watch::new();
        assert_eq!(told(&mut watch, None, None), [""; 0]);
        assert_eq!(told(&mut watch, nobody(), COUNTERS), [""; 0]);
        assert_eq!(told(&mut watch, None, None), [""; 0]);
        assert_eq!(
            told(&mut watch, None, None),
            ["postgres_down", "redis_down"]
        );
        assert_eq!(told(&mut watch, nobody(), None), ["redis_down"]);
        assert_eq!(told(&mut watch, nobody(), COUNTERS), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_missed_before_they_could_say_that_they_are_there() {
        let mut watch = Watch::new();
        for _ in 0..2 {
            for _ in 0..3 {
                assert_eq!(told(&mut watch, nobody(), COUNTERS), [""; 0]);
            }
            tokio::time::advance(SILENCE_LIMIT + Duration::from_secs(1)).await;
            assert_eq!(told(&mut watch, nobody(), COUNTERS), [""; 0]);
            let missed = told(&mut watch, nobody(), COUNTERS);
            assert_eq!(missed, ["no_expirer", "no_relay"]);
            // They could not either while PostgreSQL was away.
            told(&mut watch, None, COUNTERS);
        }
    }
}
