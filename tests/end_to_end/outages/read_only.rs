//! Servers that answer but cannot be written to: a demoted PostgreSQL, a Redis that became a replica, and a PostgreSQL
//! whose synchronous standby is gone.

use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Database, Redis, Server, Service, System, eventually};

/// It may change the settings of the server.
const SUPERUSER: (&str, &str) = ("FLASHSALE_LOCAL_POSTGRES_ROLE", "superuser");

/// The reason that `/readyz` gives, or `None` when the process is ready.
async fn reason(base: &str) -> Option<String> {
    let answer = reqwest::get(format!("http://{base}/readyz")).await.unwrap();
    let is_ready = answer.status() == 200;
    let told: Value = answer.json().await.unwrap();
    (!is_ready).then(|| told["reason"].as_str().unwrap_or_default().to_owned())
}

/// The process ids of PostgreSQL's sessions that the API has used. It tests the others before it uses them. The live page
/// has one that it replaces at its next look.
async fn used_sessions_of_the_api(database: &Database) -> Vec<i32> {
    let query = "select pid from pg_stat_activity
        where application_name = 'flashsale-api' and query not like '-- reserve: rehearsal%' order by pid";
    sqlx::query_scalar(query)
        .fetch_all(&database.pool)
        .await
        .unwrap()
}

fn mentions(log: &[Value], words: &str) -> usize {
    let lines = log.iter().map(Value::to_string);
    lines.filter(|line| line.contains(words)).count()
}

#[tokio::test]
async fn a_postgresql_that_turns_read_only_is_named_and_left_as_soon_as_another_can_write() {
    let server = Server::start_with(Service::Postgres, &[SUPERUSER]);
    let database = Database::create_on(&server.url).await;
    let mut system = System::spawn_on(database, &[]).await;
    let mut workers = Vec::new();
    for name in ["flashsale-expirer", "flashsale-relay"] {
        let mut worker = system.beside(name, &[]);
        let base = worker.address().await;
        eventually("ready", async || {
            reason(&base).await.is_none().then_some(())
        })
        .await;
        workers.push((worker, base));
    }
    let product = system.create_product(999).await;
    let hold = system.reserve(product, 1).await;
    let sessions = used_sessions_of_the_api(&system.database).await;

    system
        .database
        .configure("default_transaction_read_only", "on")
        .await;
    // The sessions learn of it one after the other.
    let users = AtomicI64::new(10);
    eventually("a refused reserve", async || {
        let user = users.fetch_add(1, Ordering::Relaxed);
        let answer = system.try_reserve(product, user).await;
        (answer.status == 503).then_some(())
    })
    .await;
    let refused = (2..=9).map(|user| system.try_reserve(product, user));
    for refused in join_all(refused).await {
        refused.expect_problem(503, "overloaded");
    }
    let confirm = format!("/reservations/{}/confirm", hold["id"]);
    let refused = system.post(&confirm).await;
    refused.expect_problem(503, "overloaded");
    // A machine that is busy may first say that PostgreSQL does not answer in time.
    let bases = workers.iter().map(|(_, base)| base.as_str());
    for base in std::iter::once(system.address()).chain(bases) {
        eventually("not ready, because PostgreSQL is read-only", async || {
            let told = reason(base).await?;
            told.starts_with("PostgreSQL is read-only").then_some(())
        })
        .await;
    }
    system
        .child()
        .logs("cannot work: PostgreSQL is read-only")
        .await;

    system
        .database
        .configure("default_transaction_read_only", "off")
        .await;
    // The old sessions are gone: behind them could be a server that never accepts writes again.
    let now = used_sessions_of_the_api(&system.database).await;
    let kept: Vec<_> = sessions.iter().filter(|pid| now.contains(pid)).collect();
    assert!(kept.len() <= 1, "{kept:?} of {sessions:?} are still used");
    // No restart and no wait for old connections to age.
    eventually("a reserve", async || {
        let answer = system.try_reserve(product, 2).await;
        (answer.status == 201).then_some(())
    })
    .await;
    system.confirm(&hold).await;
    for (_, base) in &workers {
        eventually("ready", async || reason(base).await.is_none().then_some(())).await;
    }
    system.child().logs("PostgreSQL can be used now").await;
    system.assert_clean_audit().await;
    let log = system.stop().await;
    let messages = log.iter().map(|entry| entry["message"].to_string());
    let conditions: Vec<_> = messages.filter(|it| it.contains("cannot work")).collect();
    // On a busy machine, PostgreSQL may also not answer in time in between.
    let is_repeated = conditions.windows(2).any(|two| two[0] == two[1]);
    assert!(!is_repeated, "one line for the condition: {conditions:?}");
    // One line for each cause: the refused write, and the time limit of the pool.
    let calls = mentions(&log, "did not execute the call");
    assert!(calls <= 4, "a line for each of {calls} calls");
}

#[tokio::test]
async fn a_redis_that_becomes_a_replica_is_left_until_it_is_a_primary_again() {
    let [redis, other] = [(); 2].map(|()| Server::start_new(Service::Redis));
    let mut system = System::spawn(&[("REDIS_URL", &redis.url)]).await;
    let product = system.create_product(9).await;
    sees_redis(&system, "up").await;

    let address = other.address();
    let (host, port) = address.rsplit_once(':').unwrap();
    let mut operator = Redis::at(&redis.url).await;
    let follow = format!("REPLICAOF {host} {port}");
    let () = operator.ask(&follow).await;
    sees_redis(&system, "down").await;
    system.reserve(product, 1).await;
    let rebuild = system.post("/admin/counters/rebuild").await;
    assert_eq!(rebuild.status, 503, "{rebuild:?}");

    let () = operator.ask("REPLICAOF NO ONE").await;
    sees_redis(&system, "up").await;
    system.post("/admin/counters/rebuild").await.expect(200);
    let log = system.stop().await;
    let lines = mentions(&log, "Redis does not accept");
    assert!(lines <= 1, "{lines} lines for one condition");
}

async fn sees_redis(system: &System, state: &str) {
    eventually(&format!("redis {state}"), async || {
        let ready = system.get("/readyz").await.expect(200);
        (ready["dependencies"] == json!({"postgres": "up", "redis": state})).then_some(())
    })
    .await;
}
