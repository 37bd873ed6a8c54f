//! Which processes run, and what each says of itself once a second: for whoever watches the service. Nothing is
//! decided by it.

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
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

pub use feed::{Feed, FeedEntry, FeedItem, Subject, TransitionKind};

/// How often a process says that it is there.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// A process that was silent for longer is taken for dead.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// How long the farewell of a process may take.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
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

/// What a process says of itself. A field that is missing comes from another release.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    pub version: String,
    pub counts: Counts,
    /// Requests that were answered with a problem, by its code.
    pub problems: BTreeMap<String, u64>,
    /// Whether a server other than PostgreSQL can be reached: `redis`, `rabbitmq`.
    pub reaches: BTreeMap<String, bool>,
    pub audit: Option<Audited>,
    /// The latest of what it did to reservations; under load a sample.
    pub recent: Vec<FeedEntry>,
}

/// What a process did since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    pub reserved: u64,
    pub confirmed: u64,
    pub canceled: u64,
    pub expired: u64,
    pub published: u64,
}

/// How an audit ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "LastAudit")]
pub struct Audited {
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "Utc")]
    pub at: OffsetDateTime,
    pub clean: bool,
    /// How many were compared with their reservations.
    pub products: u64,
    pub difference_count: u64,
    /// The first of them.
    #[schemars(length(max = 20))]
    pub differences: Vec<Difference>,
}

/// A process that runs, or has died in the last ten minutes without a farewell.
#[derive(Clone, Debug)]
pub struct Instance {
    pub role: Role,
    /// Its name: the host's, the number of the process there, and some digits that tell it from an earlier one.
    pub instance: String,
    pub started_at: OffsetDateTime,
    /// When it said `report`.
    pub seen_at: OffsetDateTime,
    pub silent: Duration,
    pub report: Report,
}

/// Says once a second that this process is there, until `stop`; then says farewell. An outage of PostgreSQL only
/// delays it.
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
        loop {
            ticks.tick().await;
            let beaten = beat(pool, role, &instance, started, report().await).await;
            if let Err(error) = &beaten
                && !failing
            {
                let cause = error.cause();
                tracing::warn!(%error, cause, "cannot tell the live page that this process runs");
            }
            failing = beaten.is_err();
        }
    };
    stop.run_until_cancelled(beats).await;
    // Who dies without one is missed, which is true.
    let _ = timeout(FAREWELL_LIMIT, leave(pool, &instance)).await;
}

fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim())
        .filter(|host| !host.is_empty())
        .unwrap_or("host");
    format!("{host}-{}-{:04x}", std::process::id(), fastrand::u16(..))
}

/// One statement, which also forgets who was lost ten minutes ago.
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

/// Who is there, and who was lost; and what time it is for PostgreSQL.
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
            // Another release may have others.
            role: row.role?.parse().ok()?,
            instance: row.instance?,
            started_at: row.started_at?,
            seen_at,
            // A time to come is one that the clock was put back from.
            silent: (now - seen_at).unsigned_abs(),
            // Another release may say it in a way that this one cannot read: it is there all the same.
            report: serde_json::from_value(row.report?.0).unwrap_or_default(),
        })
    });
    Ok((now, seen.collect()))
}
