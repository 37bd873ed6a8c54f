//! Makes views from the snapshots of the polls.

use std::collections::{BTreeMap, HashMap, VecDeque};

use inventory::{ProductId, product::Product, server::Server, waitlist::Offers};
use presence::{FeedItem, Instance, Role, SILENCE_LIMIT};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    alerts::alerts,
    audits::LastAudit,
    debounce::Debounce,
    durations::Histogram,
    heartbeats::{Heard, Heartbeats, RECENT},
    remote_snapshots::RemoteSnapshots,
    snapshot::{PROCESSES, PRODUCTS_MAX, Snapshot},
    view::{
        Database, Expiry, Funnel, History, Outbox, Process, Reached, Servers, Shown, Trends, View,
    },
};

/// Most transitions in the feed of a `state`.
const FEED_MAX: usize = 50;

/// The state that is kept between polls.
pub(crate) struct Monitor {
    view: View,
    history: History,
    trends: Trends,
    audit: LastAudit,
    heartbeats: Heartbeats,
    remote_snapshots: RemoteSnapshots,
    postgres: Debounce,
    redis: Debounce,
    rabbitmq: Debounce,
    unreadable: Vec<&'static str>,
    failures: VecDeque<(Instant, BTreeMap<String, u64>)>,
    reserve_times: VecDeque<(Instant, Histogram)>,
    /// PostgreSQL's time at the last read, and when that read was.
    clock: (OffsetDateTime, Instant),
    /// Since when PostgreSQL answers without an outage. After an outage, the heartbeats of other processes need a
    /// moment to arrive.
    answers_since: Option<Instant>,
}

