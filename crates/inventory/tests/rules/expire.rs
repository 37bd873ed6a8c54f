//! expire: due holds are expired once, in bounded batches.

use inventory::{
    Error,
    expire::{self, due},
};
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::support::{HOLD_SECONDS, Shop, one, outcomes};

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn nothing_is_due_where_nothing_is_held(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;

    let seen = due(&shop.pool).await.unwrap();
    assert_eq!(
        (seen.products, seen.lag_seconds, seen.next_due),
        (vec![], 0.0, None)
    );
    assert_eq!(shop.expire(product, 10).await, 0);
    let swept = expire::sweep(
        &shop.pool,
        10,
        expire::Commit::Asynchronous,
        &shop.events,
        |_| panic!("there was a batch"),
    )
    .await
    .unwrap();
    assert_eq!((swept.expired, swept.next_due), (0, None));
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_look_tells_which_products_how_late_and_what_comes_next(pool: PgPool) {
    let shop = Shop::new(pool);
    let [first, quiet, second] = [
        shop.product(9).await,
        shop.product(9).await,
        shop.product(9).await,
    ];
    shop.stale_hold(second, 1, 3600).await;
    shop.stale_hold(first, 1, 60).await;
    shop.stale_hold(first, 2, 60).await;
    shop.hold(quiet, 1).await;
    // Ended reservations are never due, however old their deadline is.
    let canceled = shop.hold(quiet, 2).await.id;
    shop.cancel(&[canceled]).await;
    shop.backdate(canceled, 86_400).await;

    let seen = due(&shop.pool).await.unwrap();

    assert_eq!(seen.products, [second, first]);
    assert!((3600.0..7200.0).contains(&seen.lag_seconds), "{seen:?}");
    let next = seen.next_due.unwrap().as_secs_f64();
    assert!(next > 0.0 && next <= HOLD_SECONDS.into(), "{seen:?}");

    // Products that are left out count neither for the list nor for the lag.
    let (products, lag_seconds): (Vec<i64>, f64) =
        sqlx::query_as("select products, lag_seconds from due_v2(array[$1])")
            .bind(second)
            .fetch_one(&shop.pool)
            .await
            .unwrap();
    assert_eq!(products, [first.get()]);
    assert!((60.0..3600.0).contains(&lag_seconds), "{lag_seconds}");
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn due_holds_end_longest_due_first_at_their_deadlines(pool: PgPool) {
    let shop = Shop::new(pool);
    let [product, other] = [shop.product(9).await, shop.product(9).await];
    let last = shop.stale_hold(product, 1, 10).await;
    let first = shop.stale_hold(product, 2, 30).await;
    let second = shop.stale_hold(product, 3, 20).await;
    let live = shop.hold(product, 4).await.id;
    let elsewhere = shop.stale_hold(other, 1, 60).await;

    assert_eq!(shop.expire(product, 2).await, 2);

    for id in [first, second] {
        let row = shop.stored(id).await;
        assert_eq!(
            (row.status.as_str(), row.expired_at),
            ("EXPIRED", Some(row.expires_at))
        );
        // Single reads and lists show the same time before and after the sweep.
        assert_eq!(shop.get(id).await.expired_at, row.expired_at);
    }
    for id in [last, live, elsewhere] {
        let row = shop.stored(id).await;
        assert_eq!((row.status.as_str(), row.expired_at), ("ACTIVE", None));
    }
    assert_eq!(shop.counters(product).await, (7, 2, 0));

    // The rest, and then nothing: each hold once.
    assert_eq!(shop.expire(product, 2).await, 1);
    assert_eq!(shop.expire(product, 2).await, 0);
    assert_eq!(shop.counters(product).await, (8, 1, 0));
    assert_eq!(shop.counters(other).await, (8, 1, 0));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_sweep_goes_through_all_products_in_bounded_batches(pool: PgPool) {
    let shop = Shop::new(pool);
    let mut products = Vec::new();
    for holds in [5, 0, 4, 1] {
        let product = shop.product(10).await;
        if holds > 0 {
            shop.crowd(product, holds, -60).await;
        }
        shop.hold(product, 1).await;
        products.push(product);
    }

    let mut batches = Vec::new();
    expire::sweep(
        &shop.pool,
        2,
        expire::Commit::Asynchronous,
        &shop.events,
        |done| {
            batches.push(done.expired);
            true
        },
    )
    .await
    .unwrap();

    assert_eq!(batches.iter().sum::<u64>(), 10);
    assert!(batches.iter().all(|expired| *expired <= 2), "{batches:?}");
    for product in products {
        assert_eq!(shop.counters(product).await, (9, 1, 0));
    }
    assert!(due(&shop.pool).await.unwrap().products.is_empty());
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_sweep_that_is_told_to_stop_keeps_what_it_did(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(10).await;
    shop.crowd(product, 10, -60).await;

    let mut batches = Vec::new();
    expire::sweep(
        &shop.pool,
        3,
        expire::Commit::Asynchronous,
        &shop.events,
        |done| {
            batches.push(done.expired);
            batches.len() < 2
        },
    )
    .await
    .unwrap();

    assert_eq!(batches, [3, 3]);
    assert_eq!(shop.counters(product).await, (6, 4, 0));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_sweep_tells_when_to_come_again(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(3).await;
    shop.stale_hold(product, 1, 3600).await;
    shop.stale_hold(product, 2, 60).await;
    shop.hold(product, 3).await;
    let before = due(&shop.pool).await.unwrap().next_due.unwrap();
    assert!(before.as_secs() <= HOLD_SECONDS as u64, "{before:?}");

    let swept = expire::sweep(
        &shop.pool,
        10,
        expire::Commit::Asynchronous,
        &shop.events,
        |_| true,
    )
    .await
    .unwrap();

    assert_eq!(swept.expired, 2);
    let next = swept.next_due.unwrap().as_secs_f64();
    assert!(next > 0.0 && next <= HOLD_SECONDS.into(), "{swept:?}");
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_product_that_somebody_keeps_locked_does_not_hold_up_the_others(pool: PgPool) {
    let shop = Shop::new(pool);
    let [locked, free] = [shop.product(1).await, shop.product(1).await];
    shop.stale_hold(locked, 1, 60).await;
    shop.stale_hold(free, 1, 60).await;
    sqlx::raw_sql("alter function expire_v6 set lock_timeout = '1ms'")
        .execute(&shop.pool)
        .await
        .unwrap();

    let lock = shop.lock(locked).await;
    let mut expired = 0;
    let swept = expire::sweep(
        &shop.pool,
        10,
        expire::Commit::Asynchronous,
        &shop.events,
        |done| {
            expired += done.expired;
            true
        },
    )
    .await;

    assert!(matches!(swept, Err(Error::NotDone(_))), "{swept:?}");
    assert_eq!(expired, 1);
    assert_eq!(shop.counters(free).await, (1, 0, 0));
    lock.rollback().await.unwrap();
    let swept = expire::sweep(
        &shop.pool,
        10,
        expire::Commit::Asynchronous,
        &shop.events,
        |_| true,
    )
    .await
    .unwrap();
    assert_eq!(swept.expired, 1);
    shop.assert_sound().await;
}

/// The longest overdue holds come first. Here thousands of them are behind a lock.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn locked_products_with_the_oldest_holds_hide_nobody(pool: PgPool) {
    let shop = Shop::new(pool);
    let mut locks = Vec::new();
    for due_for in [7200, 3600] {
        let product = shop.product(1000).await;
        shop.crowd(product, 1000, -due_for).await;
        locks.push((product, shop.lock(product).await));
    }
    let mut free = Vec::new();
    for _ in 0..2 {
        let product = shop.product(2).await;
        shop.crowd(product, 2, -60).await;
        free.push(product);
    }
    sqlx::raw_sql("alter function expire_v6 set lock_timeout = '1ms'")
        .execute(&shop.pool)
        .await
        .unwrap();

    let mut batches = Vec::new();
    let swept = expire::sweep(
        &shop.pool,
        2,
        expire::Commit::Asynchronous,
        &shop.events,
        |done| {
            batches.push(done.expired);
            true
        },
    )
    .await;

    assert!(matches!(swept, Err(Error::NotDone(_))), "{swept:?}");
    assert_eq!(batches.iter().sum::<u64>(), 4, "{batches:?}");
    for product in free {
        assert_eq!(shop.counters(product).await, (2, 0, 0));
    }
    // Without the lock they are due like any other.
    for (product, lock) in locks {
        assert_eq!(due(&shop.pool).await.unwrap().products[0], product);
        lock.rollback().await.unwrap();
        let swept = expire::sweep(
            &shop.pool,
            1000,
            expire::Commit::Asynchronous,
            &shop.events,
            |_| true,
        )
        .await;
        assert_eq!(shop.counters(product).await, (1000, 0, 0), "{swept:?}");
    }
    shop.assert_sound().await;
}

/// The function that ends given holds checks each deadline itself. A caller that is wrong ends no live hold.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn of_given_holds_only_the_due_ones_end(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(3).await;
    let [due, live] = [
        shop.stale_hold(product, 1, 60).await,
        shop.hold(product, 2).await.id,
    ];
    let ended: i64 = sqlx::query_scalar(
        "select expire_holds_v2(
            array(select ctid from reservations_active where id in ($1, $2)), array[$3], clock_timestamp(), '{}'
        )",
    )
    .bind(due)
    .bind(live)
    .bind(product)
    .fetch_one(&shop.pool)
    .await
    .unwrap();
    assert_eq!(ended, 1);
    assert_eq!(shop.stored(due).await.status, "EXPIRED");
    assert_eq!(shop.stored(live).await.status, "ACTIVE");
    assert_eq!(shop.counters(product).await, (2, 1, 0));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_expired_unit_and_its_user_are_free_again(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let old = shop.stale_hold(product, 1, 60).await;
    let deadline: OffsetDateTime = shop.stored(old).await.expires_at;
    shop.expire(product, 10).await;

    let batch = shop.reserve(&[one(product, 1)]).await;

    assert_eq!(outcomes(&batch), [Ok(())]);
    assert_eq!(batch.expired, 0);
    assert_eq!(shop.stored(old).await.expired_at, Some(deadline));
    assert_eq!(shop.counters(product).await, (0, 1, 0));
}

/// The commit of a sweep waits for the disk only if somebody learns of it: a consumer, a user who waited, or the client who
/// asked for the sweep.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn only_what_somebody_learns_of_waits_for_the_disk(pool: PgPool) {
    let shop = Shop::new(pool);
    let [quiet, told, waited, answered] = [
        shop.product(1).await,
        shop.product(1).await,
        shop.product(1).await,
        shop.product(1).await,
    ];
    for product in [quiet, told, waited, answered] {
        shop.stale_hold(product, 1, 60).await;
    }
    sqlx::query("update products set waiting = 1 where id = $1")
        .bind(waited)
        .execute(&shop.pool)
        .await
        .unwrap();
    let events: &[&str] = &["ReservationExpired"];
    for (product, events, durable, commit) in [
        (quiet, &[][..], false, "off"),
        (told, events, false, "on"),
        (waited, &[], false, "on"),
        (answered, &[], true, "on"),
    ] {
        let mut transaction = shop.pool.begin().await.unwrap();
        sqlx::query("select from expire_v6($1, 10, $2, $3, false)")
            .bind(product)
            .bind(events)
            .bind(durable)
            .execute(&mut *transaction)
            .await
            .unwrap();
        let setting: String = sqlx::query_scalar("show synchronous_commit")
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        assert_eq!(setting, commit, "{events:?}");
        transaction.commit().await.unwrap();
        let setting: String = sqlx::query_scalar("show synchronous_commit")
            .fetch_one(&shop.pool)
            .await
            .unwrap();
        assert_eq!(setting, "on", "after the transaction");
    }
}
