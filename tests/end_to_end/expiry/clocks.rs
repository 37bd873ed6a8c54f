//! Only the database's clock decides, whatever the state of the keys in Redis is.

use super::stage::{SHORT_HOLDS, is_swept, stored_status};
use crate::support::{Peer, Redis, System, test_server, timer_key};

#[tokio::test]
async fn a_timer_that_goes_early_ends_no_hold() {
    let system = System::start().await;
    let mut redis = Redis::at(&test_server("TEST_REDIS_URL")).await;
    let product = system.create_product(9).await;
    let mut expirer = Peer::expirer(&system, &[]).await;
    expirer.child.logs("listening to Redis").await;
    // Removed by hand, by a fast clock, and by a deadline in the past, for which Redis deletes the key instead of
    // expiring it.
    for (user, change) in (1..).zip(["DEL {}", "PEXPIRE {} 1", "PEXPIREAT {} 1", "PEXPIRE {} -1"]) {
        let hold = system.reserve(product, user).await;
        let key = timer_key(&system, &hold);
        let exists = format!("EXISTS {key}");
        redis.answers(&exists, Some(1)).await;
        redis.ask::<i64>(&change.replace("{}", &key)).await;
        redis.answers(&exists, Some(0)).await;
        expirer.sweeps().await;
        assert_eq!(stored_status(&system, &hold).await, "ACTIVE", "{change}");
        system.confirm(&hold).await;
    }
}

#[tokio::test]
async fn a_timer_that_goes_late_or_never_delays_no_end() {
    let system = System::with(&[SHORT_HOLDS]).await;
    let mut redis = Redis::at(&test_server("TEST_REDIS_URL")).await;
    let product = system.create_product(9).await;
    let _expirer = Peer::expirer(&system, &[]).await;
    for user in 1..=3 {
        let hold = system.reserve(product, user).await;
        let key = timer_key(&system, &hold);
        // Overwrites the key, whether it still exists or not.
        let late = format!("SET {key} 1 PX 3600000");
        redis.ask::<String>(&late).await;
        is_swept(&system, &hold).await;
        system
            .try_confirm(&hold)
            .await
            .expect_problem(409, "reservation_expired");
        redis.ask::<i64>(&format!("DEL {key}")).await;
    }
    assert_eq!(system.stock(product).await, 9);
}

#[tokio::test]
async fn a_forged_timer_ends_nothing() {
    let system = System::start().await;
    let mut redis = Redis::at(&test_server("TEST_REDIS_URL")).await;
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 1).await;
    let mut expirer = Peer::expirer(&system, &[]).await;
    expirer.child.logs("listening to Redis").await;
    for name in ["0", "x", "", "99999999999999999999", "-1"] {
        let forged = format!("SET {}reservation:{name} 1 PX 1", system.redis_prefix());
        redis.ask::<String>(&forged).await;
    }
    expirer.sweeps().await;
    assert_eq!(stored_status(&system, &hold).await, "ACTIVE");
    assert!(expirer.child.runs());
}
