//! What a viewer is shown.

use std::collections::{BTreeMap, VecDeque};

use inventory::{product::Product, schema::Utc};
use presence::{Audited, FeedItem, Role};
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

/// How the service stands, or what of it has changed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Live")]
pub struct View {
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "Utc")]
    pub(crate) at: OffsetDateTime,
    /// What is wrong, worst first.
    pub(crate) alerts: Vec<Alert>,
    pub(crate) servers: Servers,
    /// Those that run, and those that have died in the last ten minutes.
    pub(crate) processes: Vec<Process>,
    /// Null where nobody knows.
    pub(crate) rates: Option<Rates>,
    /// Reservations since the counters in Redis began. Null while Redis is away.
    pub(crate) funnel: Option<Funnel>,
    pub(crate) expiry: Expiry,
    pub(crate) outbox: Outbox,
    /// The last one, by whomever.
    pub(crate) audit: Option<Audited>,
    pub(crate) products_shown: Shown,
    /// By id: in a `tick` those that have changed.
    pub(crate) products: Vec<Product>,
    /// What became of reservations, oldest first: in a `tick` what is new. Under load a sample.
    pub(crate) feed: Vec<FeedItem>,
    /// The last minutes, oldest first; in a `state` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "History")]
    pub(crate) history: Option<History>,
}

/// Something that an operator has to know of.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Alert {
    pub(crate) code: &'static str,
    pub(crate) title: String,
    pub(crate) meaning: &'static str,
    pub(crate) action: &'static str,
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
    /// Nobody is there who could tell.
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
    /// Servers that it cannot reach.
    pub(crate) cannot_reach: Vec<String>,
}

/// So many a second, of all processes together.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Rates {
    pub(crate) reserved: f64,
    pub(crate) confirmed: f64,
    pub(crate) canceled: f64,
    pub(crate) expired: f64,
    pub(crate) published: f64,
    /// Requests that were refused, by the code of the problem.
    pub(crate) refused: BTreeMap<String, f64>,
    /// Requests that failed, by the code of the problem.
    pub(crate) failed: BTreeMap<String, f64>,
}

#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Funnel {
    pub(crate) reserved: i64,
    pub(crate) confirmed: i64,
    pub(crate) canceled: i64,
    pub(crate) expired: i64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Expiry {
    /// How long the oldest due hold has been due.
    pub(crate) lag_seconds: f64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Outbox {
    /// Events that wait to be published; counted up to 100,000.
    pub(crate) depth: i64,
    pub(crate) oldest_age_seconds: f64,
    /// Events that are not tried any more.
    pub(crate) dead: i64,
}

/// The last minutes, a point a poll: rates a second, and what waited. Null is what nobody knows.
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

/// Five minutes.
const HISTORY_MAX: usize = 300;

impl History {
    /// One more point, and none that is too old.
    pub(crate) fn push(&mut self, view: &View) {
        let at = view.at.unix_timestamp_nanos() as f64 / 1e9;
        // The clock was put back.
        if self.at.back().is_some_and(|last| *last >= at) {
            *self = Self::default();
        }
        let known = view.servers.postgres == Reached::Up;
        let rate = |rate: fn(&Rates) -> f64| view.rates.as_ref().map(rate);
        let points = [
            (&mut self.reserved, rate(|rates| rates.reserved)),
            (&mut self.confirmed, rate(|rates| rates.confirmed)),
            (&mut self.refused, rate(|rates| total(&rates.refused))),
            (&mut self.failed, rate(|rates| total(&rates.failed))),
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

/// (The sum of no numbers would be -0.0.)
fn total(rates: &BTreeMap<String, f64>) -> f64 {
    rates.values().fold(0.0, |total, rate| total + rate)
}
