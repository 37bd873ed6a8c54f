//! Heartbeats: every process writes a report about itself to PostgreSQL once per second. Operators and the live page
//! read the reports. No verb depends on them.

#![warn(missing_docs)]

mod feed;

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use inventory::{
    Error,
    audit::Difference,
    database::{Executor, execute, fetch},
    schema::Utc,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool, types::Json};
use time::OffsetDateTime;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use feed::{Feed, FeedEntry, FeedItem, Subject, TransitionKind};

/// Time between two heartbeats of a process.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// A process without a heartbeat for longer than this counts as down.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// Time limit for the last heartbeat at the end of the process, and for the deletion of its entry.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

/// The program that a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[allow(
    missing_docs,
    reason = "documented variants would turn the schema's enum into oneOf"
)]
pub enum Role {
    Api,
    Expirer,
    Relay,
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, UnknownRole> {
        match name {
            "api" => Ok(Self::Api),
            "expirer" => Ok(Self::Expirer),
            "relay" => Ok(Self::Relay),
            _ => Err(UnknownRole),
        }
    }
}

/// A role that this release does not know.
#[derive(Debug)]
pub struct UnknownRole;

/// The report of a process about itself. Fields can be missing in reports of another release, and then have defaults.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Version of the program.
    pub version: String,
    /// Counters since the start of the process.
    pub counts: Counts,
    /// Number of requests that were answered with a problem, by problem code.
    pub problems: BTreeMap<String, u64>,
    /// Whether a server other than PostgreSQL can be reached: `redis`, `rabbitmq`.
    pub reaches: BTreeMap<String, bool>,
    /// How long the process's answers to reserves took.
    pub reserve_times: Durations,
    /// Types of the events that the process writes. `None`: it writes none, or is of an older release.
    pub events: Option<Vec<String>>,
    /// The latest audit that the process knows.
    pub audit: Option<Audited>,
    /// The latest transitions of reservations in this process. Under load they are a sample.
    pub recent: Vec<FeedEntry>,
}

/// Counters of a process since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Holds that were created.
    pub reserved: u64,
    /// Reservations that were confirmed.
    pub confirmed: u64,
    /// Holds that were canceled.
    pub canceled: u64,
    /// Holds that expired.
    pub expired: u64,
    /// Events that were published.
    pub published: u64,
}

/// Durations of a process's requests since its start, as a histogram.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Durations {
    /// Each bucket's upper limit in seconds, and the number of requests that took longer than the limit before.
    pub buckets: Vec<(f64, u64)>,
    /// Number of requests that took longer than the last limit.
    pub longer: u64,
}

/// The result of an audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "LastAudit")]
pub struct Audited {
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "Utc")]
    /// Time of the audit.
    pub at: OffsetDateTime,
    /// Whether the audit found no difference.
    pub clean: bool,
    /// Number of products that were compared with their reservations.
    pub products: u64,
    /// Number of differences.
    pub difference_count: u64,
    /// The first differences.
    #[schemars(length(max = 20))]
    pub differences: Vec<Difference>,
}

/// A process that is running, or that went down in the last 10 min without deleting its entry.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The program that the process runs.
    pub role: Role,
    /// Unique name: host name, process id, and random digits, because a process id can be used again.
    pub instance: String,
    /// Start of the process, by PostgreSQL's clock.
    pub started_at: OffsetDateTime,
    /// Time of the last heartbeat, by PostgreSQL's clock.
    pub seen_at: OffsetDateTime,
    /// Time since the last heartbeat.
    pub silent: Duration,
    /// The report of the last heartbeat.
    pub report: Report,
}

