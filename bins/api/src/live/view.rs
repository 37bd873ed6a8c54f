//! What a viewer is shown.

use std::collections::{BTreeMap, VecDeque};

use inventory::{
    presence::{Audited, Role, Transition},
    product::Product,
    schema::Utc,
};
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

use super::alerts::Alert;

/// How the service stands, or what of it has changed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Live")]
pub(crate) struct View {
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "Utc")]
    pub(super) at: OffsetDateTime,
    /// What is wrong, worst first.
    pub(super) alerts: Vec<Alert>,
    pub(super) servers: Servers,
    /// Those that run, and those that have died in the last ten minutes.
    pub(super) processes: Vec<Process>,
    /// Null where nobody knows.
    pub(super) rates: Option<Rates>,
    /// Reservations since the counters in Redis began. Null while Redis is away.
    pub(super) funnel: Option<Funnel>,
    pub(super) expiry: Expiry,
    pub(super) outbox: Outbox,
    /// The last one, by whomever.
    pub(super) audit: Option<Audited>,
    pub(super) products_shown: Shown,
    /// By id: in a `tick` those that have changed.
    pub(super) products: Vec<Product>,
    /// What became of reservations, oldest first: in a `tick` what is new. Under load a sample.
    pub(super) feed: Vec<Transition>,
    /// The last minutes, oldest first; in a `state` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "History")]
    pub(super) history: Option<History>,
}

/// Which products are shown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) enum Shown {
    #[serde(rename = "all")]
    All,
    #[serde(rename = "newest 500")]
    Newest,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Reached {
    Up,
    Down,
    /// Nobody is there who could tell.
    Unknown,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct Servers {
    pub(super) postgres: Reached,
    pub(super) redis: Reached,
    pub(super) rabbitmq: Reached,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct Process {
    pub(super) role: Role,
    pub(super) instance: String,
    pub(super) version: String,
    pub(super) alive: bool,
    pub(super) heard_seconds_ago: f64,
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "Utc")]
    pub(super) started_at: OffsetDateTime,
    /// Servers that it cannot reach.
    pub(super) cannot_reach: Vec<String>,
}

/// So many a second, of all processes together.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct Rates {
    pub(super) reserved: f64,
    pub(super) confirmed: f64,
    pub(super) canceled: f64,
    pub(super) expired: f64,
    pub(super) published: f64,
    /// Requests that were refused, by the code of the problem.
    pub(super) refused: BTreeMap<String, f64>,
    /// Requests that failed, by the code of the problem.
    pub(super) failed: BTreeMap<String, f64>,
}

#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct Funnel {
    pub(super) reserved: i64,
    pub(super) confirmed: i64,
    pub(super) canceled: i64,
    pub(super) expired: i64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct Expiry {
    /// How long the oldest due hold has been due.
    pub(super) lag_seconds: f64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct Outbox {
    /// Events that wait to be published; counted up to 100,000.
    pub(super) depth: i64,
    pub(super) oldest_age_seconds: f64,
    /// Events that are not tried any more.
    pub(super) dead: i64,
}

/// The last minutes, a point a poll: rates a second, and what waited. Null is what nobody knows.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct History {
    /// Unix times, in seconds.
    pub(super) at: VecDeque<f64>,
    pub(super) reserved: VecDeque<Option<f64>>,
    pub(super) confirmed: VecDeque<Option<f64>>,
    pub(super) refused: VecDeque<Option<f64>>,
    pub(super) failed: VecDeque<Option<f64>>,
    pub(super) lag_seconds: VecDeque<Option<f64>>,
    pub(super) depth: VecDeque<Option<f64>>,
}

/// Five minutes.
const HISTORY_MAX: usize = 300;

impl History {
    /// One more point, and none that is too old.
    pub(super) fn push(&mut self, view: &View) {
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
