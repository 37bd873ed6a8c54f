//! Several processes that reserve one product: none waits for its lock with a batch in hand.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use inventory::{
    Error, ProductId,
    batch::Batch,
    reservation::Refusal,
    reserve::{Reserve, reserve_in_turn},
};
use sqlx::PgPool;
use tokio::task::JoinHandle;

use crate::support::{HOLD_SECONDS, Shop, one, outcomes};

/// A lane with waiting latecomers, and whether its last call had to wait.
#[derive(Clone, Default)]
struct Lane {
    waits: Arc<AtomicBool>,
}

impl Lane {
    /// Reserves for `requests`, and for the requests in `late` with the same products.
    fn send(
        &self,
        shop: &Shop,
        mut requests: Vec<Reserve>,
        late: Vec<Reserve>,
    ) -> JoinHandle<Result<Batch, Error>> {
        let (shop, waits) = (shop.clone(), Arc::clone(&self.waits));
        tokio::spawn(async move {
            let suits = |products: &HashSet<ProductId>| {
                let late = late.into_iter();
                late.filter(|late| products.contains(&late.product_id))
                    .collect()
            };
            let (pool, events) = (&shop.pool, &shop.events);
            reserve_in_turn(pool, &mut requests, HOLD_SECONDS, events, &waits, suits).await
        })
    }

    /// A lane whose last batches had to wait.
    fn in_a_rush() -> Self {
        let lane = Self::default();
        lane.waits.store(true, Ordering::Relaxed);
        lane
    }

    fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_batch_that_had_to_wait_takes_along_what_came_meanwhile(pool: PgPool) {
    let shop = Shop::new(pool);
    let [hot, other] = [shop.product(3).await, shop.product(3).await];
    let lane = Lane::in_a_rush();

    let lock = shop.lock(hot).await;
    let late = vec![
        one(hot, 2),
        one(other, 2),
        one(hot, 1),
        one(hot, 3),
        one(hot, 4),
    ];
    let batch = lane.send(&shop, vec![one(hot, 1)], late);
    shop.until_waiting(&[batch.abort_handle()]).await;
    lock.commit().await.unwrap();

    let batch = batch.await.unwrap().unwrap();
    let [Ok(first), ..] = &batch.answers[..] else {
        panic!("{batch:?}");
    };
    let again = Refusal::AlreadyReserved {
        reservation_id: first.id,
    };
    let sold_out = Refusal::SoldOut { free: 0 };
    // Without the request for another product, whose lock is free.
    let wanted = [Ok(()), Ok(()), Err(again), Ok(()), Err(sold_out)];
    assert_eq!(outcomes(&batch), wanted);
    assert_eq!(shop.counters(hot).await, (0, 3, 0));
    assert_eq!(shop.counters(other).await, (3, 0, 0));
    assert!(lane.waits(), "so does the next one");
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_batch_that_finds_the_lock_free_goes_at_once(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(9).await;
    let lane = Lane::default();
    let batch = lane.send(&shop, vec![one(product, 1)], vec![one(product, 2)]);
    assert_eq!(outcomes(&batch.await.unwrap().unwrap()), [Ok(())]);
    assert!(!lane.waits());

    // After a wait, the lock is requested alone once more than necessary.
    let lane = Lane::in_a_rush();
    let batch = lane.send(&shop, vec![one(product, 3)], vec![one(product, 4)]);
    assert_eq!(outcomes(&batch.await.unwrap().unwrap()), [Ok(()), Ok(())]);
    assert!(!lane.waits());
    shop.assert_sound().await;
}

/// The first batch that finds a lock taken waits with its requests.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_batch_that_finds_the_lock_taken_for_once_waits_as_it_is(pool: PgPool) {
    let shop = Shop::new(pool);
    let [product, other] = [shop.product(9).await, shop.product(9).await];
    for (user, products) in [(1, vec![product]), (2, vec![other, product])] {
        let lane = Lane::default();
        let lock = shop.lock(product).await;
        let requests: Vec<_> = products.iter().map(|&id| one(id, user)).collect();
        let wanted = vec![Ok(()); requests.len()];
        let batch = lane.send(&shop, requests, vec![one(product, 9)]);
        shop.until_waiting(&[batch.abort_handle()]).await;
        lock.commit().await.unwrap();
        assert_eq!(outcomes(&batch.await.unwrap().unwrap()), wanted);
        assert!(lane.waits());
    }
    shop.assert_sound().await;
}

/// A missing product does not count as locked.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_unknown_product_is_not_waited_for(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(9).await;
    let unknown = ProductId::try_from(999).unwrap();
    for lane in [Lane::default(), Lane::in_a_rush()] {
        for requests in [
            vec![one(unknown, 1)],
            vec![one(unknown, 1), one(product, 1)],
        ] {
            let batch = lane
                .send(&shop, requests, Vec::new())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(
                batch.answers[0].clone().unwrap_err(),
                Refusal::ProductNotFound
            );
            assert!(!lane.waits());
        }
    }
    shop.assert_sound().await;
}

/// If the lock never becomes free, nothing is done for anybody, and no latecomer is taken.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_lock_that_is_never_to_be_had_takes_nobody_along(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(9).await;
    let lock = shop.lock(product).await;
    let mut requests = vec![one(product, 1)];
    let waits = AtomicBool::new(true);
    let latecomers = |_: &HashSet<ProductId>| -> Vec<Reserve> { panic!("no latecomers wanted") };
    let (pool, events) = (&shop.pool, &shop.events);
    let tried = reserve_in_turn(
        pool,
        &mut requests,
        HOLD_SECONDS,
        events,
        &waits,
        latecomers,
    );
    let error = tried.await.unwrap_err();
    assert!(
        error.is_lock_timeout() && matches!(error, Error::NotDone(_)),
        "{error:?}"
    );
    lock.rollback().await.unwrap();
    assert_eq!(shop.counters(product).await, (9, 0, 0));
}

/// Concurrent processes: each request gets its own answer, and exactly the stock is sold.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_rush_of_several_lanes_sells_exactly_the_stock(pool: PgPool) {
    const UNITS: i64 = 60;
    let shop = Shop::new(pool);
    let product = shop.product(UNITS).await;
    let lanes = [Lane::default(), Lane::default(), Lane::default()];
    let mut batches = Vec::new();
    for round in 0..10 {
        for (number, lane) in (0_i64..).zip(&lanes) {
            let user = 1 + (round * 3 + number) * 5;
            let requests = vec![one(product, user), one(product, user + 1)];
            let late = vec![one(product, user + 2)];
            batches.push((user, lane.send(&shop, requests, late)));
        }
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
    assert_eq!(
        shop.counters(product).await,
        ((UNITS - held) as i32, held as i32, 0)
    );
    shop.assert_sound().await;
}