/// Writes a heartbeat once per second until `stop` is cancelled. Then it deletes the entry of this process. During an
/// outage of PostgreSQL it keeps trying.
pub async fn announce<F, Fut>(pool: &PgPool, role: Role, mut report: F, stop: &CancellationToken)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Report>,
{
    let (instance, started) = (instance(), Instant::now());
    let mut ticks = interval(BEAT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    let beats = async {
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let beaten = beat(pool, role, &instance, started, report().await).await;
            if let Err(error) = &beaten
                && !failing
            {
                let cause = error.cause();
                tracing::warn!(%error, cause, "cannot write the heartbeat of this process");
            }
            failing = beaten.is_err();
        }
    };
    // A heartbeat that is being written at the end is waited for. Otherwise PostgreSQL could write it after the deletion, and
    // the process would be shown as down.
    let late = async {
        stop.cancelled().await;
        sleep(FAREWELL_LIMIT).await;
    };
    tokio::select! {
        () = beats => {}
        () = late => {}
    }
    // If the deletion fails, the process is shown as down until its entry is deleted. That is acceptable.
    let _ = timeout(FAREWELL_LIMIT, leave(pool, &instance)).await;
}

fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim())
        .filter(|host| !host.is_empty())
        .unwrap_or("host");
    format!("{host}-{}-{:04x}", std::process::id(), fastrand::u16(..))
}

/// Writes one heartbeat. The same statement deletes entries of processes without a heartbeat for 10 min.
async fn beat(
    pool: &PgPool,
    role: Role,
    instance: &str,
    started: Instant,
    report: Report,
) -> Result<(), Error> {
    let beat = "-- presence beat
        with forgotten as (
            delete from processes where instance = any(array(
                select instance from processes
                where seen_at < statement_timestamp() - interval '10 min' and instance <> $1
                for update skip locked))
        )
        insert into processes (instance, role, report, started_at, seen_at)
        values ($1, $2, $3, statement_timestamp() - $4 * interval '1 s', statement_timestamp())
        on conflict (instance) do update
        set seen_at = excluded.seen_at, report = excluded.report";
    let query = sqlx::query(beat).bind(instance).bind(role);
    let age = started.elapsed().as_secs_f64();
    execute(pool, query.bind(Json(report)).bind(age))
        .await
        .map(drop)
}

async fn leave(pool: &PgPool, instance: &str) -> Result<(), Error> {
    let leave = "-- presence leave\ndelete from processes where instance = $1";
    execute(pool, sqlx::query(leave).bind(instance))
        .await
        .map(drop)
}

/// PostgreSQL's current time, and all processes that are running or went down in the last 10 min.
///
/// # Errors
///
/// PostgreSQL cannot be read.
pub async fn instances(
    executor: impl Into<Executor<'_>>,
) -> Result<(OffsetDateTime, Vec<Instance>), Error> {
    #[derive(FromRow)]
    struct Row {
        now: OffsetDateTime,
        role: Option<String>,
        instance: Option<String>,
        started_at: Option<OffsetDateTime>,
        seen_at: Option<OffsetDateTime>,
        report: Option<Json<serde_json::Value>>,
    }
    let look = "-- presence look
        select n.now, p.role, p.instance, p.started_at, p.seen_at, p.report
        from (select statement_timestamp() as now) n
        left join processes p on true
        order by p.role, p.started_at, p.instance";
    let rows: Vec<Row> = fetch(executor, sqlx::query(look)).await?;
    let now = rows.first().ok_or(sqlx::Error::RowNotFound)?.now;
    let seen = rows.into_iter().filter_map(|row| {
        let seen_at = row.seen_at?;
        Some(Instance {
            // A process of another release may have an unknown role. It is left out.
            role: row.role?.parse().ok()?,
            instance: row.instance?,
            started_at: row.started_at?,
            seen_at,
            // After the clock was set back, `seen_at` can be in the future.
            silent: (now - seen_at).unsigned_abs(),
            // A report of another release may be unreadable. The process is listed nevertheless.
            report: serde_json::from_value(row.report?.0).unwrap_or_default(),
        })
    });
    Ok((now, seen.collect()))
}
