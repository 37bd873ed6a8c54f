//! Injects the planned faults into the stack, and measures the recovery times.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, anyhow, ensure};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    health::sees,
    links::{APIS, End, MEMBERS, links_to},
    plan::{Fault, Healing, Planned},
    recovery::signs,
    stack::Stack,
};
use crate::{
    chaos::{
        clock::{Micros, now},
        history::Move,
        journal::{Journal, lock},
        recent::Recent,
        world::{Injected, Injection, RECOVERY_LIMIT},
    },
    proxy::{Proxy, Traffic},
    redis_command::redis_command,
    servers::Server,
};

/// Time after which `/readyz` knows that nothing can be written.
const READINESS_LIMIT: Duration = Duration::from_millis(2_500);

/// A fault that was injected, and how it is reported.
#[derive(Clone)]
struct Done {
    fault: Fault,
    began: Micros,
    ended: Micros,
}

pub(crate) struct Injector {
    pub(crate) stack: Arc<Stack>,
    pub(crate) journal: Arc<Journal>,
    /// Holds that clients have created recently.
    pub(crate) recent: Arc<Recent>,
    /// Receives each fault when it is over.
    pub(crate) injected: Arc<Mutex<Vec<Injected>>>,
}

impl Injector {
    /// Executes the plan. Returns when every fault is over, and what it had affected works again or should.
    pub(crate) async fn run(self, plan: Vec<Planned>) -> anyhow::Result<Injection> {
        let all = self.injected.clone();
        let (mut recovering, skipped) = Arc::new(self).inject(plan).await?;
        // The last fault is over. From here on everything must recover.
        let recovered = timeout(RECOVERY_LIMIT, async {
            while let Some(recovered) = recovering.join_next().await {
                recovered?;
            }
            anyhow::Ok(())
        });
        if let Ok(recovered) = recovered.await {
            recovered?;
        }
        let mut injected: Vec<Injected> = lock(&all).clone();
        injected.sort_by_key(|one| one.began);
        Ok(Injection { injected, skipped })
    }

    /// Returns the tasks that wait for the recovery, and the number of skipped faults.
    async fn inject(self: Arc<Self>, plan: Vec<Planned>) -> anyhow::Result<(JoinSet<()>, usize)> {
        let injector = self;
        let began = Instant::now();
        let busy: Arc<Mutex<HashSet<String>>> = Arc::default();
        let mut running = JoinSet::new();
        let (mut recovering, mut skipped) = (JoinSet::new(), 0);
        for Planned { at, lasts, fault } in plan {
            // An error of the harness itself ends the run at once.
            while let Some(ended) = next_until(&mut running, began + at)
                .await
                .transpose()?
                .transpose()?
            {
                recovering.spawn(Self::recovery(injector.clone(), ended));
            }
            let targets = fault.targets();
            let mut now_busy = lock(&busy);
            if targets.iter().any(|target| now_busy.contains(target)) {
                skipped += 1;
                continue;
            }
            now_busy.extend(targets.iter().cloned());
            drop(now_busy);
            let (injector, busy) = (injector.clone(), busy.clone());
            running.spawn(async move {
                let began = now();
                injector
                    .perform(&fault, lasts)
                    .await
                    .with_context(|| fault.to_string())?;
                lock(&busy).retain(|target| !targets.contains(target));
                anyhow::Ok(Done {
                    fault,
                    began,
                    ended: now(),
                })
            });
        }
        while let Some(ended) = running.join_next().await {
            recovering.spawn(Self::recovery(injector.clone(), ended??));
        }
        Ok((recovering, skipped))
    }

    /// Records a fault that is over, and when everything that it had affected worked again.
    async fn recovery(self: Arc<Self>, done: Done) {
        let mut latest = done.ended;
        let place = {
            let mut injected = lock(&self.injected);
            injected.push(Injected {
                kind: done.fault.kind(),
                what: done.fault.to_string(),
                began: done.began,
                ended: done.ended,
                recovered: None,
                gaps: None,
            });
            injected.len() - 1
        };
        for sign in signs(&done.fault) {
            latest = latest.max(
                sign.seen_since(done.ended, &self.stack, &self.journal)
                    .await,
            );
        }
        lock(&self.injected)[place].recovered = Some(latest);
    }

