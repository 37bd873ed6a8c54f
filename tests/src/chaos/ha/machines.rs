//! The installation: the servers on the machines, and the copies of the processes.

use std::{collections::HashMap, fs, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use sqlx::postgres::PgPoolOptions;

use super::{
    network::{MACHINES, host, on_machine},
    parts::{IN_ORDER, Part},
};
use crate::chaos::{
    access::Access,
    member::{Member, Process},
    sale,
    settings::Settings,
};

/// Time in which everything must work after the start, or after a fault: a machine that comes back has much to do, and
/// the slowest machine of CI runs all three.
const RECOVERY_LIMIT: Duration = Duration::from_secs(240);

/// A machine that was cut off does not answer.
pub(super) const ASK_LIMIT: Duration = Duration::from_secs(3);

/// Longer than most faults.
const SALE: Duration = Duration::from_secs(40);

/// Milliseconds that a call may wait for a connection. After a failover every process opens all its connections at the
/// same time, which takes a debug build longer than the default.
const ACQUIRE_MILLISECONDS: u32 = 3000;

/// Ports of each machine, as in the files of `deploy/ha`.
const API_PROXY: u16 = 8080;
const PROCESSES: [(Process, &str, u16); 3] = [
    (Process::Api, "api", 8081),
    (Process::Expirer, "expirer", 8082),
    (Process::Relay, "relay", 8083),
];

pub(crate) struct Machines {
    pub(super) parts: Vec<Part>,
    /// By process, then by machine: `api1`, `api2`, `api3`, `expirer1` …
    pub(super) members: Vec<Member>,
    pub(super) access: Arc<Access>,
    pub(super) http: reqwest::Client,
    pub(super) database_url: String,
    pub(super) patroni_password: String,
    /// Time limits are this many times as long.
    pub(super) slowness: u32,
}

impl Machines {
    /// Starts nothing. `folder` has the configuration of each machine in `1`, `2` and `3`.
    pub(super) fn new(folder: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let mut parts = Vec::new();
        for service in IN_ORDER {
            for machine in (0..MACHINES).filter(|machine| service.is_on(*machine)) {
                parts.push(Part::new(service, machine, folder, &settings.logs)?);
            }
        }
        let own: Vec<HashMap<String, String>> = (1..=MACHINES)
            .map(|number| read_settings(&folder.join(format!("{number}/flashsale.env"))))
            .collect::<anyhow::Result<_>>()?;
        let mut members = Vec::new();
        for (process, name, port) in PROCESSES {
            for (machine, own) in own.iter().enumerate() {
                members.push(member(process, name, machine, port, own, settings)?);
            }
        }
        let cluster = read_settings(&folder.join("1/cluster.env"))?;
        Ok(Self {
            parts,
            members,
            access: Arc::new(access(&own)?),
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(ASK_LIMIT)
                .build()?,
            database_url: own[0]["DATABASE_URL"].clone(),
            patroni_password: cluster["PATRONI_PASSWORD"].clone(),
            slowness: settings.slowness,
        })
    }

    pub(super) fn recovery_limit(&self) -> Duration {
        RECOVERY_LIMIT * self.slowness
    }
}

/// Reads lines of `NAME=value`.
fn read_settings(path: &Path) -> anyhow::Result<HashMap<String, String>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

fn member(
    process: Process,
    name: &str,
    machine: usize,
    port: u16,
    own: &HashMap<String, String>,
    run: &Settings,
) -> anyhow::Result<Member> {
    let name = format!("{name}{}", machine + 1);
    let mut settings = sale::settings();
    let acquire = ACQUIRE_MILLISECONDS * run.slowness;
    settings.extend([
        (
            "LISTEN_ADDR".to_owned(),
            format!("{}:{port}", host(machine)),
        ),
        (
            "DATABASE_ACQUIRE_MILLISECONDS".to_owned(),
            acquire.to_string(),
        ),
    ]);
    settings.extend(own.clone());
    let mut member = Member::new(name, process, settings, &run.logs)?;
    member.wrapper = on_machine(machine);
    Ok(member)
}

fn access(own: &[HashMap<String, String>]) -> anyhow::Result<Access> {
    let each = |port: u16| (0..MACHINES).map(move |machine| format!("{}:{port}", host(machine)));
    let apis: Vec<String> = each(PROCESSES[0].2).collect();
    Ok(Access {
        // Directly only for the check of readiness.
        fronts: each(API_PROXY).chain(apis.clone()).collect(),
        client_fronts: MACHINES,
        sale: SALE,
        pages: apis,
        admin_token: own[0].get("ADMIN_TOKEN").cloned(),
        amqp: own.iter().map(|own| own["AMQP_URL"].clone()).collect(),
        redis: own[0]["REDIS_URL"].clone(),
        database: PgPoolOptions::new()
            .max_connections(4)
            .connect_lazy(&own[0]["DATABASE_URL"])?,
    })
}
