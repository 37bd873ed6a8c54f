//! The whole installation: three servers, two copies of each process, and a proxy on each link between them.

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{
    sync::{Mutex, MutexGuard},
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::journal::{Journal, lock};
use crate::{
    process::{Child, Log, start_with},
    proxy::Proxy,
    servers::{Server, Service},
};

/// The processes, in the order that plans use.
pub(crate) const MEMBERS: [&str; 6] = ["api1", "api2", "expirer1", "expirer2", "relay1", "relay2"];
pub(crate) const APIS: usize = 2;
pub(crate) const EXPIRERS: [usize; 2] = [2, 3];
const BINARIES: [&str; 3] = ["flashsale-api", "flashsale-expirer", "flashsale-relay"];

/// One end of a link. The other end is a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Postgres,
    Redis,
    Rabbitmq,
    Clients,
}

/// Every link as process and other end, in the order that plans use.
pub(crate) const LINKS: [(usize, End); 16] = {
    use End::*;
    [
        (0, Clients),
        (1, Clients),
        (0, Postgres),
        (1, Postgres),
        (2, Postgres),
        (3, Postgres),
        (4, Postgres),
        (5, Postgres),
        (0, Redis),
        (1, Redis),
        (2, Redis),
        (3, Redis),
        (4, Redis),
        (5, Redis),
        (4, Rabbitmq),
        (5, Rabbitmq),
    ]
};

/// All event types.
const EVENTS: &str = "ReservationCreated,ReservationConfirmed,ReservationCanceled,ReservationExpired,\
    ReservationReturned,StockAdjusted,WaitlistOffered";

/// Only an overloaded machine needs this long to start a process.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A frozen process does not answer.
const ASK_LIMIT: Duration = Duration::from_secs(3);

pub(crate) struct Stack {
    pub(crate) postgres: Arc<Server>,
    pub(crate) redis: Arc<Server>,
    pub(crate) rabbitmq: Arc<Server>,
    pub(crate) members: Vec<Member>,
    /// For health requests that bypass the proxies.
    pub(crate) http: reqwest::Client,
    links: Vec<Proxy>,
    database: PgPool,
}

/// One process, which may be stopped and restarted.
pub(crate) struct Member {
    pub(crate) name: &'static str,
    binary: &'static str,
    settings: Vec<(&'static str, String)>,
    log: File,
    child: Mutex<Option<Child>>,
    /// Its current address.
    address: std::sync::Mutex<String>,
}

impl Stack {
    /// Starts the servers, migrates, and creates the links. `logs` is a folder for the processes' logs.
    pub(crate) async fn start(
        hold_seconds: u32,
        max_hold_seconds: u32,
        logs: &Path,
    ) -> anyhow::Result<Self> {
        let server = |service| async move {
            let started = spawn_blocking(move || {
                // It may change the settings of PostgreSQL.
                let superuser = ("FLASHSALE_LOCAL_POSTGRES_ROLE", "superuser");
                Server::start_with(service, &[superuser])
            });
            started
                .await
                .map(Arc::new)
                .context("a server did not start")
        };
        let (postgres, redis, rabbitmq) = tokio::try_join!(
            server(Service::Postgres),
            server(Service::Redis),
            server(Service::Rabbitmq)
        )?;
        migrate(&postgres.url).await?;
        let mut links = Vec::new();
        for (_, end) in LINKS {
            links.push(match end {
                End::Postgres => Proxy::to(&postgres.address()).await,
                End::Redis => Proxy::to(&redis.address()).await,
                End::Rabbitmq => Proxy::to_broker(&rabbitmq.address()).await,
                // Set once the API listens.
                End::Clients => Proxy::to("127.0.0.1:1").await,
            });
        }
        let mut members = Vec::new();
        for (index, name) in MEMBERS.into_iter().enumerate() {
            let mut settings = vec![
                ("LISTEN_ADDR", "127.0.0.1:0".to_owned()),
                ("HOLD_SECONDS", hold_seconds.to_string()),
                ("MAX_HOLD_SECONDS", max_hold_seconds.to_string()),
                ("OUTBOX_EVENTS", EVENTS.to_owned()),
            ];
            for ((_, end), proxy) in LINKS.iter().zip(&links).filter(|((of, _), _)| *of == index) {
                let (setting, server) = match end {
                    End::Postgres => ("DATABASE_URL", &postgres),
                    End::Redis => ("REDIS_URL", &redis),
                    End::Rabbitmq => ("AMQP_URL", &rabbitmq),
                    End::Clients => continue,
                };
                let url = server.url.replace(&server.address(), &proxy.address);
                settings.push((setting, url));
            }
            members.push(Member {
                name,
                binary: BINARIES[index / 2],
                settings,
                log: File::create(logs.join(format!("{name}.log")))?,
                child: Mutex::default(),
                address: std::sync::Mutex::default(),
            });
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ASK_LIMIT)
            .build()?;
        let database = PgPoolOptions::new()
            .max_connections(4)
            .connect_lazy(&postgres.url)?;
        Ok(Self {
            postgres,
            redis,
            rabbitmq,
            members,
            http,
            links,
            database,
        })
    }

