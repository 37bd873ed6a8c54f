//! Calls that wait for the product's lock, and what is told.

use inventory::{
    expire, join_waitlist::join_waitlist, leave_waitlist::leave_waitlist, reservation::Refusal,
    waitlist::EntryStatus,
};
use sqlx::PgPool;

use super::stage::{Line, wish};
use crate::support::{HOLD_SECONDS, Shop};

/// The sale ends while a join waits.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_join_waits_for_the_lock_and_then_reads_the_clock(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(0).await;
    let mut lock = shop.lock(product).await;
    let waiting = shop.clone();
    let join = tokio::spawn(async move {
        let request = wish(product, 1, 1);
        join_waitlist(&waiting.pool, &request, HOLD_SECONDS, &waiting.events).await
    });
    shop.until_waiting(&[join.abort_handle()]).await;
    sqlx::raw_sql("update products set sale_ends_at = clock_timestamp()")
        .execute(&mut *lock)
        .await
        .unwrap();
    lock.commit().await.unwrap();
    let refused = join.await.unwrap().unwrap().answer;
    assert_eq!(refused.unwrap_err(), Refusal::SaleClosed);
    shop.assert_sound().await;
}

/// The entry is closed while a leave waits.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_leave_waits_for_the_lock_and_then_reads_the_entry(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(0).await;
    let entry = shop.waits(product, 1).await;
    let mut lock = shop.lock(product).await;
    let waiting = shop.clone();
    let leave =
        tokio::spawn(async move { leave_waitlist(&waiting.pool, entry.id, &waiting.events).await });
    shop.until_waiting(&[leave.abort_handle()]).await;
    sqlx::raw_sql(
        "update waitlist_entries set status = 'CLOSED', ended_at = clock_timestamp();
        update products set waiting = 0",
    )
    .execute(&mut *lock)
    .await
    .unwrap();
    lock.commit().await.unwrap();
    let refused = leave.await.unwrap().unwrap().answer;
    assert_eq!(refused.unwrap_err(), Refusal::WaitlistEntryClosed);
    shop.assert_sound().await;
}

/// The only entry leaves while the expirer waits. Another product's line, which is locked for long, is skipped.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_settlement_waits_for_the_lock_and_skips_what_is_locked_for_long(pool: PgPool) {
    let shop = Shop::new(pool);
    let [product, locked] = [shop.product(0).await, shop.product(0).await];
    let entry = shop.waits(product, 1).await;
    let other = shop.waits(locked, 1).await;
    shop.end_sale(product).await;
    let mut lock = shop.lock(product).await;
    let waiting = shop.clone();
    let sweep = tokio::spawn(async move {
        expire::sweep(
            &waiting.pool,
            10,
            expire::Commit::Asynchronous,
            &waiting.events,
            |_| true,
        )
        .await
    });
    shop.until_waiting(&[sweep.abort_handle()]).await;
    sqlx::raw_sql(
        "update waitlist_entries set status = 'LEFT', ended_at = clock_timestamp() where user_id = 1 and product_id = 1;
        update products set waiting = 0 where id = 1",
    )
    .execute(&mut *lock)
    .await
    .unwrap();
    lock.commit().await.unwrap();
    sweep.await.unwrap().unwrap();
    assert_eq!(shop.entry(entry.id).await.status, EntryStatus::Left);

    let entry = shop.product(0).await;
    let entry = shop.waits(entry, 2).await;
    shop.end_sale(entry.product_id).await;
    shop.end_sale(locked).await;
    sqlx::raw_sql("alter function settle_waitlist_v2 set lock_timeout = '1ms'")
        .execute(&shop.pool)
        .await
        .unwrap();
    let lock = shop.lock(locked).await;
    let swept = expire::sweep(
        &shop.pool,
        10,
        expire::Commit::Asynchronous,
        &shop.events,
        |_| true,
    )
    .await;
    assert!(swept.is_err(), "{swept:?}");
    assert_eq!(shop.entry(entry.id).await.status, EntryStatus::Closed);
    assert_eq!(shop.entry(other.id).await.status, EntryStatus::Waiting);
    lock.rollback().await.unwrap();
    let swept = expire::sweep(
        &shop.pool,
        10,
        expire::Commit::Asynchronous,
        &shop.events,
        |_| true,
    )
    .await;
    swept.unwrap();
    assert_eq!(shop.entry(other.id).await.status, EntryStatus::Closed);
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn nobody_is_told_of_an_offer_unless_wanted(pool: PgPool) {
    let mut shop = Shop::new(pool);
    for (wanted, written) in [
        ("ReservationConfirmed", Vec::new()),
        ("WaitlistOffered", vec!["WaitlistOffered"]),
        ("ReservationCreated", vec!["ReservationCreated"]),
        (
            "WaitlistOffered,ReservationCreated",
            vec!["ReservationCreated", "WaitlistOffered"],
        ),
    ] {
        shop.events = "".parse().unwrap();
        let product = shop.product(1).await;
        let hold = shop.hold(product, 1).await.id;
        shop.waits(product, 2).await;
        shop.events = wanted.parse().unwrap();
        shop.cancel(&[hold]).await;
        let told: Vec<String> = sqlx::query_scalar(
            "with told as (delete from outbox_events returning id, event_type)
            select event_type from told order by id",
        )
        .fetch_all(&shop.pool)
        .await
        .unwrap();
        assert_eq!(told, written);
    }
}
