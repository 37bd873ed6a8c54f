//! The installation: three servers, two copies of each process, and a proxy on each link between them.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use sqlx::postgres::PgPoolOptions;
use tokio::task::spawn_blocking;

use super::links::{APIS, End, LINKS, MEMBERS};
use crate::{
    chaos::{
        access::Access,
        member::{Member, Process, migrate},
        sale,
    },
    proxy::Proxy,
    servers::{Server, Service},
};

const PROCESSES: [Process; 3] = [Process::Api, Process::Expirer, Process::Relay];

/// A frozen process does not answer.
const ASK_LIMIT: Duration = Duration::from_secs(3);

/// Time limits of connections. Short, so that hostile clients meet each of them in a short run, but longer than the ordinary
/// clients wait for an answer: they never see a 408.
const LIMITS: [(&str, &str); 4] = [
    ("HTTP_HEAD_SECONDS", "3"),
    ("HTTP_BODY_SECONDS", "3"),
    ("HTTP_WRITE_SECONDS", "3"),
    ("HTTP_IDLE_SECONDS", "5"),
];

/// Short, so that a short run has several.
const SALE: Duration = Duration::from_secs(8);

/// The servers. Each may be killed and started again.
pub(crate) struct Servers {
    pub(crate) postgres: Arc<Server>,
    pub(crate) redis: Arc<Server>,
    pub(crate) rabbitmq: Arc<Server>,
}

impl Servers {
    async fn start() -> anyhow::Result<Self> {
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
        Ok(Self {
            postgres,
            redis,
            rabbitmq,
        })
    }

    async fn proxy_to(&self, end: End) -> Proxy {
        match end {
            End::Postgres => Proxy::to(&self.postgres.address()).await,
            End::Redis => Proxy::to(&self.redis.address()).await,
            End::Rabbitmq => Proxy::to_broker(&self.rabbitmq.address()).await,
            // Set once the API listens.
            End::Clients => Proxy::to("127.0.0.1:1").await,
        }
    }

    /// The process with this index, whose links go by these proxies.
    fn member(&self, index: usize, links: &[Arc<Proxy>], logs: &Path) -> anyhow::Result<Member> {
        let mut settings = sale::settings();
        settings.push(("LISTEN_ADDR".to_owned(), "127.0.0.1:0".to_owned()));
        if PROCESSES[index / 2] == Process::Api {
            settings.extend(LIMITS.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        let mut front = None;
        for ((_, end), proxy) in LINKS.iter().zip(links).filter(|((of, _), _)| *of == index) {
            let (setting, server) = match end {
                End::Postgres => ("DATABASE_URL", &self.postgres),
                End::Redis => ("REDIS_URL", &self.redis),
                End::Rabbitmq => ("AMQP_URL", &self.rabbitmq),
                End::Clients => {
                    front = Some(proxy.clone());
                    continue;
                }
            };
            let url = server.url.replace(&server.address(), &proxy.address);
            settings.push((setting.to_owned(), url));
        }
        let (name, process) = (MEMBERS[index].to_owned(), PROCESSES[index / 2]);
        let mut member = Member::new(name, process, settings, logs)?;
        member.front = front;
        Ok(member)
    }
}

pub(crate) struct Stack {
    pub(crate) servers: Servers,
    pub(crate) members: Vec<Member>,
    /// For health requests that bypass the proxies.
    pub(crate) http: reqwest::Client,
    pub(crate) access: Arc<Access>,
    links: Vec<Arc<Proxy>>,
}

impl Stack {
    /// Starts the servers, migrates, and creates the links. `logs` is a folder for the processes' logs.
    pub(crate) async fn start(logs: &Path) -> anyhow::Result<Self> {
        let servers = Servers::start().await?;
        migrate(&servers.postgres.url).await?;
        let mut links = Vec::new();
        for (_, end) in LINKS {
            links.push(Arc::new(servers.proxy_to(end).await));
        }
        let members = (0..MEMBERS.len())
            .map(|index| servers.member(index, &links, logs))
            .collect::<anyhow::Result<_>>()?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ASK_LIMIT)
            .build()?;
        let database = PgPoolOptions::new()
            .max_connections(4)
            .connect_lazy(&servers.postgres.url)?;
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
            amqp: vec![servers.rabbitmq.url.clone()],
            redis: servers.redis.url.clone(),
            database,
        });
        Ok(Self {
            servers,
            members,
            http,
            access,
            links,
        })
    }

    pub(crate) fn link(&self, index: usize) -> &Proxy {
        &self.links[index]
    }
}