    /// The harness's own connection to PostgreSQL, without a proxy.
    pub(crate) fn database(&self) -> PgPool {
        self.database.clone()
    }

    pub(crate) fn link(&self, index: usize) -> &Proxy {
        &self.links[index]
    }

    /// The address that clients use for an API.
    pub(crate) fn front(&self, api: usize) -> &str {
        // The first links are the clients' links, in the order of the APIs.
        &self.links[api].address
    }

    /// Starts a process that is not running.
    pub(crate) async fn start_member(&self, index: usize) -> anyhow::Result<()> {
        let member = &self.members[index];
        let mut child = member.child.lock().await;
        self.start_locked(index, &mut child).await
    }

    async fn start_locked(&self, index: usize, place: &mut Option<Child>) -> anyhow::Result<()> {
        let member = &self.members[index];
        let settings: Vec<_> = member
            .settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let log = Log::File(member.log.try_clone()?);
        let child = place.insert(start_with(member.binary, &[], &settings, log));
        let began = Instant::now();
        let address = loop {
            if let Some(entry) = child.logged("listening") {
                break entry["address"].as_str().context("no address")?.to_owned();
            }
            if !child.runs() || began.elapsed() > START_LIMIT {
                bail!("{} did not start; see its log", member.name);
            }
            sleep(Duration::from_millis(10)).await;
        };
        if index < APIS {
            self.links[index].retarget(&address);
        }
        *lock(&member.address) = address;
        Ok(())
    }

    /// Kills a process and starts it again after `pause`. Keeps it locked meanwhile.
    pub(crate) async fn crash_member(&self, index: usize, pause: Duration) -> anyhow::Result<()> {
        let mut child = self.members[index].child.lock().await;
        if let Some(mut running) = child.take() {
            running.kill();
        }
        sleep(pause).await;
        self.start_locked(index, &mut child).await
    }

    /// Kills a process permanently.
    pub(crate) async fn kill_member(&self, index: usize) {
        if let Some(mut running) = self.members[index].child.lock().await.take() {
            running.kill();
        }
    }

    /// Restarts processes that ended by themselves, and records a violation.
    pub(crate) async fn supervise(&self, journal: &Journal) -> anyhow::Result<()> {
        loop {
            for (index, member) in self.members.iter().enumerate() {
                // A locked process is being restarted by a fault.
                let Ok(mut child) = member.child.try_lock() else {
                    continue;
                };
                if child.as_mut().is_some_and(|child| !child.runs()) {
                    journal.service_failed(format!("{} ended by itself; see its log", member.name));
                    self.start_locked(index, &mut child).await?;
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Member {
    pub(crate) fn address(&self) -> String {
        lock(&self.address).clone()
    }

    pub(crate) async fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().await
    }
}

async fn migrate(url: &str) -> anyhow::Result<()> {
    let mut migration = start_with(
        "flashsale-api",
        &["migrate"],
        &[("DATABASE_URL", url)],
        Log::Shown,
    );
    let status = migration.ends().await;
    if !status.success() {
        bail!("cannot migrate: {status}");
    }
    Ok(())
}
