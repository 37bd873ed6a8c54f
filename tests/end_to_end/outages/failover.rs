//! Real standbys of PostgreSQL: some are promoted, and one keeps a snapshot.

use std::time::Instant;

use futures_util::future::join_all;
use serde_json::Value;
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::support::{
    Database, NO_RABBITMQ, Peer, Proxy, Server, Service, System, Traffic, Viewer, alerts,
    eventually, find, output,
};

/// The role may replicate and promote.
const SUPERUSER: (&str, &str) = ("FLASHSALE_LOCAL_POSTGRES_ROLE", "superuser");

/// A primary with a database, and a standby of it.
struct Pair {
    primary: Server,
    standby: Server,
    /// Connections of the test to the standby.
    pool: PgPool,
}

impl Pair {
    async fn start() -> (Self, Database) {
        let (pair, database) = Self::start_empty().await;
        inventory::migrate::MIGRATOR
            .run(&database.pool)
            .await
            .unwrap();
        (pair, database)
    }

    /// The same, with a database that has no schema.
    async fn start_empty() -> (Self, Database) {
        let primary = Server::start_with(Service::Postgres, &[SUPERUSER]);
        let database = Database::create_empty_on(&primary.url).await;
        let of_primary = ("FLASHSALE_LOCAL_POSTGRES_PRIMARY", primary.url.as_str());
        let standby = Server::start_with(Service::Postgres, &[of_primary]);
        let url = database.url.replace(&primary.address(), &standby.address());
        let pool = PgPoolOptions::new().connect_lazy(&url).unwrap();
        let pair = Self {
            primary,
            standby,
            pool,
        };
        (pair, database)
    }

    /// Waits until the standby has all that is committed on the primary.
    async fn catches_up(&self, database: &Database) {
        let written = "select pg_current_wal_lsn()::text";
        let written: String = sqlx::query_scalar(written)
            .fetch_one(&database.pool)
            .await
            .unwrap();
        eventually("the standby has everything", async || {
            let replayed = "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
            let replayed = sqlx::query_scalar(replayed).bind(&written);
            let replayed: bool = replayed.fetch_one(&self.pool).await.unwrap();
            replayed.then_some(())
        })
        .await;
    }

    async fn promote(&self) {
        let promoted: bool = sqlx::query_scalar("select pg_promote(true, 60)")
            .fetch_one(&self.pool)
            .await
            .unwrap();
        assert!(promoted);
    }

    /// The process ids of the service's sessions with the standby.
    async fn sessions(&self) -> Vec<i32> {
        let query = "select pid from pg_stat_activity where application_name like 'flashsale-%' order by pid";
        sqlx::query_scalar(query)
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }
}

/// The three processes. The first one is the API.
struct Processes {
    system: System,
    others: Vec<Peer>,
}

impl Processes {
    async fn start(database: Database, url: &str) -> Self {
        let settings = [("DATABASE_URL", url), NO_RABBITMQ];
        let system = System::spawn_on(database, &settings[..1]).await;
        let mut others = Vec::new();
        for name in ["flashsale-expirer", "flashsale-relay"] {
            others.push(Peer::start(&system, name, &settings).await);
        }
        let processes = Self { system, others };
        processes.become_ready().await;
        processes
    }

    async fn become_ready(&self) {
        for client in self.clients() {
            eventually("ready", async || {
                (client.get("/readyz").await.status == 200).then_some(())
            })
            .await;
        }
    }

    /// Waits until each of them is not ready, because PostgreSQL is read-only.
    async fn are_read_only(&self) {
        for client in self.clients() {
            eventually("not ready", async || {
                let told = client.get("/readyz").await.json();
                let reason = told["reason"].as_str().unwrap_or_default();
                reason.starts_with("PostgreSQL is read-only").then_some(())
            })
            .await;
        }
    }

    fn clients(&self) -> impl Iterator<Item = &crate::support::Client> {
        let others = self.others.iter().map(|peer| &**peer);
        std::iter::once(&*self.system).chain(others)
    }

