//! The installation: three servers, two copies of each process, and a proxy on each link between them.

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use sqlx::postgres::PgPoolOptions;
use tokio::{sync::Mutex, task::spawn_blocking};

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
    pub(crate) access: Arc<Access>,
}

impl Stack {
    /// Starts the servers, migrates, and creates the links. `logs` is a folder for the processes' logs.
    pub(crate) async fn start(logs: &Path) -> anyhow::Result<Self> {
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
            let mut settings = sale::settings();
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

    pub(crate) fn link(&self, index: usize) -> &Proxy {
        &self.links[index]
    }
}
