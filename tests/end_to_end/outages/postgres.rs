//! Outages of PostgreSQL: fast refusals with a reason, and recovery without a restart.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::support::{Answer, Database, Server, Service, System, Traffic, eventually};

/// Time limit of a refusal with the default settings (2 s for a connection, 3 s in a lane, 10 s for an answer), with
/// a margin for slow machines.
const QUICK: Duration = Duration::from_secs(20);

/// A private server, and a database on it.
async fn private() -> (Server, Database) {
    let server = Server::start_new(Service::Postgres);
    let database = Database::create_on(&server.url).await;
    (server, database)
}

async fn quick(answer: impl Future<Output = Answer>) -> Answer {
    timeout(QUICK, answer).await.expect("that took long")
}

/// The process is alive and not ready, and refuses at once every request that needs PostgreSQL.
async fn is_out_of_order(system: &System) {
    let readiness = eventually("not ready", async || {
        let readiness = quick(system.get("/readyz")).await;
        (readiness.status == 503).then_some(readiness)
    })
    .await;
    assert_eq!(readiness.header("content-type"), "application/json");
    let told = readiness.json();
    assert_eq!(told["status"], "unavailable");
    assert_eq!(told["dependencies"]["postgres"], "down");
    system.get("/livez").await.expect(200);
    system.get("/metrics").await;
    let body = json!({"name": "x", "stock": 1});
    // A connection that was used just before is not tested again, so one call may get no answer.
    eventually("nothing but definite refusals", async || {
        // In parallel: each may wait for a connection until its time limit.
        let answers = tokio::join!(
            quick(system.get("/products")),
            quick(system.get("/products/1")),
            quick(system.get("/reservations")),
            quick(system.get("/reservations/1")),
            quick(system.get("/admin/audit")),
            quick(system.try_reserve(1, 999)),
            quick(system.post("/reservations/1/confirm")),
            quick(system.post("/reservations/1/cancel")),
            quick(system.post_json("/products", &body)),
        );
        let answers = <[Answer; 9]>::from(answers);
        for answer in &answers {
            assert_eq!(answer.status, 503, "{answer:?}");
        }
        if answers
            .iter()
            .any(|answer| answer.json()["code"] == "outcome_unknown")
        {
            return None;
        }
        for answer in answers {
            answer.expect_problem(503, "overloaded");
        }
        Some(())
    })
    .await;
}

async fn recovers(system: &System) {
    eventually("ready again", async || {
        let readiness = quick(system.get("/readyz")).await;
        (readiness.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_api_starts_without_postgresql_and_works_once_it_is_there() {
    let (server, database) = private().await;
    server.stop();
    let system = System::spawn_on(database, &[]).await;
    is_out_of_order(&system).await;
    server.start();
    recovers(&system).await;
    let product = system.create_product(1).await;
    system.reserve(product, 1).await;
    assert_eq!(
        system.list("user_id=999").await,
        [] as [serde_json::Value; 0]
    );
}

#[tokio::test]
async fn postgresql_may_be_restarted_or_crash_under_way() {
    let (server, database) = private().await;
    let system = System::spawn_on(database, &[]).await;
    let product = system.create_product(9).await;
    let hold = system.reserve(product, 1).await;
    server.stop();
    is_out_of_order(&system).await;
    server.start();
    recovers(&system).await;
    let confirmed = system.confirm(&hold).await;

    server.kill();
    is_out_of_order(&system).await;
    server.start();
    recovers(&system).await;
    assert_eq!(
        system.look_up(&hold).await,
        confirmed,
        "an acknowledged sale is gone"
    );
    assert_eq!(system.list("").await.len(), 1, "a refused reserve was done");
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn what_was_under_way_when_postgresql_crashed_is_unknown_and_can_be_repeated() {
    let (server, database) = private().await;
    let system = System::spawn_on(database, &[]).await;
    let product = system.create_product(9).await;
    let lock = system.database.lock_product(product).await;
    let lost = {
        let client = system.client();
        tokio::spawn(async move { client.try_reserve(product, 1).await })
    };
    system.database.calls_wait_for_locks(1).await;
    server.kill();
    lost.await.unwrap().expect_problem(503, "outcome_unknown");
    drop(lock);
    server.start();
    recovers(&system).await;
    system.reserve(product, 1).await;
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn connections_that_are_cut_are_replaced() {
    let database = Database::create().await;
    let (proxy, url) = database.behind_proxy().await;
    let system = System::spawn_on(database, &[("DATABASE_URL", &url)]).await;
    let product = system.create_product(9).await;
    for user in 1..=5 {
        proxy.cut();
        // A connection that was used just before the cut is not tested again, so its call gets no answer.
        eventually("a reserve", async || {
            let answer = system.try_reserve(product, user).await;
            if answer.status == 201 {
                return Some(());
            }
            answer.expect_problem(503, "outcome_unknown");
            None
        })
        .await;
        recovers(&system).await;
    }
    proxy.set(Traffic::Refuse);
    is_out_of_order(&system).await;
    proxy.set(Traffic::Pass);
    recovers(&system).await;
    assert_eq!(system.stock(product).await, 4);
}

#[tokio::test]
async fn a_network_that_swallows_everything_is_noticed_and_survived() {
    let database = Database::create().await;
    let (proxy, url) = database.behind_proxy().await;
    let system = System::spawn_on(database, &[("DATABASE_URL", &url)]).await;
    let product = system.create_product(9).await;
    let hold = system.reserve(product, 1).await;

    // The answer of this call is lost, so its outcome is unknown.
    let lock = system.database.lock_product(product).await;
    let lost = {
        let client = system.client();
        tokio::spawn(async move { client.try_reserve(product, 2).await })
    };
    system.database.calls_wait_for_locks(1).await;
    proxy.set(Traffic::Blackhole);
    lock.rollback().await.unwrap();
    let lost = quick(async { lost.await.unwrap() }).await;
    lost.expect_problem(503, "outcome_unknown");
    is_out_of_order(&system).await;

    // The open connections are unusable.
    proxy.cut();
    proxy.set(Traffic::Pass);
    recovers(&system).await;
    system.confirm(&hold).await;
    let retried = system.try_reserve(product, 2).await;
    retried.expect_problem(409, "already_reserved");
    assert!(system.list("user_id=999").await.is_empty());
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn a_network_that_heals_brings_the_service_back() {
    let database = Database::create().await;
    let (proxy, url) = database.behind_proxy().await;
    let system = System::spawn_on(database, &[("DATABASE_URL", &url)]).await;
    let product = system.create_product(9).await;
    proxy.set(Traffic::Blackhole);
    is_out_of_order(&system).await;
    // The held-back data arrives now, on abandoned connections.
    proxy.set(Traffic::Pass);
    recovers(&system).await;
    system.reserve(product, 1).await;
    system.assert_clean_audit().await;
}
