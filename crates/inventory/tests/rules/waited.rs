//! Reserves tell how long they have waited for locks.

use std::time::{Duration, Instant};

use inventory::{
    Error, ProductId, batch::Batch, idempotency::Key, reservation::Refusal, reserve,
    reserve::Reserve,
};
use sqlx::PgPool;
use tokio::task::JoinHandle;

use crate::support::{HOLD_SECONDS, Shop, one, outcomes};

/// Reserves in a task of its own, as another process would.
fn send(shop: &Shop, requests: Vec<Reserve>) -> JoinHandle<Result<Batch, Error>> {
    let shop = shop.clone();
    tokio::spawn(async move {
        reserve::reserve(&shop.pool, &requests, HOLD_SECONDS, &shop.events).await
    })
}

fn send_with_keys(shop: &Shop, requests: Vec<Reserve>) -> JoinHandle<Result<Batch, Error>> {
    let shop = shop.clone();
    tokio::spawn(async move {
        let key = |request: &Reserve| Key {
            client: "shop".into(),
            key: format!("{}-{}", request.user_id.get(), request.product_id.get()),
            fingerprint: [0; 32],
        };
        let keys: Vec<Key> = requests.iter().map(key).collect();
        let reserved =
            reserve::reserve_once(&shop.pool, &keys, &requests, HOLD_SECONDS, &shop.events).await?;
        Ok(reserved.unwrap())
    })
}

/// Without keys, and with keys.
const CALLS: [Call; 2] = [send, send_with_keys];
type Call = fn(&Shop, Vec<Reserve>) -> JoinHandle<Result<Batch, Error>>;

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_free_lock_is_not_waited_for(pool: PgPool) {
    let shop = Shop::new(pool);
    let products = [shop.product(9).await, shop.product(9).await];
    for (call, users) in CALLS.into_iter().zip([1, 3]) {
        for (user, products) in [(users, &products[..1]), (users + 1, &products)] {
            let requests = products.iter().map(|&id| one(id, user)).collect();
            let batch = call(&shop, requests).await.unwrap().unwrap();
            assert_eq!(outcomes(&batch), vec![Ok(()); products.len()]);
            assert_eq!(batch.waited, Duration::ZERO);
        }
    }
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_wait_is_measured(pool: PgPool) {
    let shop = Shop::new(pool);
    let [product, other] = [shop.product(9).await, shop.product(9).await];
    let mut user = 0;
    for call in CALLS {
        for products in [vec![product], vec![other, product]] {
            user += 1;
            let mut lock = shop.lock(product).await;
            let requests: Vec<_> = products.iter().map(|&id| one(id, user * 10)).collect();
            let batch = call(&shop, requests);
            shop.until_waiting(&[batch.abort_handle()]).await;
            let start = Instant::now();
            shop.counters(other).await;
            // `waited` is rounded to microseconds.
            let waits = start.elapsed() - Duration::from_micros(1);
            // The version of the row that the call has found is not the one that it locks.
            let change = sqlx::query("update products set stock = stock where id = $1");
            change.bind(product).execute(&mut *lock).await.unwrap();
            lock.commit().await.unwrap();
            let batch = batch.await.unwrap().unwrap();
            assert_eq!(outcomes(&batch), vec![Ok(()); products.len()]);
            assert!(batch.waited >= waits, "{:?} {waits:?}", batch.waited);
        }
    }
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_unknown_product_is_not_waited_for(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(9).await;
    let unknown = ProductId::try_from(999).unwrap();
    for (call, user) in CALLS.into_iter().zip([1, 2]) {
        for products in [vec![unknown], vec![unknown, product]] {
            let requests = products.iter().map(|&id| one(id, user)).collect();
            let batch = call(&shop, requests).await.unwrap().unwrap();
            let refusal = batch.answers[0].clone().unwrap_err();
            assert_eq!(refusal, Refusal::ProductNotFound);
            assert_eq!(batch.waited, Duration::ZERO);
        }
    }
    shop.assert_sound().await;
}

/// A call that did nothing must not wait for the disk with other products locked.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn who_finds_one_of_several_products_locked_ends_at_once(pool: PgPool) {
    let shop = Shop::new(pool);
    let products = [shop.product(9).await, shop.product(9).await];
    let _lock = shop.lock(products[1]).await;
    let mut transaction = shop.pool.begin().await.unwrap();
    let tried = "select busy from reserve_v3($1, '{1,2}', '{1,1}', '{}', 300, '{}', wait => false)";
    let tried = sqlx::query_scalar(tried).bind(products.map(ProductId::get));
    let busy: bool = tried.fetch_one(&mut *transaction).await.unwrap();
    assert!(busy);
    let commit = sqlx::query_scalar("select current_setting('synchronous_commit')");
    let commit: String = commit.fetch_one(&mut *transaction).await.unwrap();
    assert_eq!(commit, "off");
}

/// Concurrent processes: each request gets its own answer, and exactly the stock is sold.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_rush_of_several_lanes_sells_exactly_the_stock(pool: PgPool) {
    const UNITS: i64 = 60;
    let shop = Shop::new(pool);
    let product = shop.product(UNITS).await;
    let mut batches = Vec::new();
    for user in (0..30).map(|number| 1 + number * 5) {
        let requests = (user..user + 3).map(|user| one(product, user)).collect();
        batches.push((user, send(&shop, requests)));
    }
    let mut held = 0;
    for (user, batch) in batches {
        let batch = batch.await.unwrap().unwrap();
        for (user, answer) in (user..).zip(&batch.answers) {
            if let Ok(hold) = answer {
                assert_eq!(hold.user_id.get(), user);
                held += 1;
            }
        }
    }
    assert_eq!(held, UNITS);
    assert_eq!(shop.counters(product).await, (0, UNITS as i32, 0));
    shop.assert_sound().await;
}
