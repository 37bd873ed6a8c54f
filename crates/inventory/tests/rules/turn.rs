//! Several processes that reserve one product: none waits for its lock with a batch in hand.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
};

use inventory::{
    Error, ProductId,
    batch::Batch,
    database::{OwnSession, Rehearsal, execute},
    reservation::Refusal,
    reserve::{Reserve, reserve_in_turn},
};
use sqlx::{PgPool, Row as _};
use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle};

use crate::support::{HOLD_SECONDS, Shop, one, outcomes};

/// A lane with waiting latecomers, and how many of its further calls take turns.
#[derive(Clone, Default)]
struct Lane {
    calls_in_turn: Arc<AtomicU32>,
}

impl Lane {
    /// Reserves for `requests`, and for the requests in `late` with the same products.
    fn send(
        &self,
        shop: &Shop,
        requests: Vec<Reserve>,
        late: Vec<Reserve>,
    ) -> JoinHandle<Result<Batch, Error>> {
        self.call(shop, requests, |products| {
            let late = late.into_iter();
            late.filter(|late| products.contains(&late.product_id))
                .collect()
        })
    }

    fn call(
        &self,
        shop: &Shop,
        mut requests: Vec<Reserve>,
        latecomers: impl FnOnce(&HashSet<ProductId>) -> Vec<Reserve> + Send + 'static,
    ) -> JoinHandle<Result<Batch, Error>> {
        let (shop, calls_in_turn) = (shop.clone(), Arc::clone(&self.calls_in_turn));
        tokio::spawn(async move {
            let (pool, events) = (&shop.pool, &shop.events);
            reserve_in_turn(
                pool,
                &mut requests,
                HOLD_SECONDS,
                events,
                &calls_in_turn,
                latecomers,
            )
            .await
        })
    }

    /// A lane that has found a lock taken, and whose next two calls take turns.
    fn in_a_rush() -> Self {
        let lane = Self::default();
        lane.calls_in_turn.store(2, Ordering::Relaxed);
        lane
    }

    /// Whether the next call takes a turn.
    fn takes_turns(&self) -> bool {
        self.calls_in_turn.load(Ordering::Relaxed) > 0
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
    assert!(lane.takes_turns(), "so does the next one");
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_batch_that_finds_the_lock_free_goes_at_once(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(9).await;
    let lane = Lane::default();
    let batch = lane.send(&shop, vec![one(product, 1)], vec![one(product, 2)]);
    assert_eq!(outcomes(&batch.await.unwrap().unwrap()), [Ok(())]);
    assert!(!lane.takes_turns());

    // After a lock that was taken, further calls request the lock alone, until one tries without.
    let lane = Lane::in_a_rush();
    for (user, wanted) in [(3, 2), (5, 2), (7, 1)] {
        let late = vec![one(product, user + 1)];
        let batch = lane.send(&shop, vec![one(product, user)], late).await;
        assert_eq!(outcomes(&batch.unwrap().unwrap()), vec![Ok(()); wanted]);
    }
    assert!(!lane.takes_turns());
    // Or until one has a single request.
    let lane = Lane::in_a_rush();
    let batch = lane.send(&shop, vec![one(product, 9)], Vec::new());
    assert_eq!(outcomes(&batch.await.unwrap().unwrap()), [Ok(())]);
    assert!(!lane.takes_turns());
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
        assert!(lane.takes_turns());
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
        }
        assert!(!lane.takes_turns());
    }
    shop.assert_sound().await;
}

/// A product that did not exist during the wait, and that another session locks as soon as it does.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_product_created_after_the_wait_is_waited_for(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(9).await;
    let created = ProductId::try_from(product.get() + 1).unwrap();
    let (release, released) = oneshot::channel();
    let options = shop.pool.connect_options().as_ref().clone();
    // The call blocks the test's thread while it takes latecomers.
    let other_session = async move |locked: Sender<()>| {
        let shop = Shop::new(PgPool::connect_with(options).await.unwrap());
        assert_eq!(shop.product(9).await, created);
        let lock = shop.lock(created).await;
        locked.send(()).unwrap();
        released.await.unwrap();
        lock.rollback().await.unwrap();
    };
    let latecomers = |_: &HashSet<ProductId>| {
        let (locked, is_locked) = channel();
        thread::spawn(|| Runtime::new().unwrap().block_on(other_session(locked)));
        is_locked.recv().unwrap();
        Vec::new()
    };

    let requests = vec![one(product, 1), one(created, 1)];
    let batch = Lane::in_a_rush().call(&shop, requests, latecomers);
    shop.until_waiting(&[batch.abort_handle()]).await;
    release.send(()).unwrap();
    assert_eq!(outcomes(&batch.await.unwrap().unwrap()), [Ok(()), Ok(())]);
    shop.assert_sound().await;
}

/// If the lock never becomes free, nothing is done for anybody, and no latecomer is taken. The transaction of the wait does
/// not stay open: the lane's next call, in the same moment, can use the session.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_lock_that_is_never_to_be_had_takes_nobody_along(pool: PgPool) {
    let shop = Shop::new(pool);
    let [product, other] = [shop.product(9).await, shop.product(9).await];
    let session = OwnSession::beside(&shop.pool, Rehearsal::None);
    let calls_in_turn = AtomicU32::new(2);
    let call = async |product, late: fn() -> Vec<Reserve>| {
        let (session, requests) = (&session, &mut vec![one(product, 1)]);
        let late = |_: &HashSet<ProductId>| late();
        reserve_in_turn(
            session,
            requests,
            HOLD_SECONDS,
            &shop.events,
            &calls_in_turn,
            late,
        )
        .await
    };
    let lock = shop.lock(product).await;
    let before = pid(&session).await;
    let refused = call(product, || panic!("no latecomers wanted")).await;
    let reserved = call(other, Vec::new).await;
    assert_eq!(pid(&session).await, before, "another one must be opened");
    let error = refused.unwrap_err();
    assert!(
        error.is_lock_timeout() && matches!(error, Error::NotDone(_)),
        "{error:?}"
    );
    assert_eq!(outcomes(&reserved.unwrap()), [Ok(())]);
    lock.rollback().await.unwrap();
    assert_eq!(shop.counters(product).await, (9, 0, 0));
}

async fn pid(session: &OwnSession) -> i32 {
    let rows = execute(session, sqlx::query("select pg_backend_pid()")).await;
    rows.unwrap()[0].get(0)
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
