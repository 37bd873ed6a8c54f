//! Redis is optional: without it all answers are the same.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Proxy, Redis, Server, Service, System, Traffic, eventually, timer_key};

/// Number of trades, and their time limit. The normal time is a small part of it. If only one of the four requests of
/// a trade waited for Redis, the trade would take 0.8 s more (for a reply) or 1 s more (for a connection).
const TRADES: i64 = 15;
const LIMIT: Duration = Duration::from_secs(10);

/// Reserves, confirms and cancels. Expects the usual answers without delay.
async fn trade_without_delay(system: &System, product: i64, users_from: i64) {
    let began = Instant::now();
    for user in users_from..users_from + TRADES {
        let sold = system.reserve(product, user).await;
        assert_eq!(system.confirm(&sold).await["status"], "CONFIRMED");
        let freed = system.reserve(product, user).await;
        assert_eq!(system.cancel(&freed).await["status"], "CANCELED");
    }
    let lasted = began.elapsed();
    assert!(lasted < LIMIT, "{lasted:?}");
    system.assert_clean_audit().await;
}

async fn sees_redis(system: &System, state: &str) {
    let wanted = json!({"postgres": "up", "redis": state});
    eventually(&format!("redis {state}"), async || {
        let ready = system.get("/readyz").await.expect(200);
        (ready["dependencies"] == wanted).then_some(())
    })
    .await;
}

/// The remaining time of a hold's timer in milliseconds. Negative if there is none.
async fn timer(server: &Server, system: &System, hold: &Value) -> i64 {
    let left = format!("PTTL {}", timer_key(system, hold));
    Redis::at(&server.url).await.ask(&left).await
}

async fn has_a_timer(server: &Server, system: &System, hold: &Value) {
    eventually("the timer", async || {
        let left = timer(server, system, hold).await;
        (1..=300_000).contains(&left).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_api_starts_and_trades_without_redis_and_uses_it_when_it_comes() {
    let redis = Server::start_new(Service::Redis);
    redis.stop();
    let system = System::spawn(&[("REDIS_URL", &redis.url)]).await;
    let product = system.create_product(100).await;
    sees_redis(&system, "down").await;
    trade_without_delay(&system, product, 1).await;
    redis.start();
    sees_redis(&system, "up").await;
    let hold = system.reserve(product, 1).await;
    has_a_timer(&redis, &system, &hold).await;
}

#[tokio::test]
async fn redis_may_crash_and_come_back() {
    let redis = Server::start_new(Service::Redis);
    let system = System::spawn(&[("REDIS_URL", &redis.url)]).await;
    let product = system.create_product(100).await;
    let before = system.reserve(product, 1000).await;
    has_a_timer(&redis, &system, &before).await;
    redis.kill();
    trade_without_delay(&system, product, 1).await;
    sees_redis(&system, "down").await;
    trade_without_delay(&system, product, 1).await;
    redis.start();
    sees_redis(&system, "up").await;
    let hold = system.reserve(product, 1).await;
    has_a_timer(&redis, &system, &hold).await;
    system.confirm(&hold).await;
    eventually("the timer is gone", async || {
        (timer(&redis, &system, &hold).await < 0).then_some(())
    })
    .await;
    // The timer that was lost in the crash makes no difference.
    system.confirm(&before).await;
}

#[tokio::test]
async fn a_redis_that_is_slow_or_silent_delays_nobody() {
    let redis = Server::start_new(Service::Redis);
    let proxy = Proxy::to(&redis.address()).await;
    let url = format!("redis://{}/0", proxy.address);
    let system = System::spawn(&[("REDIS_URL", &url)]).await;
    let product = system.create_product(200).await;
    sees_redis(&system, "up").await;

    // Slow enough to be noticed in a request, and fast enough to keep the connection.
    proxy.set(Traffic::Delay(Duration::from_millis(400)));
    trade_without_delay(&system, product, 1).await;
    proxy.set(Traffic::Blackhole);
    trade_without_delay(&system, product, 100).await;
    sees_redis(&system, "down").await;
    proxy.set(Traffic::Refuse);
    trade_without_delay(&system, product, 200).await;

    proxy.set(Traffic::Pass);
    sees_redis(&system, "up").await;
    let hold = system.reserve(product, 1).await;
    has_a_timer(&redis, &system, &hold).await;
}

#[tokio::test]
async fn counters_that_went_wrong_are_rebuilt_by_one_call() {
    let redis = Server::start_new(Service::Redis);
    let system = System::spawn(&[("REDIS_URL", &redis.url)]).await;
    let product = system.create_product(10).await;
    for user in 1..=4 {
        system.reserve(product, user).await;
    }
    let sold = system.reserve(product, 5).await;
    system.confirm(&sold).await;
    let freed = system.reserve(product, 6).await;
    system.cancel(&freed).await;
    let gone = system.reserve(product, 7).await;
    system.backdate(&gone).await;
    let swept = system.post("/admin/reservations/sync-expired").await;
    assert_eq!(swept.expect(200), json!({"expired": 1}));
    let truth = json!({"created": 7, "confirmed": 1, "canceled": 1, "expired": 1});

    let mut asked = Redis::at(&redis.url).await;
    let counters = ["created", "confirmed", "canceled", "expired"]
        .map(|name| format!("{}metrics:reservations:{name}", system.redis_prefix()));
    let counters = format!("MGET {}", counters.join(" "));
    // First wait for all commands in flight, so that none is applied later.
    eventually("the counters", async || {
        let counts: Vec<Option<i64>> = asked.ask(&counters).await;
        (counts == [Some(7), Some(1), Some(1), Some(1)]).then_some(())
    })
    .await;
    let () = asked.ask("FLUSHALL").await;

    let rebuilt = system.post("/admin/counters/rebuild").await.expect(200);
    assert_eq!(rebuilt, truth);
    let counts: Vec<i64> = asked.ask(&counters).await;
    assert_eq!(counts, [7, 1, 1, 1]);

    redis.kill();
    sees_redis(&system, "down").await;
    let refused = system.post("/admin/counters/rebuild").await;
    refused.expect_problem(503, "overloaded");
}