    /// Waits until the live page has the processes of the server in use and no alert about PostgreSQL. Then its metrics
    /// have none, either.
    async fn live_page_follows(&self, product: i64) {
        let mut viewer = Viewer::of(&self.system).await;
        viewer
            .until("the server in use", |view| {
                let is_told = alerts(view)
                    .iter()
                    .any(|code| code.starts_with("postgres_"));
                view["servers"]["postgres"] == "up"
                    && !is_told
                    && find(&view["products"], "id", product).is_some()
            })
            .await;
        let read_only = self.system.metric("flashsale_postgres_read_only").await;
        assert_eq!(read_only, 0.0);
    }

    /// Waits until a reserve succeeds. Returns the seconds.
    async fn write_again(&self, product: i64, user: i64) -> f64 {
        let since = Instant::now();
        eventually("a reserve", async || {
            let answer = self.system.try_reserve(product, user).await;
            (answer.status == 201).then_some(())
        })
        .await;
        since.elapsed().as_secs_f64()
    }
}

/// A load balancer or a DNS name leads to the standby before it is promoted.
#[tokio::test]
async fn a_standby_is_not_used_before_it_is_promoted_and_at_once_thereafter() {
    let (pair, database) = Pair::start().await;
    let (proxy, url) = database.behind_proxy().await;
    let processes = Processes::start(database, &url).await;
    let system = &processes.system;
    let product = system.create_product(30).await;
    let hold = system.reserve(product, 1).await;
    pair.catches_up(&system.database).await;

    proxy.retarget(&pair.standby.address());
    proxy.cut();
    processes.are_read_only().await;
    let refused = (2..=9).map(|user| system.try_reserve(product, user));
    for refused in join_all(refused).await {
        assert_eq!(refused.status, 503, "{refused:?}");
    }
    pair.primary.kill();
    let before = pair.sessions().await;
    pair.promote().await;
    let took = processes.write_again(product, 2).await;
    println!("writes {took:.1} s after the promotion");
    assert!(took < 30.0, "{took}");
    processes.become_ready().await;
    // What was opened in recovery is not in use. One may have been opened at the moment of the promotion.
    let now = pair.sessions().await;
    let kept: Vec<_> = before.iter().filter(|pid| now.contains(pid)).collect();
    assert!(kept.len() <= 1, "{kept:?} of {before:?} are still used");
    system.confirm(&hold).await;
    system.assert_clean_audit().await;
}

/// How a primary is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// Its machine closes all connections.
    Crash,
    /// Its machine vanishes: nobody answers any more.
    Silence,
}

/// `DATABASE_URL` names a server that never answers, the standby and the primary. Either of the first two is the first.
async fn is_followed_to_the_standby_after(loss: Loss) {
    let (pair, database) = Pair::start_empty().await;
    let (primary, _) = database.behind_proxy().await;
    let silent = Proxy::to(&pair.standby.address()).await;
    silent.set(Traffic::Blackhole);
    let standby = pair.standby.address();
    let others = match loss {
        Loss::Crash => [&*silent.address, &standby],
        Loss::Silence => [&*standby, &silent.address],
    };
    let servers = [&others[..], &[&primary.address]].concat().join(",");
    let url = database.url.replace(&pair.primary.address(), &servers);
    let url = url.split('?').next().unwrap().to_owned() + "?target_session_attrs=read-write";
    let database_url = url.clone();
    let migrate = move || {
        output(
            "flashsale-api",
            &["migrate"],
            &[("DATABASE_URL", &database_url)],
        )
    };
    // The proxies are tasks of this thread.
    let migrated = tokio::task::spawn_blocking(migrate).await.unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    let mut processes = Processes::start(database, &url).await;
    let product = processes.system.create_product(30).await;
    let hold = processes.system.reserve(product, 1).await;
    processes.live_page_follows(product).await;
    pair.catches_up(&processes.system.database).await;

    match loss {
        Loss::Crash => pair.primary.kill(),
        Loss::Silence => primary.set(Traffic::Blackhole),
    }
    pair.promote().await;
    let took = processes.write_again(product, 2).await;
    println!("{loss:?}: writes {took:.1} s after the promotion");
    assert!(took < 30.0, "{took}");
    processes.become_ready().await;
    processes.system.confirm(&hold).await;
    let newest = processes.system.create_product(1).await;
    processes.live_page_follows(newest).await;
    // All connections are to the new primary: none waits for a server that is gone.
    let reserves = (11..=25).map(|user| processes.system.try_reserve(product, user));
    for reserved in join_all(reserves).await {
        reserved.expect(201);
    }
    processes.system.assert_clean_audit().await;
    let said = processes
        .system
        .child()
        .logged("this server can be written to");
    assert!(said.is_some());
}

