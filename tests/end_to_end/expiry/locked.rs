//! Products that other transactions keep locked, while the holds of others fall due.

use serde_json::Value;
use sqlx::types::time::OffsetDateTime;

use super::stage::is_swept;
use crate::support::{Peer, System, eventually};

/// More than the expirer waits for at once.
const LOCKED: usize = 6;

/// The calls that wait for locks now, and since when.
async fn waits(system: &System) -> Vec<(i32, OffsetDateTime)> {
    sqlx::query_as(
        "select pid, query_start from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' order by pid",
    )
    .fetch_all(&system.database.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn locked_products_delay_no_other_and_are_swept_after_their_locks() {
    let system = System::start().await;
    let free = system.create_product(99).await;
    let mut holds = Vec::new();
    for _ in 0..LOCKED {
        let product = system.create_product(1).await;
        holds.push(system.reserve(product, 1).await);
    }
    let products = holds
        .iter()
        .map(|hold| hold["product_id"].as_i64().unwrap());
    let products: Vec<i64> = products.collect();
    let (last, others) = products.split_last().unwrap();
    let mut lock = system.database.pool.begin().await.unwrap();
    sqlx::query("select from products where id = any($1) for update")
        .bind(others)
        .execute(&mut *lock)
        .await
        .unwrap();
    let lock_of_last = system.database.lock_product(*last).await;
    let _expirer = Peer::expirer(&system, &[]).await;
    for hold in &holds {
        system.backdate(hold).await;
    }
    let mut users = 1..;
    eventually("a sweep beside all waits", async || {
        let before = waits(&system).await;
        let hold = system.reserve(free, users.next()?).await;
        system.backdate(&hold).await;
        is_swept(&system, &hold).await;
        (before.len() == 4 && waits(&system).await == before).then_some(())
    })
    .await;
    // While the others stay locked.
    lock_of_last.rollback().await.unwrap();
    is_swept(&system, &holds[LOCKED - 1]).await;
    lock.rollback().await.unwrap();
    for hold in &holds {
        is_swept(&system, hold).await;
    }
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn each_product_that_stays_locked_is_one_line_in_the_log() {
    let system = System::start().await;
    system.database.have_little_patience().await;
    let mut expirer = Peer::expirer(&system, &[]).await;
    let (mut products, mut locks) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let product = system.create_product(1).await;
        let hold = system.reserve(product, 1).await;
        products.push(product);
        locks.push((hold.clone(), system.database.lock_product(product).await));
        system.backdate(&hold).await;
        eventually("the product in the log", async || {
            let entries = expirer.child.all_logged("cannot expire holds");
            let is_named = entries.iter().any(|entry| entry["product"] == product);
            is_named.then_some(())
        })
        .await;
    }
    expirer.fails_again().await;
    for (hold, lock) in locks {
        lock.rollback().await.unwrap();
        is_swept(&system, &hold).await;
    }
    expirer.child.logs("expiring holds again").await;
    let said = expirer.stop().await;
    let told = said
        .lines()
        .filter(|line| line.contains("cannot expire holds"));
    let told: Vec<Value> = told
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let named: Vec<_> = told.iter().map(|line| line["product"].as_i64()).collect();
    assert_eq!(named, [Some(products[0]), Some(products[1])], "{said}");
    for line in &told {
        let cause = line["cause"].as_str().unwrap();
        assert!(cause.contains("lock timeout"), "{line}");
    }
}
