//! The data that viewers of the live page get.

use std::collections::{BTreeMap, VecDeque};

use inventory::{product::Product, schema::Utc, server::Server, waitlist::Offers};
use presence::{Audited, FeedItem, Role};
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

use crate::trend::{Point, Trend};

/// The state of the service (`state`), or the changes since the event before (`tick`).
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Live")]
pub struct View {
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "Utc")]
    pub(crate) at: OffsetDateTime,
    /// Current alerts, worst first.
    pub(crate) alerts: Vec<Alert>,
    pub(crate) servers: Servers,
    pub(crate) database: Database,
    /// Running processes, and processes that went down in the last 10 min.
    pub(crate) processes: Vec<Process>,
    /// Null if the rates are not known.
    pub(crate) rates: Option<Rates>,
    /// How long answers to reserves took in the last 10 s, in seconds. Null without any.
    pub(crate) reserve_seconds: Option<Percentiles>,
    /// Reservations since the counters in Redis were started. Null while Redis is down.
    pub(crate) funnel: Option<Funnel>,
    pub(crate) expiry: Expiry,
    pub(crate) outbox: Outbox,
    /// The latest audit of any process. Null if there was none.
    pub(crate) audit: Option<Audited>,
    pub(crate) products_shown: Shown,
    /// Products, ordered by id. A `tick` has only changed products.
    pub(crate) products: Vec<Product>,
    /// Holds that were offered to the waitlists of these products. A `tick` has only changed numbers.
    pub(crate) offered: Vec<Offers>,
    /// Latest transitions of reservations, oldest first. A `tick` has only new ones. Under load they are a sample.
    pub(crate) feed: Vec<FeedItem>,
    /// The last five minutes, oldest first. Only a `state` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "History")]
    pub(crate) history: Option<History>,
    /// The last hour, and all of the sale. Only a `state` has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Trends")]
    pub(crate) trends: Option<Trends>,
}

/// A fault that an operator must know about.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Alert {
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    pub(crate) title: String,
    pub(crate) meaning: &'static str,
    pub(crate) action: &'static str,
}

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Severity {
    /// Sales are lost, or the numbers are wrong.
    Critical,
    /// Sales continue. Something is late, or there is less in reserve than usual.
    Warning,
}

/// Which products are shown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) enum Shown {
    #[serde(rename = "all")]
    All,
    #[serde(rename = "newest 500")]
    Newest,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Reached {
    Up,
    Down,
    /// No process reports the state of this server.
    Unknown,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Servers {
    pub(crate) postgres: Reached,
    pub(crate) redis: Reached,
    pub(crate) rabbitmq: Reached,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Process {
    pub(crate) role: Role,
    pub(crate) instance: String,
    pub(crate) version: String,
    pub(crate) alive: bool,
    pub(crate) heard_seconds_ago: f64,
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "Utc")]
    pub(crate) started_at: OffsetDateTime,
    /// Servers that the process cannot reach.
    pub(crate) cannot_reach: Vec<String>,
}

/// Rates per second, summed over all processes.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Rates {
    pub(crate) reserved: f64,
    pub(crate) confirmed: f64,
    pub(crate) canceled: f64,
    pub(crate) expired: f64,
    pub(crate) published: f64,
    /// Refused requests, by problem code.
    pub(crate) refused: BTreeMap<String, f64>,
    /// Failed requests (5xx), by problem code.
    pub(crate) failed: BTreeMap<String, f64>,
}

/// Half of all durations, and 99 % of them, are at most this long.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Funnel {
    pub(crate) reserved: i64,
    pub(crate) confirmed: i64,
    pub(crate) canceled: i64,
    pub(crate) expired: i64,
}

/// The state of PostgreSQL.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Database {
    /// Whether nothing can be written, for example because PostgreSQL is a standby.
    pub(crate) read_only: bool,
    /// Age of the oldest snapshot, in seconds. For a standby or a replication slot: how long this API has seen that its
    /// snapshot does not move.
    pub(crate) oldest_snapshot_seconds: f64,
    /// Who has this snapshot: a session, a prepared transaction, a standby or a replication slot. Null without any.
    pub(crate) oldest_snapshot_holder: Option<String>,
    /// How long the oldest commit has waited for a synchronous standby, in seconds.
    pub(crate) stalled_commit_seconds: f64,
}

