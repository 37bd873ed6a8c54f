//! Three machines, each a network namespace, with the configuration of `deploy/ha`: PostgreSQL under Patroni, etcd,
//! RabbitMQ, Redis, sentinels, HAProxy, and a copy of each process. Clients use the HAProxy of any machine.
//!
//! One fault at a time: three machines survive the loss of one, and no more.

mod faults;
mod health;
mod parts;
mod readiness;

use std::{
    collections::HashMap,
    fs::{self, File},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use sqlx::postgres::PgPoolOptions;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Settings,
    clients::Recent,
    consumer,
    journal::{Journal, now},
    settle::all_well,
    world::{Access, Gaps, Injected, Injection, Member, Process, World, migrate, sale_settings},
};
pub use faults::kinds;
use parts::Part;

pub(crate) const MACHINES: usize = 3;

/// Time in which everything must work after the start, or after a fault: a machine that comes back has much to do, and
/// the slowest machine of CI runs all three.
const RECOVERY_LIMIT: Duration = Duration::from_secs(240);

/// The healthy time between two faults, in which clients make holds that the next one may hit.
const PAUSE: Duration = Duration::from_secs(2);

/// A machine that was cut off does not answer.
const ASK_LIMIT: Duration = Duration::from_secs(3);

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
    parts: Vec<Part>,
    /// By process, then by machine: `api1`, `api2`, `api3`, `expirer1` …
    members: Vec<Member>,
    access: Arc<Access>,
    http: reqwest::Client,
    patroni_password: String,
    /// Time limits are this many times as long.
    slowness: u32,
}

/// The address of a machine. Machines have numbers from 0 here, and from 1 in names.
fn host(machine: usize) -> String {
    format!("10.77.0.{}", machine + 1)
}

/// The command that runs another one on a machine.
fn on_machine(machine: usize) -> Vec<String> {
    let name = format!("ha{}", machine + 1);
    ["ip", "netns", "exec", &name].map(str::to_owned).into()
}

impl Machines {
    /// Starts everything. `folder` has the configuration of each machine in `1`, `2` and `3`.
    pub(crate) async fn prepare(folder: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let mut parts = Vec::new();
        for service in parts::IN_ORDER {
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
        let machines = Self {
            parts,
            members,
            access: Arc::new(access(&own)?),
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(ASK_LIMIT)
                .build()?,
            patroni_password: cluster["PATRONI_PASSWORD"].clone(),
            slowness: settings.slowness,
        };
        machines.start(&own[0]["DATABASE_URL"]).await?;
        Ok(machines)
    }

    async fn start(&self, database_url: &str) -> anyhow::Result<()> {
        println!("starting three machines");
        for part in &self.parts {
            part.start().await?;
        }
        // A quorum queue gets its members from the nodes that are there when the first relay declares it.
        self.well("the servers", async || self.servers_not_well().await)
            .await?;
        migrate(database_url).await?;
        for member in &self.members {
            member.start().await?;
        }
        self.well("everything", async || self.not_well().await)
            .await?;
        consumer::bind_to_all(&self.access.amqp[0]).await
    }

    fn recovery_limit(&self) -> Duration {
        RECOVERY_LIMIT * self.slowness
    }

    async fn well(
        &self,
        what: &str,
        not_well: impl AsyncFn() -> Vec<String>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let left = not_well().await;
            if left.is_empty() {
                println!("{what} works after {} s", began.elapsed().as_secs());
                return Ok(());
            }
            anyhow::ensure!(
                began.elapsed() < self.recovery_limit(),
                "{what} does not work at the start: {}",
                left.join("; ")
            );
            sleep(Duration::from_millis(200)).await;
        }
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
    let mut settings = sale_settings();
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
    Ok(Member {
        process,
        wrapper: on_machine(machine),
        settings,
        log: File::create(run.logs.join(format!("{name}.log")))?,
        name,
        front: None,
        child: tokio::sync::Mutex::default(),
        address: std::sync::Mutex::default(),
    })
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

impl World for Machines {
    fn access(&self) -> &Arc<Access> {
        &self.access
    }

    fn members(&self) -> &[Member] {
        &self.members
    }

    async fn not_well(&self) -> Vec<String> {
        let mut not_well = self.servers_not_well().await;
        not_well.extend(self.copies_not_well().await);
        not_well
    }

    async fn inject(
        self: &Arc<Self>,
        settings: &Settings,
        journal: &Arc<Journal>,
        _: &Arc<Recent>,
    ) -> anyhow::Result<Injection> {
        let began = Instant::now();
        let mut injected = Vec::new();
        for (fault, lasts) in faults::draw(settings.seed, &settings.only) {
            sleep(PAUSE).await;
            if began.elapsed() >= settings.faults {
                break;
            }
            let start = now();
            println!("at {} s: {fault}", began.elapsed().as_secs());
            let what = self
                .perform(fault, lasts, journal)
                .await
                .with_context(|| fault.to_string())?;
            let ended = now();
            let recovered = timeout(self.recovery_limit(), all_well(&**self))
                .await
                .is_ok();
            let (writes, events) = journal.longest_gaps(start, now());
            injected.push(Injected {
                kind: fault.kind(),
                what,
                began: start,
                ended,
                recovered: recovered.then(now),
                gaps: Some(Gaps { writes, events }),
            });
            if !recovered {
                for what in self.not_well().await {
                    journal.service_failed(format!(
                        "{:?} after {fault}, {what}",
                        self.recovery_limit()
                    ));
                }
                break;
            }
        }
        Ok(Injection {
            injected,
            skipped: 0,
        })
    }

    async fn watch(
        self: &Arc<Self>,
        journal: &Arc<Journal>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        readiness::watch(self, journal, stop).await
    }
}
