//! The keys in Redis.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use timer::Timer;
use tokio::time::timeout;

use super::stage::{SHORT_HOLDS, is_swept};
use crate::support::{
    NO_REDIS, PATIENCE, Peer, Redis, Server, Service, System, assert_utc, eventually, test_server,
    timer_key,
};

fn milliseconds(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap()
}

#[tokio::test]
async fn a_hold_has_a_timer_until_it_ends_and_everything_is_counted() {
    let system = System::start().await;
    let mut redis = Redis::at(&test_server("TEST_REDIS_URL")).await;
    let product = system.create_product(9).await;
    let sold = system.reserve(product, 1).await;
    let freed = system.reserve(product, 2).await;
    let kept = system.reserve(product, 3).await;
    let lost = system.reserve(product, 4).await;
    for hold in [&sold, &freed, &kept, &lost] {
        let deadline = milliseconds(assert_utc(&hold["expires_at"]));
        let timer = format!("PEXPIRETIME {}", timer_key(&system, hold));
        redis.answers(&timer, Some(deadline)).await;
    }
    // An extension sets the timer to the later deadline.
    let path = format!("/reservations/{}/extend", sold["id"]);
    let later = system.post_json(&path, &json!({"seconds": 900})).await;
    let deadline = milliseconds(assert_utc(&later.expect(200)["expires_at"]));
    let timer = format!("PEXPIRETIME {}", timer_key(&system, &sold));
    redis.answers(&timer, Some(deadline)).await;
    system.confirm(&sold).await;
    system.cancel(&freed).await;
    for hold in [&sold, &freed] {
        let exists = format!("EXISTS {}", timer_key(&system, hold));
        redis.answers(&exists, Some(0)).await;
    }
    // Repeats and refusals are not transitions, and leave other timers unchanged.
    system.confirm(&sold).await;
    system.cancel(&freed).await;
    system
        .try_cancel(&sold)
        .await
        .expect_problem(409, "reservation_confirmed");
    system
        .try_reserve(product, 3)
        .await
        .expect_problem(409, "already_reserved");
    system.backdate(&lost).await;
    let swept =
        system.as_admin(system.request(reqwest::Method::POST, "/admin/reservations/sync-expired"));
    assert_eq!(swept.await.expect(200), json!({"expired": 1}));
    // Reserve expires the user's own hold past its deadline.
    system.backdate(&kept).await;
    system.reserve(product, 3).await;
    for (counter, wanted) in [
        ("created", 5),
        ("confirmed", 1),
        ("canceled", 1),
        ("expired", 2),
    ] {
        let get = format!(
            "GET {}metrics:reservations:{counter}",
            system.redis_prefix()
        );
        redis.answers(&get, Some(wanted)).await;
    }
}

#[tokio::test]
async fn a_timer_that_runs_out_is_heard() {
    let system = System::with(&[SHORT_HOLDS]).await;
    let product = system.create_product(99).await;
    let args = timer::Args {
        redis_url: test_server("TEST_REDIS_URL"),
        redis_key_prefix: system.redis_prefix().to_owned(),
    };
    let timer = Timer::start(&args, &runtime::Process::detached()).unwrap();
    let expiries = timer.expiries();
    // Once for the subscription. Later only a timer can wake it.
    timeout(PATIENCE, expiries.next()).await.expect("no Redis");
    let mut users = 1..;
    eventually("a timer that is heard", async || {
        system.reserve(product, users.next()?).await;
        // If a slow machine sets the timer after its time, Redis deletes the key without an announcement.
        timeout(Duration::from_secs(5), expiries.next()).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_unit_returns_with_redis() {
    let system = System::with(&[SHORT_HOLDS]).await;
    let product = system.create_product(1).await;
    let mut expirer = Peer::expirer(&system, &[]).await;
    assert_eq!(expirer.sees("redis", "up").await, 200);
    let hold = system.reserve(product, 1).await;
    is_swept(&system, &hold).await;
    assert_eq!(system.stock(product).await, 1);
    let expired = &system.look_up(&hold).await;
    assert_eq!(expired["expired_at"], expired["expires_at"]);
    expirer.stop().await;
}

#[tokio::test]
async fn a_unit_returns_without_redis() {
    let system = System::with(&[SHORT_HOLDS, NO_REDIS]).await;
    let product = system.create_product(1).await;
    let mut expirer = Peer::expirer(&system, &[]).await;
    for user in 1..=3 {
        let hold = system.reserve(product, user).await;
        is_swept(&system, &hold).await;
        assert_eq!(system.stock(product).await, 1);
    }
    // Without Redis the expirer is ready, too, and logs the outage once.
    assert_eq!(expirer.sees("redis", "down").await, 200);
    let said = expirer.stop().await;
    assert_eq!(said.matches("cannot listen to Redis").count(), 1, "{said}");
}

#[tokio::test]
async fn a_unit_returns_where_redis_may_not_be_configured() {
    let redis = Server::start_new(Service::Redis);
    let mut operator = Redis::at(&redis.url).await;
    operator
        .ask::<()>("ACL SETUSER limited on >secret ~* &* +@all -config")
        .await;
    let url = redis.url.replace("redis://", "redis://limited:secret@");
    let system = System::with(&[SHORT_HOLDS, ("REDIS_URL", &url)]).await;
    let product = system.create_product(1).await;
    let mut expirer = Peer::expirer(&system, &[]).await;
    assert_eq!(expirer.sees("redis", "up").await, 200);
    let hold = system.reserve(product, 1).await;
    is_swept(&system, &hold).await;
    // The command is denied again after every reconnect, and logged once.
    for lost in 1..=2 {
        operator.ask::<i64>("CLIENT KILL TYPE pubsub").await;
        let series = r#"flashsale_redis_reconnects_total{purpose="expiries"}"#;
        expirer.counts(series, f64::from(lost)).await;
    }
    let hold = system.reserve(product, 2).await;
    is_swept(&system, &hold).await;
    let said = expirer.stop().await;
    assert_eq!(said.matches("notify-keyspace-events").count(), 1, "{said}");
    assert!(!said.contains("secret"), "{said}");
    let events: Vec<String> = operator.ask("CONFIG GET notify-keyspace-events").await;
    assert_eq!(events[1], "");
}

#[tokio::test]
async fn what_others_asked_of_redis_stays() {
    let redis = Server::start_new(Service::Redis);
    let mut operator = Redis::at(&redis.url).await;
    operator
        .ask::<()>("CONFIG SET notify-keyspace-events Kg")
        .await;
    let system = System::with(&[("REDIS_URL", &redis.url)]).await;
    let mut expirer = Peer::expirer(&system, &[]).await;
    expirer.child.logs("listening to Redis").await;
    let events: Vec<String> = operator.ask("CONFIG GET notify-keyspace-events").await;
    for flag in ["K", "g", "E", "x"] {
        assert!(events[1].contains(flag), "{events:?}");
    }
}
