//! Calls that wait for a product's lock use the state after the wait.

use inventory::{
    cancel::{self, Cancel},
    confirm::{self, Confirm},
    reservation::Refusal,
    reserve::{self, Reserve},
};
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::support::{Changed as _, HOLD_SECONDS, Shop, one, outcomes};

/// Calls a verb in a separate task, as another process would.
macro_rules! in_the_background {
    ($shop:ident, $verb:path, $argument:expr $(, $more:expr)?) => {{
        let (shop, argument) = ($shop.clone(), $argument);
        tokio::spawn(async move {
            $verb(&shop.pool, argument.as_ref() $(, $more)?, &shop.events).await.unwrap()
        })
    }};
}

async fn reserve_in(transaction: &mut PgConnection, request: Reserve) {
    sqlx::query("select from reserve_v3(array[$1], array[$2], array[$3], '{}', 300, '{}')")
        .bind(request.product_id)
        .bind(request.user_id)
        .bind(request.quantity)
        .execute(transaction)
        .await
        .unwrap();
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_deadline_that_passes_during_the_wait_has_passed(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(2).await;
    let [first, second] = [
        shop.hold(product, 1).await.id,
        shop.hold(product, 2).await.id,
    ];

    let lock = shop.lock(product).await;
    let sale = in_the_background!(shop, confirm::confirm, [Confirm::from(first)]);
    let cancellation = in_the_background!(shop, cancel::cancel, [Cancel::from(second)]);
    shop.until_waiting(&[sale.abort_handle(), cancellation.abort_handle()])
        .await;
    // Both calls began before these deadlines, and get the lock after them.
    shop.backdate(first, 0).await;
    shop.backdate(second, 0).await;
    lock.commit().await.unwrap();

    let expired = [Err(Refusal::ReservationExpired)];
    assert_eq!(outcomes(&sale.await.unwrap()), expired);
    assert_eq!(outcomes(&cancellation.await.unwrap()), expired);
    assert_eq!(shop.counters(product).await, (0, 2, 0));
    shop.assert_sound().await;
}

/// While a batch waits for one product, another is found sold out, together with its users' holds in the same
/// snapshot. A hold that is canceled during the wait does not count as "sold out": its unit was always held or free.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn what_is_sold_out_and_who_holds_it_are_seen_at_once(pool: PgPool) {
    let shop = Shop::new(pool);
    let [sold_out, locked] = [shop.product(1).await, shop.product(1).await];
    let hold = shop.hold(sold_out, 7).await.id;

    let lock = shop.lock(locked).await;
    let batch = {
        let shop = shop.clone();
        tokio::spawn(async move { shop.reserve(&[one(sold_out, 7), one(locked, 8)]).await })
    };
    shop.until_waiting(&[batch.abort_handle()]).await;
    shop.cancel(&[hold]).await;
    lock.commit().await.unwrap();

    let held = Refusal::AlreadyReserved {
        reservation_id: hold,
    };
    assert_eq!(outcomes(&batch.await.unwrap()), [Err(held), Ok(())]);
    shop.assert_sound().await;
}

/// The same with a deadline that is never moved, so that only the clock changes.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_clock_that_decides_is_read_after_the_wait(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let hold = shop.hold(product, 1).await.id;

    let lock = shop.lock(product).await;
    sqlx::query(
        "update reservations set expires_at = clock_timestamp() + interval '300 ms' where id = $1",
    )
    .bind(hold)
    .execute(&shop.pool)
    .await
    .unwrap();
    let sale = in_the_background!(shop, confirm::confirm, [Confirm::from(hold)]);
    shop.until_waiting(&[sale.abort_handle()]).await;
    while shop
        .count("select count(*) from reservations where expires_at > clock_timestamp()")
        .await
        > 0
    {}
    lock.commit().await.unwrap();

    assert_eq!(
        outcomes(&sale.await.unwrap()),
        [Err(Refusal::ReservationExpired)]
    );
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_hold_that_falls_due_during_the_wait_is_reclaimed(pool: PgPool) {
    let shop = Shop::new(pool);
    let [reserved, swept] = [shop.product(2).await, shop.product(1).await];
    let [first, second] = [
        shop.hold(reserved, 1).await.id,
        shop.hold(swept, 1).await.id,
    ];

    let [mut lock, other_lock] = [shop.lock(reserved).await, shop.lock(swept).await];
    reserve_in(&mut lock, one(reserved, 3)).await;
    let reserve = in_the_background!(shop, reserve::reserve, [one(reserved, 2)], HOLD_SECONDS);
    let sweeping = shop.clone();
    let sweep = tokio::spawn(async move { sweeping.expire(swept, 10).await });
    shop.until_waiting(&[reserve.abort_handle(), sweep.abort_handle()])
        .await;
    shop.backdate(first, 0).await;
    shop.backdate(second, 0).await;
    lock.commit().await.unwrap();
    other_lock.commit().await.unwrap();

    let batch = reserve.await.unwrap();
    assert_eq!((batch.changed(), batch.expired), (1, 1));
    assert_eq!(sweep.await.unwrap(), 1);
    shop.assert_sound().await;
}

