//! set stock: a number of free units, compared with what there was.

use inventory::{
    ProductId,
    join_waitlist::{Join, join_waitlist},
    product::Product,
    reservation::Refusal,
    set_stock::{self, SetStock},
};
use sqlx::PgPool;

use crate::support::{ALL_EVENTS, HOLD_SECONDS, Shop, user};

async fn set(
    shop: &Shop,
    product: ProductId,
    stock: i32,
    expected: Option<i32>,
) -> Result<Product, Refusal> {
    let wanted = SetStock {
        stock,
        expected,
        reason: "count".to_owned().try_into().unwrap(),
    };
    let set = set_stock::set_stock(&shop.pool, product, &wanted, &shop.events).await;
    set.unwrap().answer
}

async fn ledger(shop: &Shop) -> (i64, i64) {
    let recorded = "select count(*) from stock_adjustments where reason = 'count'";
    let events = "select count(*) from outbox_events where event_type = 'StockAdjusted'";
    (shop.count(recorded).await, shop.count(events).await)
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_free_units_are_set_and_the_change_is_recorded(pool: PgPool) {
    let mut shop = Shop::new(pool);
    shop.events = ALL_EVENTS.parse().unwrap();
    let product = shop.product(10).await;
    let sold = shop.hold(product, 1).await.id;
    shop.confirm(&[sold]).await;
    shop.hold(product, 2).await;
    shop.stale_hold(product, 3, 60).await;
    for (stock, expected) in [(100, Some(7)), (3, None), (0, Some(3))] {
        let set = set(&shop, product, stock, expected).await.unwrap();
        assert_eq!(
            (set.stock, set.held, set.sold, set.total),
            (stock, 2, 1, stock + 3)
        );
        assert_eq!(shop.counters(product).await, (stock, 2, 1));
    }
    assert_eq!(ledger(&shop).await, (3, 3));
    // No change, and a repeat after a lost answer.
    set(&shop, product, 0, None).await.unwrap();
    set(&shop, product, 0, Some(0)).await.unwrap();
    let changed = set(&shop, product, 0, Some(3)).await;
    assert_eq!(changed.unwrap_err(), Refusal::StockChanged { free: 0 });
    let changed = set(&shop, product, 50, Some(1)).await;
    assert_eq!(changed.unwrap_err(), Refusal::StockChanged { free: 0 });
    let large = set(&shop, product, i32::MAX, None).await;
    assert_eq!(large.unwrap_err(), Refusal::TotalTooLarge);
    let unknown = ProductId::try_from(i64::MAX).unwrap();
    let unknown = set(&shop, unknown, 1, None).await;
    assert_eq!(unknown.unwrap_err(), Refusal::ProductNotFound);
    assert_eq!(ledger(&shop).await, (3, 3));
    assert_eq!(shop.counters(product).await, (0, 2, 1));
    shop.assert_sound().await;
}

/// What was expected is the case again: the units of the first request are sold, or belong to users who waited.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_repeat_after_the_units_are_gone_sets_the_stock_again(pool: PgPool) {
    let shop = Shop::new(pool);
    for has_line in [true, false] {
        let product = shop.product(0).await;
        for user_id in [1, 2] {
            if has_line {
                let join = Join {
                    product_id: product,
                    user_id: user(user_id),
                    quantity: 1.try_into().unwrap(),
                    reference: None,
                };
                let joined = join_waitlist(&shop.pool, &join, HOLD_SECONDS, &shop.events).await;
                assert_eq!(joined.unwrap().answer.unwrap().position, Some(user_id));
            }
        }
        for times in 1..=2 {
            let free = set(&shop, product, 1, Some(0)).await.unwrap().stock;
            assert_eq!(free, i32::from(!has_line));
            if !has_line {
                let sold = shop.hold(product, times).await.id;
                shop.confirm(&[sold]).await;
            }
            let (stock, held, sold) = shop.counters(product).await;
            assert_eq!((stock, i64::from(held + sold)), (0, times), "{has_line}");
        }
        // With units left, the repeat is noticed.
        set(&shop, product, 2, Some(0)).await.unwrap();
        let repeat = set(&shop, product, 2, Some(0)).await.unwrap_err();
        assert_eq!(repeat, Refusal::StockChanged { free: 2 });
    }
    shop.assert_sound().await;
}

/// A sale that comes between the count and the request is noticed, also while both are in progress.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_change_during_the_wait_for_the_lock_is_noticed(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(10).await;
    let mut lock = shop.lock(product).await;
    let waiting = {
        let shop = shop.clone();
        tokio::spawn(async move { set(&shop, product, 100, Some(10)).await })
    };
    shop.until_waiting(&[waiting.abort_handle()]).await;
    sqlx::query("update products set stock = stock - 1, total = total - 1, initial = initial - 1")
        .execute(&mut *lock)
        .await
        .unwrap();
    lock.commit().await.unwrap();
    let changed = waiting.await.unwrap();
    assert_eq!(changed.unwrap_err(), Refusal::StockChanged { free: 9 });
    shop.assert_sound().await;
}