    async fn perform(&self, fault: &Fault, lasts: Duration) -> anyhow::Result<()> {
        let stack = &self.stack;
        match fault {
            Fault::Kill(member) => stack.members[*member].crash(lasts).await?,
            Fault::Freeze(member) => {
                // Kept locked, so that `supervise` does not take a frozen process for one that hangs.
                let child = stack.members[*member].child().await;
                let frozen = child.as_ref().context("it does not run")?;
                frozen.freeze();
                sleep(lasts).await;
                frozen.thaw();
            }
            Fault::PostgresCrash => bounce(&stack.servers.postgres, Server::kill, lasts).await?,
            Fault::PostgresStop => bounce(&stack.servers.postgres, Server::stop, lasts).await?,
            Fault::PostgresReadOnly => {
                set_read_only(&stack.servers.postgres, "on").await?;
                self.watch_readiness(lasts).await?;
                set_read_only(&stack.servers.postgres, "off").await?;
            }
            Fault::PostgresDefault(setting, value) => {
                set_default(&stack.servers.postgres, setting, Some(value)).await?;
                sleep(lasts).await;
                set_default(&stack.servers.postgres, setting, None).await?;
            }
            Fault::RedisCrash => bounce(&stack.servers.redis, Server::kill, lasts).await?,
            Fault::RabbitmqCrash => bounce(&stack.servers.rabbitmq, Server::kill, lasts).await?,
            Fault::RedisFlush => redis_command(&stack.servers.redis.url, &["FLUSHALL"]).await?,
            Fault::RedisReplica => {
                redis_command::<()>(&stack.servers.redis.url, &["REPLICAOF", "127.0.0.1", "1"])
                    .await?;
                sleep(lasts).await;
                redis_command::<()>(&stack.servers.redis.url, &["REPLICAOF", "NO", "ONE"]).await?;
            }
            Fault::MemoryAlarm => {
                set_watermark(&stack.servers.rabbitmq, "0.0001").await?;
                sleep(lasts).await;
                set_watermark(&stack.servers.rabbitmq, "0.25").await?;
            }
            Fault::Cut(link) => stack.link(*link).cut(),
            Fault::Link {
                link,
                traffic,
                healing,
            } => {
                self.disturb(&[*link], *traffic, *healing, lasts).await;
            }
            Fault::Partition {
                from,
                traffic,
                healing,
            } => {
                let links: Vec<usize> = links_to(*from).collect();
                self.disturb(&links, *traffic, *healing, lasts).await;
            }
            Fault::MoveDeadlines => self.move_deadlines().await,
            Fault::HostileClients(api) => self.be_hostile(*api, lasts).await?,
        }
        Ok(())
    }

    /// Waits. Fails if an API is ready although nothing can be written: a load balancer would send it requests.
    async fn watch_readiness(&self, lasts: Duration) -> anyhow::Result<()> {
        let ends = Instant::now() + lasts;
        sleep(lasts.min(READINESS_LIMIT)).await;
        while Instant::now() < ends {
            for (api, name) in MEMBERS.iter().enumerate().take(APIS) {
                ensure!(
                    !sees(&self.stack, api, End::Postgres).await || Instant::now() >= ends,
                    "{name} is ready, but nothing can be written"
                );
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn disturb(&self, links: &[usize], traffic: Traffic, healing: Healing, lasts: Duration) {
        let each = |act: &dyn Fn(&Proxy)| {
            links.iter().for_each(|link| act(self.stack.link(*link)));
        };
        each(&|proxy| proxy.set(traffic));
        sleep(lasts).await;
        if healing == Healing::Cut {
            each(&Proxy::cut);
        }
        each(&|proxy| proxy.set(Traffic::Pass));
    }

    /// Moves the deadlines of some holds to a second ago. Holds the lock of their products, as every verb does, so
    /// that no verb sees the deadline change between its clock and its update.
    async fn move_deadlines(&self) {
        let holds = self.recent.some_holds();
        let began = now();
        let moved: Result<Vec<i64>, sqlx::Error> = async {
            let mut transaction = self.stack.access.database.begin().await?;
            sqlx::query(
                "-- chaos: lock the products
                select from products where id in (select product_id from reservations where id = any($1))
                order by id for no key update",
            )
            .bind(&holds)
            .execute(&mut *transaction)
            .await?;
            let moved = sqlx::query_scalar(
                "-- chaos: move deadlines
                update reservations set expires_at = clock_timestamp() - interval '1 s'
                where id = any($1) and status = 'ACTIVE' and expires_at > clock_timestamp() returning id",
            )
            .bind(&holds)
            .fetch_all(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(moved)
        }
        .await;
        let (done, holds) = (moved.is_ok(), moved.unwrap_or(holds));
        self.journal.moved(Move {
            holds,
            began,
            ended: now(),
            done,
        });
    }
}

/// The next task to end before a moment.
async fn next_until<T: 'static>(
    running: &mut JoinSet<T>,
    until: Instant,
) -> Option<Result<T, tokio::task::JoinError>> {
    tokio::select! {
        Some(ended) = running.join_next() => Some(ended),
        () = sleep_until(until) => None,
    }
}

async fn bounce(server: &Arc<Server>, down: fn(&Server), lasts: Duration) -> anyhow::Result<()> {
    let (stopped, started) = (server.clone(), server.clone());
    spawn_blocking(move || down(&stopped)).await?;
    sleep(lasts).await;
    spawn_blocking(move || drop(started.start())).await?;
    Ok(())
}

/// Changes the setting for all sessions, also for those that are open.
async fn set_read_only(server: &Server, value: &'static str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&server.url).await?;
    for statement in [
        "set default_transaction_read_only = off".to_owned(),
        format!("alter system set default_transaction_read_only = {value}"),
        "select pg_reload_conf()".to_owned(),
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await?;
    }
    Ok(())
}

/// Sets or resets a default of the database, and ends the sessions of the service, so that new ones get it.
async fn set_default(server: &Server, setting: &str, value: Option<&str>) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&server.url).await?;
    let change = match value {
        Some(value) => format!("alter database flashsale set {setting} = '{value}'"),
        None => format!("alter database flashsale reset {setting}"),
    };
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'flashsale-%'";
    for statement in [change, end.to_owned()] {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await?;
    }
    Ok(())
}

async fn set_watermark(server: &Arc<Server>, fraction: &'static str) -> anyhow::Result<()> {
    let server = server.clone();
    let set = move || server.rabbitmqctl(&["set_vm_memory_high_watermark", fraction]);
    spawn_blocking(set).await?.map_err(|said| anyhow!(said))
}