#[tokio::test]
async fn several_addresses_lead_to_the_successor_of_a_crashed_primary() {
    is_followed_to_the_standby_after(Loss::Crash).await;
}

#[tokio::test]
async fn several_addresses_lead_to_the_successor_of_a_vanished_primary() {
    is_followed_to_the_standby_after(Loss::Silence).await;
}

/// A dump of the standby keeps the primary from removing row versions, and so does the slot of a standby that is gone.
#[tokio::test]
async fn a_snapshot_that_is_kept_for_a_standby_is_named() {
    let (pair, database) = Pair::start().await;
    for statement in [
        "alter system set hot_standby_feedback = on",
        "alter system set wal_receiver_status_interval = 1",
        "select pg_reload_conf()",
    ] {
        sqlx::query(statement).execute(&pair.pool).await.unwrap();
    }
    let system = System::spawn_on(database, &[]).await;
    let mut dump = pair.pool.begin().await.unwrap();
    let snapshot = "set transaction isolation level repeatable read; select from products";
    sqlx::raw_sql(snapshot).execute(&mut *dump).await.unwrap();
    let mut viewer = Viewer::of(&system).await;
    let is_kept = |view: &Value, begin: &str| {
        let holder = view["database"]["oldest_snapshot_holder"].as_str();
        let seconds = view["database"]["oldest_snapshot_seconds"].as_f64();
        holder.is_some_and(|holder| holder.starts_with(begin)) && seconds > Some(5.0)
    };
    let what = "the standby with the dump";
    viewer.until(what, |view| is_kept(view, "standby ")).await;
    dump.rollback().await.unwrap();
    let moves = "a snapshot of the standby that moves again";
    viewer.until(moves, |view| !is_kept(view, "standby ")).await;

    let slot = "select pg_create_physical_replication_slot('left_behind', true)";
    system.database.execute(slot).await;
    for statement in [
        "alter system set primary_slot_name = 'left_behind'",
        "select pg_reload_conf()",
    ] {
        sqlx::query(statement).execute(&pair.pool).await.unwrap();
    }
    eventually("a snapshot in the slot", async || {
        let known = "select xmin is not null from pg_replication_slots";
        let known = sqlx::query_scalar(known).fetch_one(&system.database.pool);
        let known: bool = known.await.unwrap();
        known.then_some(())
    })
    .await;
    pair.standby.kill();
    viewer
        .until("the slot of a standby that is gone", |view| {
            is_kept(view, "replication slot left_behind")
        })
        .await;
    let metric = "flashsale_postgres_oldest_snapshot_seconds";
    assert!(system.metric(metric).await > 5.0);
}

/// Keepalives and limits that PostgreSQL has for its sessions with the service.
#[tokio::test]
async fn postgresql_gives_up_the_sessions_of_a_machine_that_vanished() {
    let database = Database::create().await;
    let args = inventory::database::Args {
        database_url: database.url.clone(),
        database_max_connections: 1,
        database_acquire_milliseconds: 10_000,
    };
    let pool = inventory::database::connect(&args, "test").unwrap();
    let settings = "select setting from pg_settings where name in ('tcp_keepalives_count',
        'tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_user_timeout') order by name";
    let settings: Vec<String> = sqlx::query_scalar(settings).fetch_all(&pool).await.unwrap();
    assert_eq!(settings, ["3", "30", "10", "60000"]);
}