impl Monitor {
    pub(crate) fn new(audit: LastAudit, is_failure: fn(&str) -> bool) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            view: View {
                at: now,
                alerts: Vec::new(),
                servers: Servers {
                    postgres: Reached::Unknown,
                    redis: Reached::Unknown,
                    rabbitmq: Reached::Unknown,
                },
                database: Database::default(),
                processes: Vec::new(),
                rates: None,
                reserve_seconds: None,
                funnel: None,
                expiry: Expiry::default(),
                outbox: Outbox::default(),
                audit: None,
                products_shown: Shown::All,
                products: Vec::new(),
                offered: Vec::new(),
                feed: Vec::new(),
                history: None,
                trends: None,
            },
            history: History::default(),
            trends: Trends::new(),
            audit,
            heartbeats: Heartbeats::new(is_failure),
            remote_snapshots: RemoteSnapshots::default(),
            postgres: Debounce::default(),
            redis: Debounce::default(),
            rabbitmq: Debounce::default(),
            unreadable: Vec::new(),
            failures: VecDeque::new(),
            reserve_times: VecDeque::new(),
            clock: (now, Instant::now()),
            answers_since: None,
        }
    }

    /// Processes one poll: the snapshot of PostgreSQL and the counters of Redis, each `None` without an answer.
    /// Returns the complete state, and the tick: the same state, but with only new feed items and changed products.
    pub(crate) fn update(
        &mut self,
        found: Option<Snapshot>,
        counters: Option<[i64; 4]>,
    ) -> (View, View) {
        self.view.servers.redis = self.redis.take(counters.is_some());
        if counters.is_some() || self.view.servers.redis == Reached::Down {
            self.view.funnel = counters.map(|[reserved, confirmed, canceled, expired]| Funnel {
                reserved,
                confirmed,
                canceled,
                expired,
            });
        }
        self.view.servers.postgres = self.postgres.take(found.is_some());
        let mut feed = Vec::new();
        let found = match found {
            Some(found) => {
                self.answers_since.get_or_insert_with(Instant::now);
                found
            }
            None => {
                if self.view.servers.postgres == Reached::Down {
                    self.answers_since = None;
                    self.view.rates = None;
                    self.rabbitmq = Debounce::default();
                    self.view.servers.rabbitmq = Reached::Unknown;
                }
                Snapshot::default()
            }
        };
        if let Some(server) = &found.server {
            self.take_server(server);
        }
        if let Some((now, processes)) = found.processes {
            self.clock = (now, Instant::now());
            feed = self.take_processes(&processes);
        } else if !found.unreadable.is_empty() {
            self.view.rates = None;
        }
        let products = found.products.map(|found| self.take_products(found));
        let offered = found.offered.map(|found| self.take_offered(found));
        if let Some(lag_seconds) = found.lag_seconds {
            self.view.expiry.lag_seconds = lag_seconds;
        }
        if let Some(status) = found.outbox {
            self.view.outbox = Outbox {
                depth: status.depth,
                oldest_age_seconds: status.oldest_age_seconds,
                dead: status.dead,
            };
        }
        self.view.audit = self.audit.get();
        let (now, read) = self.clock;
        self.view.at = now + read.elapsed();
        self.judge(found.unreadable);
        self.history.push(&self.view);
        self.trends.push(&self.view);
        self.view.feed.extend(feed.iter().cloned());
        let too_many = self.view.feed.len().saturating_sub(FEED_MAX);
        self.view.feed.drain(..too_many);
        let state = View {
            history: Some(self.history.clone()),
            trends: Some(self.trends.clone()),
            ..self.view.clone()
        };
        let tick = View {
            products: products.unwrap_or_default(),
            offered: offered.unwrap_or_default(),
            feed,
            ..self.view.clone()
        };
        (state, tick)
    }

    fn take_server(&mut self, server: &Server) {
        self.view.database = Database::of(server, self.remote_snapshots.oldest(server));
        if !server.writable {
            // No process can write its heartbeat. Like after an outage, the heartbeats then need a moment to arrive.
            self.answers_since = Some(Instant::now());
        }
    }

    /// Returns the new transitions.
    fn take_processes(&mut self, processes: &[Instance]) -> Vec<FeedItem> {
        let Heard {
            rates,
            failures,
            reserve_times,
            feed,
        } = self.heartbeats.take(processes);
        self.failures.push_back((Instant::now(), failures));
        self.reserve_times
            .push_back((Instant::now(), reserve_times));
        let view = &mut self.view;
        view.rates = Some(rates);
        view.servers.rabbitmq = match rabbitmq(processes) {
            Some(up) => self.rabbitmq.take(up),
            None => Reached::Unknown,
        };
        view.processes = processes.iter().map(process).collect();
        let audits = processes
            .iter()
            .filter_map(|seen| seen.report.audit.clone());
        audits.for_each(|audit| self.audit.take(audit));
        feed
    }

    /// Returns the changed products.
    fn take_products(&mut self, mut found: Vec<Product>) -> Vec<Product> {
        let view = &mut self.view;
        view.products_shown = Shown::All;
        if found.len() > PRODUCTS_MAX {
            view.products_shown = Shown::Newest;
            found.remove(0);
        }
        let old = std::mem::replace(&mut view.products, found);
        let old: HashMap<ProductId, Product> = old
            .into_iter()
            .map(|product| (product.id, product))
            .collect();
        let changed = view.products.iter();
        let changed = changed.filter(|product| old.get(&product.id) != Some(product));
        changed.cloned().collect()
    }

    /// Returns the changed numbers.
    fn take_offered(&mut self, found: Vec<Offers>) -> Vec<Offers> {
        let old = std::mem::replace(&mut self.view.offered, found);
        let new = self.view.offered.iter();
        new.filter(|offers| !old.contains(offers))
            .copied()
            .collect()
    }

    fn judge(&mut self, unreadable: Vec<&'static str>) {
        self.failures.retain(|(at, _)| at.elapsed() < RECENT);
        self.reserve_times.retain(|(at, _)| at.elapsed() < RECENT);
        let mut reserve_times = Histogram::default();
        for (_, times) in &self.reserve_times {
            reserve_times.add(times);
        }
        self.view.reserve_seconds = reserve_times.percentiles();
        let mut failures = BTreeMap::new();
        for (code, count) in self.failures.iter().flat_map(|(_, failures)| failures) {
            *failures.entry(code.clone()).or_default() += count;
        }
        // Only data that two polls in a row could not read causes an alert: a single failure may be chance.
        let before = std::mem::replace(&mut self.unreadable, unreadable);
        let mut twice = self.unreadable.clone();
        twice.retain(|what| before.contains(what));
        let settled = self
            .answers_since
            .is_some_and(|since| since.elapsed() > SILENCE_LIMIT);
        // During an outage of PostgreSQL, or if the heartbeats cannot be read, no process can show that it is up.
        let heard = settled && !self.unreadable.contains(&PROCESSES);
        self.view.alerts = alerts(&self.view, heard, &failures, &twice);
    }
}