/// Otherwise every request that comes too late would queue with the confirms.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn who_comes_too_late_waits_for_nobody(pool: PgPool) {
    let shop = Shop::new(pool);
    let [gone, open] = [shop.product(1).await, shop.product(5).await];
    let standing = shop.hold(gone, 1).await.id;
    // A due hold of another product changes nothing.
    let other = shop.product(1).await;
    shop.stale_hold(other, 9, 60).await;

    let lock = shop.lock(gone).await;
    let batch = shop
        .reserve(&[one(gone, 1), one(open, 1), one(gone, 2), one(gone, 2)])
        .await;
    let sold_out = || Err(Refusal::SoldOut { free: 0 });
    let refused = Refusal::AlreadyReserved {
        reservation_id: standing,
    };
    assert_eq!(
        outcomes(&batch),
        [Err(refused), Ok(()), sold_out(), sold_out()]
    );
    lock.commit().await.unwrap();
    shop.assert_sound().await;
}

/// The refusal without a lock uses one moment. With a clock older than its snapshot, it would see neither the last
/// free unit, which was just taken, nor the unit that fell due meanwhile.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn what_falls_due_while_the_last_unit_goes_is_not_overlooked(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(2).await;
    shop.hold(product, 1).await;

    // Not a row lock: this stops the reserve before its first read.
    let mut other = shop.pool.begin().await.unwrap();
    sqlx::query("lock table products in access exclusive mode")
        .execute(&mut *other)
        .await
        .unwrap();
    let reserve = in_the_background!(shop, reserve::reserve, [one(product, 3)], HOLD_SECONDS);
    shop.until_waiting(&[reserve.abort_handle()]).await;
    sqlx::query("update reservations set expires_at = clock_timestamp()")
        .execute(&mut *other)
        .await
        .unwrap();
    // It takes the free unit, and does not need the due one.
    reserve_in(&mut other, one(product, 2)).await;
    other.commit().await.unwrap();

    let batch = reserve.await.unwrap();
    assert_eq!((batch.changed(), batch.expired), (1, 1));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_hold_lives_its_full_time_from_the_end_of_the_wait(pool: PgPool) {
    let shop = Shop::new(pool);
    let [product, other] = [shop.product(2).await, shop.product(2).await];
    for products in [vec![product], vec![other, product]] {
        let requests: Vec<_> = products.iter().map(|&id| one(id, 1)).collect();
        let lock = shop.lock(product).await;
        let reserve = in_the_background!(shop, reserve::reserve, requests, HOLD_SECONDS);
        shop.until_waiting(&[reserve.abort_handle()]).await;
        let released: time::OffsetDateTime = sqlx::query_scalar("select clock_timestamp()")
            .fetch_one(&shop.pool)
            .await
            .unwrap();
        lock.commit().await.unwrap();

        for hold in reserve.await.unwrap().answers {
            let hold = hold.unwrap();
            assert!(hold.created_at >= released);
            assert_eq!(
                hold.expires_at - hold.created_at,
                time::Duration::seconds(300)
            );
            shop.cancel(&[hold.id]).await;
        }
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_reserve_that_waited_sees_what_the_last_one_took(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(3).await;

    let mut other = shop.lock(product).await;
    reserve_in(&mut other, one(product, 1)).await;
    reserve_in(&mut other, one(product, 2)).await;
    let requests = [one(product, 1), one(product, 3), one(product, 4)];
    let reserve = in_the_background!(shop, reserve::reserve, requests, HOLD_SECONDS);
    shop.until_waiting(&[reserve.abort_handle()]).await;
    other.commit().await.unwrap();

    let batch = reserve.await.unwrap();
    let standing = shop
        .count("select id from reservations where user_id = 1")
        .await;
    let [already, granted, sold_out] = <[_; 3]>::try_from(batch.answers).unwrap();
    assert!(matches!(
        already.unwrap_err(),
        Refusal::AlreadyReserved { reservation_id } if reservation_id.get() == standing
    ));
    assert_eq!(granted.unwrap().user_id.get(), 3);
    assert_eq!(sold_out.unwrap_err(), Refusal::SoldOut { free: 0 });
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_reserve_that_waited_gets_what_the_last_one_gave_up(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(2).await;
    let canceled = shop.hold(product, 1).await.id;

    let mut other = shop.pool.begin().await.unwrap();
    sqlx::query("select from cancel_v2(array[$1], '{}')")
        .bind(canceled)
        .execute(&mut *other)
        .await
        .unwrap();
    // This one is rolled back.
    let mut undone = other.begin().await.unwrap();
    reserve_in(&mut undone, one(product, 2)).await;
    undone.rollback().await.unwrap();
    let requests = [one(product, 1), one(product, 2)];
    let reserve = in_the_background!(shop, reserve::reserve, requests, HOLD_SECONDS);
    shop.until_waiting(&[reserve.abort_handle()]).await;
    other.commit().await.unwrap();

    assert_eq!(outcomes(&reserve.await.unwrap()), [Ok(()), Ok(())]);
    assert_eq!(shop.counters(product).await, (0, 2, 0));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_cancel_and_two_sweeps_that_meet_at_the_deadline_return_one_unit(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let hold = shop.hold(product, 1).await.id;

    let lock = shop.lock(product).await;
    let cancellation = in_the_background!(shop, cancel::cancel, [Cancel::from(hold)]);
    shop.until_waiting(&[cancellation.abort_handle()]).await;
    let sweep = || {
        let shop = shop.clone();
        tokio::spawn(async move { shop.expire(product, 10).await })
    };
    let sweeps = [sweep(), sweep()];
    shop.until_waiting(&[sweeps[0].abort_handle(), sweeps[1].abort_handle()])
        .await;
    shop.backdate(hold, 0).await;
    lock.commit().await.unwrap();

    assert_eq!(
        outcomes(&cancellation.await.unwrap()),
        [Err(Refusal::ReservationExpired)]
    );
    let [first, second] = sweeps;
    assert_eq!(first.await.unwrap() + second.await.unwrap(), 1);
    assert_eq!(shop.counters(product).await, (1, 0, 0));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn of_a_confirm_and_a_cancel_that_meet_one_wins_and_the_other_hears_of_it(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let hold = shop.hold(product, 1).await.id;

    let lock = shop.lock(product).await;
    let sale = in_the_background!(shop, confirm::confirm, [Confirm::from(hold)]);
    let cancellation = in_the_background!(shop, cancel::cancel, [Cancel::from(hold)]);
    shop.until_waiting(&[sale.abort_handle(), cancellation.abort_handle()])
        .await;
    lock.commit().await.unwrap();

    let [sale, cancellation] = [sale.await.unwrap(), cancellation.await.unwrap()];
    if sale.changed() == 1 {
        let refused = [Err(Refusal::ReservationConfirmed)];
        assert_eq!(outcomes(&cancellation), refused);
        assert_eq!(shop.counters(product).await, (0, 0, 1));
    } else {
        assert_eq!(outcomes(&sale), [Err(Refusal::ReservationCanceled)]);
        assert_eq!(outcomes(&cancellation), [Ok(())]);
        assert_eq!(shop.counters(product).await, (1, 0, 0));
    }
    shop.assert_sound().await;
}
