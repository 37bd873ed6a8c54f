//! Concurrent callers, and the guarantees for each of them.

use futures_util::future::join_all;
use inventory::{ReservationId, reservation::Refusal};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::support::{Changed as _, Shop, one, only};

const CALLERS: u32 = 24;

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_last_units_go_to_as_many_users(_: PgPoolOptions, options: PgConnectOptions) {
    let shop = Shop::with_connections(CALLERS, options).await;
    let product = shop.product(5).await;

    let requests: Vec<_> = (1..=200).map(|user| [one(product, user)]).collect();
    let batches = join_all(requests.iter().map(|request| shop.reserve(request))).await;

    let mut granted = 0;
    for batch in batches {
        match only(batch) {
            Ok(_) => granted += 1,
            Err(refusal) => assert_eq!(refusal, Refusal::SoldOut { free: 0 }),
        }
    }
    assert_eq!(granted, 5);
    assert_eq!(shop.counters(product).await, (0, 5, 0));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_impatient_user_gets_one_hold(_: PgPoolOptions, options: PgConnectOptions) {
    let shop = Shop::with_connections(CALLERS, options).await;
    let product = shop.product(100).await;
    // The first caller must also expire this hold.
    shop.stale_hold(product, 1, 60).await;

    let request = [one(product, 1)];
    let batches = join_all((0..100).map(|_| shop.reserve(&request))).await;

    let mut granted = Vec::new();
    let mut pointed_to = Vec::new();
    let mut expired = 0;
    for batch in batches {
        expired += batch.expired;
        match only(batch) {
            Ok(hold) => granted.push(hold.id),
            Err(Refusal::AlreadyReserved { reservation_id }) => pointed_to.push(reservation_id),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((granted.len(), pointed_to.len(), expired), (1, 99, 1));
    assert!(pointed_to.iter().all(|id| *id == granted[0]));
    assert_eq!(shop.counters(product).await, (99, 1, 0));
    shop.assert_sound().await;
}

/// Retries of the same batches race each other: each transition happens once, and each unit is freed once.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn retried_batches_return_and_sell_each_unit_once(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let shop = Shop::with_connections(CALLERS, options).await;
    let [first, second] = [shop.product(40).await, shop.product(40).await];
    let requests: Vec<_> = (1..=40)
        .flat_map(|user| [one(first, user), one(second, user)])
        .collect();
    let holds: Vec<ReservationId> = shop
        .reserve(&requests)
        .await
        .answers
        .into_iter()
        .map(|answer| answer.unwrap().id)
        .collect();
    let (sell, give_up) = holds.split_at(40);
    let [forwards, backwards] = [sell.to_vec(), sell.iter().rev().copied().collect()];

    let sales = join_all((0..24).map(|n| shop.confirm([&forwards, &backwards][n % 2])));
    let cancellations = join_all((0..24).map(|_| shop.cancel(give_up)));
    let (sales, cancellations) = futures_util::future::join(sales, cancellations).await;

    assert_eq!(sales.iter().map(|batch| batch.changed()).sum::<u64>(), 40);
    assert_eq!(
        cancellations
            .iter()
            .map(|batch| batch.changed())
            .sum::<u64>(),
        40
    );
    for batch in sales.iter().chain(&cancellations) {
        assert!(batch.answers.iter().all(Result::is_ok));
    }
    assert_eq!(shop.counters(first).await, (20, 0, 20));
    assert_eq!(shop.counters(second).await, (20, 0, 20));
    shop.assert_sound().await;
}

/// Expirers and reserves that lack units compete for the same due holds.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn due_holds_come_back_once_however_many_reach_for_them(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let shop = Shop::with_connections(CALLERS, options).await;
    let product = shop.product(300).await;
    shop.crowd(product, 300, -60).await;

    let requests: Vec<_> = (1..=100)
        .map(|n| [one(product, 2 * n), one(product, 2 * n + 1)])
        .collect();
    let reserves = join_all(requests.iter().map(|request| shop.reserve(request)));
    let sweeps = join_all((0..40).map(|_| shop.expire(product, 7)));
    let (reserves, sweeps) = futures_util::future::join(reserves, sweeps).await;
    let rest = shop.expire(product, 1000).await;

    assert!(reserves.iter().all(|batch| batch.changed() == 2));
    let reclaimed: u64 = reserves.iter().map(|batch| batch.expired).sum();
    assert_eq!(reclaimed + sweeps.iter().sum::<u64>() + rest, 300);
    assert_eq!(shop.counters(product).await, (100, 200, 0));
    shop.assert_sound().await;
}
