//! What a call locks: in one order, so that no two calls wait for each other, and everything that it changes.

use futures_util::future::BoxFuture;
use inventory::{
    ProductId, ReservationId,
    batch::Batch,
    extend::{Extend, extend},
    reservation::Refusal,
    reserve::reserve,
    reserve_batch::reserve_batch,
};
use sqlx::PgPool;

use crate::support::{Changed as _, HOLD_SECONDS, MAX_HOLD_SECONDS, Shop, one, outcomes};

/// A verb that changes given reservations.
type Verb = fn(&Shop, [ReservationId; 2]) -> BoxFuture<'_, Batch>;

/// Each verb by its name, and whether it changes sales or holds.
const VERBS: [(&str, bool, Verb); 4] = [
    ("confirm", false, |shop, ids| {
        Box::pin(async move { shop.confirm(&ids).await })
    }),
    ("cancel", false, |shop, ids| {
        Box::pin(async move { shop.cancel(&ids).await })
    }),
    ("extend", false, |shop, ids| {
        Box::pin(async move {
            let seconds = 900.try_into().unwrap();
            let requests = ids.map(|id| Extend { id, seconds });
            extend(&shop.pool, &requests, MAX_HOLD_SECONDS)
                .await
                .unwrap()
        })
    }),
    ("return", true, |shop, ids| {
        Box::pin(async move { shop.return_sold(&ids).await })
    }),
];

/// A hold, or a sale.
async fn reservation(shop: &Shop, product: ProductId, sold: bool) -> ReservationId {
    let id = shop.hold(product, 1).await.id;
    if sold {
        shop.confirm(&[id]).await;
    }
    id
}

/// Nobody has locked the product.
async fn assert_free(shop: &Shop, product: ProductId, name: &str) {
    let mut other = shop.pool.begin().await.unwrap();
    let lock = sqlx::query("select from products where id = $1 for no key update nowait");
    let locked = lock.bind(product).execute(&mut *other).await;
    assert!(locked.is_ok(), "{name} waits with a later product locked");
    other.rollback().await.unwrap();
}

/// How a call reserves.
enum Reserve {
    Alone,
    InTransaction,
    AllOrNone,
}

/// In another order, two calls could wait for each other.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn who_waits_for_a_product_has_locked_none_that_comes_after_it(pool: PgPool) {
    let shop = Shop::new(pool);
    for (name, sold, verb) in VERBS {
        let [first, second] = [shop.product(2).await, shop.product(2).await];
        let ids = [
            reservation(&shop, second, sold).await,
            reservation(&shop, first, sold).await,
        ];
        let lock = shop.lock(first).await;
        let waiting = shop.clone();
        let call = tokio::spawn(async move { verb(&waiting, ids).await });
        shop.until_waiting(&[call.abort_handle()]).await;
        assert_free(&shop, second, name).await;
        lock.rollback().await.unwrap();
        assert_eq!(call.await.unwrap().changed(), 2, "{name}");
    }
    for how in [Reserve::Alone, Reserve::InTransaction, Reserve::AllOrNone] {
        let [first, second] = [shop.product(2).await, shop.product(2).await];
        let lock = shop.lock(first).await;
        let waiting = shop.clone();
        let call = tokio::spawn(async move {
            let requests = [one(second, 1), one(first, 1)];
            match how {
                Reserve::Alone => waiting.reserve(&requests).await.changed() as usize,
                Reserve::InTransaction => {
                    let mut transaction = waiting.pool.begin().await.unwrap();
                    let events = &waiting.events;
                    let batch = reserve(&mut *transaction, &requests, HOLD_SECONDS, events).await;
                    transaction.commit().await.unwrap();
                    batch.unwrap().changed() as usize
                }
                Reserve::AllOrNone => {
                    let batch =
                        reserve_batch(&waiting.pool, &requests, HOLD_SECONDS, &waiting.events);
                    batch.await.unwrap().answer.unwrap().len()
                }
            }
        });
        shop.until_waiting(&[call.abort_handle()]).await;
        assert_free(&shop, second, "reserve").await;
        lock.rollback().await.unwrap();
        assert_eq!(call.await.unwrap(), 2);
    }
    shop.assert_sound().await;
}

/// A reservation that is made during the wait has a product that is not locked.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn what_was_not_there_before_the_wait_is_not_touched(pool: PgPool) {
    let shop = Shop::new(pool);
    for (name, sold, verb) in VERBS {
        let [product, other] = [shop.product(1).await, shop.product(1).await];
        let known = reservation(&shop, product, sold).await;
        let next = (known.get() + 1).try_into().unwrap();
        let lock = shop.lock(product).await;
        let waiting = shop.clone();
        let call = tokio::spawn(async move { verb(&waiting, [next, known]).await });
        shop.until_waiting(&[call.abort_handle()]).await;
        assert_eq!(reservation(&shop, other, sold).await, next);
        let before = (shop.stored(next).await, shop.counters(other).await);
        lock.rollback().await.unwrap();
        let wanted = [Err(Refusal::ReservationNotFound), Ok(())];
        assert_eq!(outcomes(&call.await.unwrap()), wanted, "{name}");
        let after = (shop.stored(next).await, shop.counters(other).await);
        assert_eq!(after, before, "{name}");
    }
    shop.assert_sound().await;
}
