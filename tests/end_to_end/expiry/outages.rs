//! Expirers during outages of Redis or PostgreSQL, and during shutdown.

use std::collections::HashSet;

use serde_json::Value;

use super::stage::{SHORT_HOLDS, is_swept};
use crate::support::{
    Database, NO_REDIS, Peer, Proxy, Redis, Server, Service, System, Traffic, eventually, start,
    test_server,
};

#[tokio::test]
async fn holds_expire_while_redis_crashes_forgets_and_returns() {
    let redis = Server::start_new(Service::Redis);
    let system = System::with(&[SHORT_HOLDS, ("REDIS_URL", &redis.url)]).await;
    let product = system.create_product(1).await;
    let expirer = Peer::expirer(&system, &[]).await;
    expirer.sees("redis", "up").await;
    let hold = system.reserve(product, 1).await;
    redis.kill();
    is_swept(&system, &hold).await;
    assert_eq!(expirer.sees("redis", "down").await, 200);
    let hold = system.reserve(product, 2).await;
    is_swept(&system, &hold).await;

    // A restarted Redis has also lost the setting that announces expired keys.
    redis.start();
    expirer.sees("redis", "up").await;
    let series = r#"flashsale_redis_reconnects_total{purpose="expiries"}"#;
    expirer.counts(series, 1.0).await;
    let mut operator = Redis::at(&redis.url).await;
    let events: Vec<String> = operator.ask("CONFIG GET notify-keyspace-events").await;
    assert!(
        events[1].contains('E') && events[1].contains('x'),
        "{events:?}"
    );
    let hold = system.reserve(product, 3).await;
    operator.ask::<String>("FLUSHALL").await;
    is_swept(&system, &hold).await;
    let hold = system.reserve(product, 4).await;
    is_swept(&system, &hold).await;
    assert_eq!(system.stock(product).await, 1);
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn expiries_that_redis_told_to_nobody_are_not_missed() {
    let redis = Server::start_new(Service::Redis);
    let proxy = Proxy::to(&redis.address()).await;
    let url = format!("redis://{}/0", proxy.address);
    let system = System::with(&[SHORT_HOLDS, ("REDIS_URL", &redis.url)]).await;
    let product = system.create_product(9).await;
    let expirer = Peer::expirer(&system, &[("REDIS_URL", &url)]).await;
    expirer.sees("redis", "up").await;
    for (user, traffic) in (1..).zip([Traffic::Blackhole, Traffic::Refuse]) {
        proxy.set(traffic);
        let hold = system.reserve(product, user).await;
        is_swept(&system, &hold).await;
        proxy.set(Traffic::Pass);
        expirer.sees("redis", "up").await;
    }
    assert_eq!(system.stock(product).await, 9);
}

#[tokio::test]
async fn postgresql_may_restart_and_crash_under_the_expirer() {
    let server = Server::start_new(Service::Postgres);
    let database = Database::create_on(&server.url).await;
    let system = System::spawn_on(database, &[]).await;
    let product = system.create_product(99).await;
    let mut expirer = Peer::expirer(&system, &[]).await;
    assert_eq!(expirer.sees("postgres", "up").await, 200);
    // It has started to work. Otherwise it would log "cannot work".
    expirer.sweeps().await;
    let hold = system.reserve(product, 1).await;
    server.stop();
    assert_eq!(expirer.sees("postgres", "down").await, 503);
    expirer.counts("flashsale_expiry_errors_total", 2.0).await;
    server.start();
    system.backdate(&hold).await;
    is_swept(&system, &hold).await;
    assert_eq!(expirer.sees("postgres", "up").await, 200);

    // A different user each time: a reserve without an answer may have succeeded.
    let mut users = 2..;
    let hold = eventually("the API is back, too", async || {
        let answer = system.try_reserve(product, users.next()?).await;
        (answer.status == 201).then(|| answer.json())
    })
    .await;
    server.kill();
    expirer.sees("postgres", "down").await;
    server.start();
    system.backdate(&hold).await;
    is_swept(&system, &hold).await;
    let said = expirer.stop().await;
    let mut told = HashSet::new();
    for line in said.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        match entry["message"].as_str().unwrap() {
            "expiring holds again" => told.clear(),
            message if message.contains("cannot expire holds") => {
                let named = (entry["product"].to_string(), entry["cause"].to_string());
                assert!(told.insert(named), "{said}");
            }
            _ => {}
        }
    }
    assert!(said.contains("cannot expire holds"), "{said}");
    assert!(told.is_empty(), "it works again: {said}");
}

/// A test that waits for this limit fails.
const FOREVER: (&str, &str) = ("SHUTDOWN_SECONDS", "600");

#[tokio::test]
async fn expirer_and_relay_end_when_told_to() {
    let system = System::start().await;
    for name in ["flashsale-expirer", "flashsale-relay"] {
        let url = test_server("TEST_AMQP_URL");
        let settings = [
            FOREVER,
            ("AMQP_URL", &url),
            ("RELAY_DECLARE_QUEUE", "false"),
        ];
        let mut process = system.beside(name, &settings);
        process.logs("listening to Redis").await;
        process.terminate();
        assert!(process.ends().await.success());
        let said = process.all_it_said().await;
        assert!(
            said.contains("stopped") && !said.contains("ERROR"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn expirer_and_relay_end_when_told_to_with_nobody_else_there() {
    let settings = [
        FOREVER,
        NO_REDIS,
        ("LISTEN_ADDR", "127.0.0.1:0"),
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing"),
        ("AMQP_URL", "amqp://nobody:nothing@127.0.0.1:1/%2f"),
    ];
    for name in ["flashsale-expirer", "flashsale-relay"] {
        let mut process = start(name, &settings);
        process.logs("listening").await;
        process.logs("cannot listen to Redis").await;
        process.terminate();
        assert!(process.ends().await.success());
    }
}
