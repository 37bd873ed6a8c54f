//! Products that other transactions have locked while a sweep runs.

use std::{thread, time::Duration};

use inventory::{
    expire::{Commit::Asynchronous, Expired, Step, Turn, sweep_locked, sweep_unlocked},
    waitlist::EntryStatus,
};
use sqlx::PgPool;

use super::stage::Line as _;
use crate::support::Shop;

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_sweep_waits_for_no_lock_and_tells_what_is_locked(pool: PgPool) {
    let shop = Shop::new(pool);
    let [locked, line, free] = [
        shop.product(5).await,
        shop.product(0).await,
        shop.product(1).await,
    ];
    shop.crowd(locked, 5, -7200).await;
    let entry = shop.waits(line, 1).await;
    shop.end_sale(line).await;
    shop.stale_hold(free, 1, 60).await;
    let locks = [shop.lock(locked).await, shop.lock(line).await];

    let (mut done, mut skipped) = (0, Vec::new());
    let swept = sweep_unlocked(&shop.pool, 2, Asynchronous, &shop.events, |step| {
        match step {
            Step::Done(it) => done += it.expired,
            Step::Locked(turn) => skipped.push(turn),
        }
        true
    });
    let swept = swept.await.unwrap();

    assert!(swept.refused.is_none(), "{swept:?}");
    assert_eq!((swept.expired, done), (1, 1));
    assert_eq!(shop.counters(free).await, (1, 0, 0));
    skipped.sort_by_key(|turn| turn.product_id().get());
    assert_eq!(skipped, [Turn::Holds(locked), Turn::Waitlist(line)]);
    assert_eq!(shop.counters(locked).await, (0, 5, 0));
    assert_eq!(shop.entry(entry.id).await.status, EntryStatus::Waiting);

    // When the locks are free, all that is due is done, however many transactions it takes.
    for lock in locks {
        lock.rollback().await.unwrap();
    }
    let mut batches = Vec::new();
    for turn in skipped {
        let waited = sweep_locked(&shop.pool, turn, 2, Asynchronous, &shop.events, |it| {
            batches.push(it.expired);
            true
        });
        waited.await.unwrap();
    }
    assert_eq!(batches, [2, 2, 1, 0]);
    assert_eq!(shop.counters(locked).await, (5, 0, 0));
    assert_eq!(shop.entry(entry.id).await.status, EntryStatus::Closed);
    shop.assert_sound().await;
}

/// The lock of one hold keeps the sweep's first transaction open until somebody waits for the product.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_sweep_leaves_a_product_to_those_who_wait_for_it(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(5).await;
    shop.crowd(product, 5, -60).await;
    let mut hold = shop.pool.begin().await.unwrap();
    sqlx::query("select from reservations_active order by expires_at for update")
        .execute(&mut *hold)
        .await
        .unwrap();

    let sweeping = shop.clone();
    let sweep = tokio::spawn(async move {
        let mut steps = Vec::new();
        let swept = sweep_unlocked(&sweeping.pool, 2, Asynchronous, &sweeping.events, |step| {
            steps.push(step);
            true
        });
        (swept.await.unwrap().expired, steps)
    });
    shop.until_waiting(&[sweep.abort_handle()]).await;
    let waiting = shop.clone();
    let other = tokio::spawn(async move { waiting.lock(product).await.rollback().await });
    shop.until_waiting(&[sweep.abort_handle(), other.abort_handle()])
        .await;
    hold.rollback().await.unwrap();
    let (expired, steps) = sweep.await.unwrap();

    let first = Expired {
        expired: 2,
        offered: 0,
        wanted: true,
    };
    assert_eq!(
        steps,
        [Step::Done(first), Step::Locked(Turn::Holds(product))]
    );
    assert_eq!(expired, 2);
    other.await.unwrap().unwrap();
    shop.assert_sound().await;
}

/// A busy product is often found locked, for a moment. A storm on another product can keep a sweep busy for long. Here each
/// transaction takes 50 ms.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_long_sweep_tries_a_locked_product_again(pool: PgPool) {
    let shop = Shop::new(pool);
    let [storm, locked] = [shop.product(40).await, shop.product(1).await];
    shop.crowd(storm, 40, -60).await;
    shop.stale_hold(locked, 1, 30).await;
    let mut lock = Some(shop.lock(locked).await);

    let mut skipped = 0;
    let swept = sweep_unlocked(&shop.pool, 1, Asynchronous, &shop.events, |step| {
        match step {
            Step::Done(_) => thread::sleep(Duration::from_millis(50)),
            Step::Locked(turn) => {
                assert_eq!(turn, Turn::Holds(locked));
                skipped += 1;
                drop(lock.take());
            }
        }
        true
    });
    let swept = swept.await.unwrap();

    assert!(skipped >= 1);
    assert_eq!(swept.expired, 41);
    shop.assert_sound().await;
}