impl Database {
    /// `oldest` is the holder of the oldest snapshot, and its age in seconds.
    pub(crate) fn of(server: &Server, oldest: Option<(String, f64)>) -> Self {
        let (oldest_snapshot_holder, seconds) = oldest.unzip();
        Self {
            read_only: !server.writable,
            oldest_snapshot_seconds: seconds.unwrap_or_default(),
            oldest_snapshot_holder,
            stalled_commit_seconds: server.stalled_commit_seconds,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Expiry {
    /// How long the oldest due hold has been due, in seconds.
    pub(crate) lag_seconds: f64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Outbox {
    /// Number of events that wait to be published. The count stops at 100,000.
    pub(crate) depth: i64,
    pub(crate) oldest_age_seconds: f64,
    /// Number of dead letters: events that are not tried again.
    pub(crate) dead: i64,
}

/// The last hour, and all of the sale, as far as this API has seen it. A sale begins with the first request after six hours
/// without any.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Trends {
    pub(crate) hour: Trend,
    pub(crate) all: Trend,
}

impl Trends {
    pub(crate) fn new() -> Self {
        Self {
            hour: Trend::of_an_hour(),
            all: Trend::of_the_sale(),
        }
    }

    pub(crate) fn push(&mut self, view: &View) {
        for trend in [&mut self.hour, &mut self.all] {
            trend.push(view.unix_seconds(), view.rates_now());
        }
    }
}

impl View {
    fn unix_seconds(&self) -> f64 {
        self.at.unix_timestamp_nanos() as f64 / 1e9
    }

    /// The rates of the chart.
    fn rates_now(&self) -> Point {
        let rate = |rate: fn(&Rates) -> f64| self.rates.as_ref().map(rate);
        [
            rate(|rates| rates.reserved),
            rate(|rates| rates.confirmed),
            rate(|rates| total(&rates.refused)),
            rate(|rates| total(&rates.failed)),
        ]
    }
}

/// The last five minutes, with one point per poll: rates per second, the lag of the expirer, and the waiting events.
/// Null means not known.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct History {
    /// Unix times, in seconds.
    pub(crate) at: VecDeque<f64>,
    pub(crate) reserved: VecDeque<Option<f64>>,
    pub(crate) confirmed: VecDeque<Option<f64>>,
    pub(crate) refused: VecDeque<Option<f64>>,
    pub(crate) failed: VecDeque<Option<f64>>,
    pub(crate) lag_seconds: VecDeque<Option<f64>>,
    pub(crate) depth: VecDeque<Option<f64>>,
}

/// Most points: five minutes at one poll per second.
const HISTORY_MAX: usize = 300;

impl History {
    /// Adds a point, and removes the oldest one if there are too many.
    pub(crate) fn push(&mut self, view: &View) {
        let at = view.unix_seconds();
        // The clock was set back. The history starts again, because its times must increase.
        if self.at.back().is_some_and(|last| *last >= at) {
            *self = Self::default();
        }
        let known = view.servers.postgres == Reached::Up;
        let [reserved, confirmed, refused, failed] = view.rates_now();
        let points = [
            (&mut self.reserved, reserved),
            (&mut self.confirmed, confirmed),
            (&mut self.refused, refused),
            (&mut self.failed, failed),
            (
                &mut self.lag_seconds,
                known.then_some(view.expiry.lag_seconds),
            ),
            (&mut self.depth, known.then_some(view.outbox.depth as f64)),
        ];
        let full = self.at.len() == HISTORY_MAX;
        self.at.push_back(at);
        for (series, value) in points {
            series.push_back(value);
            if full {
                series.pop_front();
            }
        }
        if full {
            self.at.pop_front();
        }
    }
}

/// The sum of the rates. `Iterator::sum` of no floats is -0.0, which JSON would show.
fn total(rates: &BTreeMap<String, f64>) -> f64 {
    rates.values().fold(0.0, |total, rate| total + rate)
}