/// Whether RabbitMQ is up, as the relays report it. `None` without a relay.
fn rabbitmq(processes: &[Instance]) -> Option<bool> {
    let relays = processes.iter();
    let relays = relays.filter(|seen| seen.role == Role::Relay && is_alive(seen));
    let says = relays.filter_map(|seen| seen.report.reaches.get("rabbitmq").copied());
    says.reduce(|one, other| one || other)
}

fn is_alive(seen: &Instance) -> bool {
    seen.silent <= SILENCE_LIMIT
}

fn process(seen: &Instance) -> Process {
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

    use presence::{Durations, Report};

    use super::*;
    use crate::{debounce::STEADY_POLLS, snapshot::EVENTS};

    const COUNTERS: Option<[i64; 4]> = Some([0; 4]);

    /// PostgreSQL answers, and no process has a heartbeat.
    fn nobody() -> Option<Snapshot> {
        Some(Snapshot {
            processes: Some((OffsetDateTime::now_utc(), Vec::new())),
            ..Snapshot::default()
        })
    }

    fn told(watch: &mut Monitor, found: Option<Snapshot>, counters: Option<[i64; 4]>) -> Vec<&str> {
        let (state, tick) = watch.update(found, counters);
        assert_eq!(state.alerts, tick.alerts);
        let alerts = state.alerts.iter();
        alerts.map(|alert| alert.code).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_snapshot_and_a_stalled_commit_are_told() {
        let server = |oldest_snapshot_seconds, stalled_commit_seconds| Snapshot {
            server: Some(Server {
                writable: true,
                oldest_snapshot_seconds,
                oldest_snapshot_holder: Some("session 7".to_owned()),
                stalled_commit_seconds,
                ..Server::default()
            }),
            ..Snapshot::default()
        };
        let mut watch = Monitor::new(LastAudit::default(), |_| true);
        for (oldest, stalled, wanted) in [
            (59.0, 1.0, &[][..]),
            (61.0, 1.0, &["old_snapshot"]),
            (61.0, 3.0, &["commits_stalled", "old_snapshot"]),
            (0.0, 0.0, &[]),
        ] {
            assert_eq!(
                told(&mut watch, Some(server(oldest, stalled)), COUNTERS),
                wanted
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_bad_poll_is_no_outage() {
        let mut watch = Monitor::new(LastAudit::default(), |_| false);
        assert_eq!(told(&mut watch, None, None), [""; 0]);
        assert_eq!(told(&mut watch, nobody(), COUNTERS), [""; 0]);
        assert_eq!(told(&mut watch, None, None), [""; 0]);
        assert_eq!(
            told(&mut watch, None, None),
            ["postgres_down", "redis_down"]
        );
        assert!(watch.view.rates.is_none());
        assert_eq!(told(&mut watch, nobody(), None), ["redis_down"]);
        assert_eq!(told(&mut watch, nobody(), COUNTERS), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_now_and_then_is_down() {
        let mut watch = Monitor::new(LastAudit::default(), |_| false);
        let mut down = 0;
        for _ in 0..8 {
            told(&mut watch, nobody(), COUNTERS);
            down += usize::from(told(&mut watch, None, COUNTERS).contains(&"postgres_down"));
        }
        assert_eq!(down, 6);
        for _ in 0..STEADY_POLLS {
            told(&mut watch, nobody(), COUNTERS);
        }
        assert_eq!(told(&mut watch, nobody(), COUNTERS), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_missed_before_they_could_say_that_they_are_there() {
        let mut watch = Monitor::new(LastAudit::default(), |_| false);
        for _ in 0..2 {
            for _ in 0..3 {
                assert_eq!(told(&mut watch, nobody(), COUNTERS), [""; 0]);
            }
            tokio::time::advance(SILENCE_LIMIT + Duration::from_secs(1)).await;
            let missed = told(&mut watch, nobody(), COUNTERS);
            assert_eq!(missed, ["no_expirer", "no_relay"]);
            // A single bad poll changes nothing.
            let missed = told(&mut watch, None, COUNTERS);
            assert_eq!(missed, ["no_expirer", "no_relay"]);
            // During an outage of PostgreSQL no process can write a heartbeat.
            told(&mut watch, None, COUNTERS);
        }
    }

    /// Two copies of a process. One of them crashes repeatedly.
    #[tokio::test(start_paused = true)]
    async fn who_was_started_again_is_not_missed_however_often() {
        let now = OffsetDateTime::now_utc();
        let copy = |started: u64, silent: u64| Instance {
            role: Role::Expirer,
            instance: format!("{started}"),
            started_at: now - Duration::from_secs(started),
            seen_at: now - Duration::from_secs(silent),
            silent: Duration::from_secs(silent),
            report: Report::default(),
        };
        let copies = [
            copy(90, 0),
            copy(90, 60),
            copy(59, 40),
            copy(39, 20),
            copy(19, 0),
        ];
        let mut watch = Monitor::new(LastAudit::default(), |_| false);
        let mut missed = |copies: &[Instance]| {
            let found = Snapshot {
                processes: Some((now, copies.to_vec())),
                ..Snapshot::default()
            };
            told(&mut watch, Some(found), COUNTERS).contains(&"process_lost")
        };
        missed(&copies);
        tokio::time::advance(SILENCE_LIMIT + Duration::from_secs(1)).await;
        assert!(!missed(&copies));
        assert!(missed(&copies[..4]));
        assert!(!missed(&copies[..1]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_processes_say_counts_only_once_all_could_say_it() {
        let relay = |instance: &str, silent| Instance {
            role: Role::Relay,
            instance: instance.to_owned(),
            started_at: OffsetDateTime::UNIX_EPOCH,
            seen_at: OffsetDateTime::UNIX_EPOCH,
            silent,
            report: Report {
                reaches: [("rabbitmq".to_owned(), false)].into(),
                ..Report::default()
            },
        };
        let dead = SILENCE_LIMIT + Duration::from_secs(1);
        let relays = || {
            let relays = vec![relay("one", Duration::ZERO), relay("other", dead)];
            Some(Snapshot {
                processes: Some((OffsetDateTime::now_utc(), relays)),
                ..Snapshot::default()
            })
        };
        let mut watch = Monitor::new(LastAudit::default(), |_| false);
        for _ in 0..3 {
            assert_eq!(told(&mut watch, relays(), COUNTERS), [""; 0]);
        }
        tokio::time::advance(dead).await;
        assert_eq!(
            told(&mut watch, relays(), COUNTERS),
            ["no_expirer", "rabbitmq_down", "process_lost"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_no_outage() {
        let mut watch = Monitor::new(LastAudit::default(), |_| false);
        let refused = || {
            Some(Snapshot {
                unreadable: vec![PROCESSES, EVENTS],
                ..Snapshot::default()
            })
        };
        told(&mut watch, nobody(), COUNTERS);
        tokio::time::advance(SILENCE_LIMIT + Duration::from_secs(1)).await;
        assert_eq!(told(&mut watch, refused(), COUNTERS), [""; 0]);
        assert_eq!(told(&mut watch, refused(), COUNTERS), ["cannot_read"]);
    }

    #[tokio::test(start_paused = true)]
    async fn percentiles_are_of_ten_seconds_and_a_tick_has_only_changed_offers() {
        let process = |beat: u64, answers| Instance {
            role: Role::Api,
            instance: "one".to_owned(),
            started_at: OffsetDateTime::UNIX_EPOCH,
            seen_at: OffsetDateTime::UNIX_EPOCH + Duration::from_secs(beat),
            silent: Duration::ZERO,
            report: Report {
                reserve_times: Durations {
                    buckets: vec![(0.002, answers), (0.004, 0)],
                    longer: 0,
                },
                ..Report::default()
            },
        };
        let product_id = ProductId::ONE;
        let mut watch = Monitor::new(LastAudit::default(), |_| false);
        let mut poll = |beat, answers, holds| {
            let found = Snapshot {
                processes: Some((OffsetDateTime::now_utc(), vec![process(beat, answers)])),
                offered: Some(vec![Offers { product_id, holds }]),
                ..Snapshot::default()
            };
            let (state, tick) = watch.update(Some(found), COUNTERS);
            assert_eq!(state.offered.len(), 1);
            (
                state.reserve_seconds.map(|times| times.p50),
                tick.offered.len(),
            )
        };
        assert_eq!(poll(1, 500, 3), (None, 1));
        assert_eq!(poll(2, 502, 3), (Some(0.001), 0));
        assert_eq!(poll(2, 502, 4), (Some(0.001), 1));
        tokio::time::advance(RECENT).await;
        assert_eq!(poll(3, 502, 4), (None, 0));
    }
}
