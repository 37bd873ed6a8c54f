//! The whole installation: three servers, two copies of each process, and a proxy on each link between them.

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{sync::Mutex, task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Settings,
    clients::Recent,
    consumer,
    injector::Injector,
    journal::Journal,
    plan, recovery,
    settle::{RECOVERY_LIMIT, all_well},
    world::{Access, Injection, Member, Process, World, migrate, sale_settings},
};
use crate::{
    proxy::Proxy,
    servers::{Server, Service},
};

/// The processes, in the order that plans use.
pub(crate) const MEMBERS: [&str; 6] = ["api1", "api2", "expirer1", "expirer2", "relay1", "relay2"];
pub(crate) const APIS: usize = 2;
const PROCESSES: [Process; 3] = [Process::Api, Process::Expirer, Process::Relay];

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

/// A frozen process does not answer.
const ASK_LIMIT: Duration = Duration::from_secs(3);

/// Short, so that a short run has several.
const SALE: Duration = Duration::from_secs(8);

pub(crate) struct Stack {
    pub(crate) postgres: Arc<Server>,
    pub(crate) redis: Arc<Server>,
    pub(crate) rabbitmq: Arc<Server>,
    pub(crate) members: Vec<Member>,
    /// For health requests that bypass the proxies.
    pub(crate) http: reqwest::Client,
    links: Vec<Arc<Proxy>>,
    access: Arc<Access>,
}

impl Stack {
    /// Starts everything and makes sure that the queue is durable.
    pub(crate) async fn prepare(settings: &Settings) -> anyhow::Result<Self> {
        let stack = Self::start(&settings.logs).await?;
        for member in &stack.members {
            member.start().await?;
        }
        let ready = timeout(RECOVERY_LIMIT, all_well(&stack));
        ready
            .await
            .context("not everything is ready at the start")?;
        consumer::bind_to_all(&stack.rabbitmq.url).await?;
        // RabbitMQ 3.10 can lose a quorum queue and all its confirmed messages when it is killed within seconds of the
        // declaration. That is not a failure of the service. An orderly restart makes the queue permanent.
        let rabbitmq = stack.rabbitmq.clone();
        spawn_blocking(move || {
            rabbitmq.stop();
            rabbitmq.start();
        })
        .await?;
        let ready = timeout(RECOVERY_LIMIT, all_well(&stack));
        ready
            .await
            .context("not everything is ready after RabbitMQ's restart")?;
        Ok(stack)
    }

    /// Starts the servers, migrates, and creates the links. `logs` is a folder for the processes' logs.
    async fn start(logs: &Path) -> anyhow::Result<Self> {
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
            links.push(Arc::new(match end {
                End::Postgres => Proxy::to(&postgres.address()).await,
                End::Redis => Proxy::to(&redis.address()).await,
                End::Rabbitmq => Proxy::to_broker(&rabbitmq.address()).await,
                // Set once the API listens.
                End::Clients => Proxy::to("127.0.0.1:1").await,
            }));
        }
        let mut members = Vec::new();
        for (index, name) in MEMBERS.into_iter().enumerate() {
            let mut settings = sale_settings();
            settings.push(("LISTEN_ADDR".to_owned(), "127.0.0.1:0".to_owned()));
            let mut front = None;
            for ((_, end), proxy) in LINKS.iter().zip(&links).filter(|((of, _), _)| *of == index) {
                let (setting, server) = match end {
                    End::Postgres => ("DATABASE_URL", &postgres),
                    End::Redis => ("REDIS_URL", &redis),
                    End::Rabbitmq => ("AMQP_URL", &rabbitmq),
                    End::Clients => {
                        front = Some(proxy.clone());
                        continue;
                    }
                };
                let url = server.url.replace(&server.address(), &proxy.address);
                settings.push((setting.to_owned(), url));
            }
            members.push(Member {
                name: name.to_owned(),
                process: PROCESSES[index / 2],
                wrapper: Vec::new(),
                settings,
                log: File::create(logs.join(format!("{name}.log")))?,
                front,
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
        // The first links are the clients' links, in the order of the APIs.
        let fronts: Vec<String> = (links.iter().take(APIS))
            .map(|link| link.address.clone())
            .collect();
        let access = Arc::new(Access {
            pages: fronts.clone(),
            fronts,
            client_fronts: APIS,
            sale: SALE,
            admin_token: None,
            amqp: vec![rabbitmq.url.clone()],
            redis: redis.url.clone(),
            database,
        });
        Ok(Self {
            postgres,
            redis,
            rabbitmq,
            members,
            http,
            links,
            access,
        })
    }

    /// The harness's own connection to PostgreSQL, without a proxy.
    pub(crate) fn database(&self) -> PgPool {
        self.access.database.clone()
    }

    pub(crate) fn link(&self, index: usize) -> &Proxy {
        &self.links[index]
    }
}

impl World for Stack {
    fn access(&self) -> &Arc<Access> {
        &self.access
    }

    fn members(&self) -> &[Member] {
        &self.members
    }

    async fn not_well(&self) -> Vec<String> {
        recovery::not_well(self).await
    }

    async fn inject(
        self: &Arc<Self>,
        settings: &Settings,
        journal: &Arc<Journal>,
        recent: &Arc<Recent>,
    ) -> anyhow::Result<Injection> {
        let injector = Injector {
            stack: self.clone(),
            journal: journal.clone(),
            recent: recent.clone(),
            injected: Arc::default(),
        };
        injector
            .run(plan::plan(settings.seed, settings.faults))
            .await
    }

    /// Its faults check readiness while they last.
    async fn watch(
        self: &Arc<Self>,
        _: &Arc<Journal>,
        _: &CancellationToken,
    ) -> anyhow::Result<()> {
        Ok(())
    }
}
