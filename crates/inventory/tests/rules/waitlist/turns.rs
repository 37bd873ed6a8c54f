//! Products take turns in a sweep: one with many due holds does not delay another.

use std::{thread, time::Duration};

use inventory::{
    ProductId,
    expire::{self, Commit, Expired, due},
};
use sqlx::PgPool;

use super::stage::{Line as _, window};
use crate::support::{Shop, one};

/// Sweeps in batches of `max_rows`. Returns the holds that each transaction expired and offered, in order. Each transaction
/// lasts at least so long.
async fn sweep(shop: &Shop, max_rows: i32, at_least: Duration) -> Vec<(u64, u64)> {
    let mut batches = Vec::new();
    let after = |done: Expired| {
        batches.push((done.expired, done.offered));
        thread::sleep(at_least);
        true
    };
    let commit = Commit::Asynchronous;
    let swept = expire::sweep(&shop.pool, max_rows, commit, &shop.events, after).await;
    let swept = swept.unwrap();
    assert_eq!(swept.expired, batches.iter().map(|it| it.0).sum::<u64>());
    batches
}

/// A product with a user who waits for its only unit, which another user holds.
pub(super) async fn with_a_line(shop: &Shop) -> ProductId {
    let product = shop.product(1).await;
    shop.hold(product, 1).await;
    shop.waits(product, 2).await;
    product
}

pub(super) async fn falls_due(shop: &Shop, product: ProductId, in_seconds: f64) {
    sqlx::query(
        "update reservations set expires_at = clock_timestamp() + make_interval(secs => $2) where product_id = $1",
    )
    .bind(product)
    .bind(in_seconds)
    .execute(&shop.pool)
    .await
    .unwrap();
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_storm_on_one_product_does_not_delay_the_lines_of_others(pool: PgPool) {
    let shop = Shop::new(pool);
    let storm = shop.product(2_000).await;
    shop.crowd(storm, 2_000, -60).await;
    // One line gets a unit of a hold that falls due last, and the other at the start of its sale, without any due hold.
    let expires = with_a_line(&shop).await;
    let opens = shop.product(1).await;
    let hold = shop.hold(opens, 1).await.id;
    shop.waits(opens, 2).await;
    shop.change(opens, &window(1, 2)).await;
    shop.cancel(&[hold]).await;
    sqlx::raw_sql(
        "update products set sale_starts_at = clock_timestamp() where sale_starts_at is not null;
        update waitlists set due_at = clock_timestamp() where due_at is not null",
    )
    .execute(&shop.pool)
    .await
    .unwrap();
    falls_due(&shop, expires, -1.0).await;
    let found = due(&shop.pool).await.unwrap();
    assert_eq!(found.products, [storm, expires]);
    assert_eq!(found.waitlists, [opens]);

    let batches = sweep(&shop, 100, Duration::ZERO).await;

    // Beside them, the storm has a small one at first, and the rest at last.
    let full = batches.iter().filter(|batch| **batch == (100, 0)).count();
    assert_eq!(full, 19);
    // Each has had its turn before the storm has its second one.
    assert_eq!(
        batches[..3].iter().filter(|batch| batch.1 == 1).count(),
        2,
        "{batches:?}"
    );
    shop.assert_sound().await;
    shop.assert_lines().await;
}

/// Also a hold that falls due after the sweep has begun. Here each transaction takes 50 ms.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn what_falls_due_during_a_storm_does_not_wait_for_its_end(pool: PgPool) {
    let shop = Shop::new(pool);
    let storm = shop.product(40).await;
    shop.crowd(storm, 40, -60).await;
    let product = with_a_line(&shop).await;
    falls_due(&shop, product, 0.3).await;

    let batches = sweep(&shop, 1, Duration::from_millis(50)).await;

    let offer = batches.iter().position(|batch| batch.1 == 1).unwrap();
    assert!(offer < 40, "{offer}");
    assert_eq!(batches.iter().map(|it| it.0).sum::<u64>(), 41);
    shop.assert_sound().await;
    shop.assert_lines().await;
}

/// As many products as one likes: each gets a turn before one of them gets its second.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn every_product_has_its_turn_in_the_order_of_its_oldest_hold(pool: PgPool) {
    let shop = Shop::new(pool);
    let mut products = Vec::new();
    for due_for in [10, 40, 20, 30] {
        let product = shop.product(3).await;
        shop.crowd(product, 3, -due_for).await;
        products.push((-due_for, product));
    }
    let mut order = products.clone();
    order.sort();
    let order: Vec<_> = order.into_iter().map(|(_, product)| product).collect();
    assert_eq!(due(&shop.pool).await.unwrap().products, order);

    let batches = sweep(&shop, 2, Duration::ZERO).await;

    let expired: Vec<u64> = batches.iter().map(|batch| batch.0).collect();
    assert_eq!(expired, [2, 2, 2, 2, 1, 1, 1, 1]);
    for (_, product) in products {
        assert_eq!(shop.counters(product).await, (3, 0, 0));
        // Its users may reserve again.
        shop.reserve(&[one(product, 1_000_001)]).await;
    }
    shop.assert_sound().await;
}

/// A product that is alone is swept as if there were no turns: batch by batch, up to the first that is not full. The first
/// is small: users may want the product at this moment.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn one_product_alone_is_drained_in_growing_batches(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1_000).await;
    shop.crowd(product, 1_000, -60).await;
    let batches = sweep(&shop, 300, Duration::ZERO).await;
    let expired = [50, 100, 200, 300, 300, 50];
    assert_eq!(batches, expired.map(|expired| (expired, 0)));
    shop.assert_sound().await;
}
