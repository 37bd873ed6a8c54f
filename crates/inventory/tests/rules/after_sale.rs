//! After the deadline or the sale: late payments, returns, and stock adjustments.

use futures_util::future::join_all;
use inventory::{
    ProductId, ReservationId,
    adjust_stock::{Adjusted, Adjustment, adjust_stock},
    batch::Batch,
    product::{self, Policy},
    reacquire,
    reservation::{Refusal, Status},
};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use trace::Span;

use crate::support::{ALL_EVENTS, Changed as _, Shop, only, outcomes, reservation_id, units};

async fn reacquire(shop: &Shop, id: ReservationId) -> Batch {
    reacquire::reacquire(&shop.pool, id, &Span::current(), &shop.events)
        .await
        .unwrap()
}

async fn adjust(shop: &Shop, product: ProductId, delta: i32) -> Adjusted {
    let adjustment = Adjustment::new(delta, "counted".to_owned()).unwrap();
    adjust_stock(&shop.pool, product, &adjustment, &shop.events)
        .await
        .unwrap()
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_late_payment_buys_the_units_again_once(_: PgPoolOptions, options: PgConnectOptions) {
    let shop = Shop::with_connections(8, options).await;
    let product = shop.product(4).await;
    let mut request = units(product, 1, 2);
    request.reference = Some("A-7".parse().unwrap());
    for swept in [false, true] {
        let lost = only(shop.reserve(&[request.clone()]).await).unwrap().id;
        shop.backdate(lost, 1).await;
        if swept {
            shop.expire(product, 10).await;
        }
        let batches = join_all((0..8).map(|_| reacquire(&shop, lost))).await;
        let changed: u64 = batches.iter().map(|batch| batch.changed()).sum();
        assert_eq!(changed, 1);
        let again = only(reacquire(&shop, lost).await).unwrap();
        for batch in batches {
            assert_eq!(format!("{:?}", only(batch).unwrap()), format!("{again:?}"));
        }
        assert_eq!(
            (again.status, again.reacquired_from),
            (Status::Confirmed, Some(lost))
        );
        assert_eq!(
            (again.quantity, &again.reference),
            (request.quantity, &request.reference)
        );
        assert_eq!(
            format!("{:?}", shop.get(again.id).await),
            format!("{again:?}")
        );
        assert_eq!(shop.get(lost).await.status, Status::Expired);
    }
    shop.expire(product, 10).await;
    assert_eq!(shop.counters(product).await, (0, 0, 4));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_late_payment_takes_free_units_only(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(2).await;
    let lost = shop.stale_hold(product, 1, 60).await;
    let other = only(shop.reserve(&[units(product, 2, 2)]).await)
        .unwrap()
        .id;
    assert_eq!(
        outcomes(&reacquire(&shop, lost).await),
        [Err(Refusal::ExpiredSoldOut)]
    );
    // Units of a due hold count as free.
    shop.backdate(other, 1).await;
    let batch = reacquire(&shop, lost).await;
    assert_eq!((batch.changed(), batch.expired), (1, 1));
    assert_eq!(shop.counters(product).await, (1, 0, 1));
    // The purchase counts, and a returned purchase does not.
    let again = only(batch).unwrap().id;
    shop.return_sold(&[again]).await;
    assert_eq!(
        outcomes(&reacquire(&shop, lost).await),
        [Err(Refusal::ReservationReturned)]
    );
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_late_payment_buys_all_the_units_or_none(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(3).await;
    let lost = only(shop.reserve(&[units(product, 1, 3)]).await).unwrap();
    shop.backdate(lost.id, 1).await;
    let other = shop.hold(product, 2).await.id;
    let refused = [Err(Refusal::ExpiredSoldOut)];
    assert_eq!(outcomes(&reacquire(&shop, lost.id).await), refused);
    assert_eq!(shop.counters(product).await, (2, 1, 0));
    shop.cancel(&[other]).await;
    only(reacquire(&shop, lost.id).await).unwrap();
    assert_eq!(shop.counters(product).await, (0, 0, 3));
    shop.assert_sound().await;
}

/// The previous lock holder may have extended or sold the hold.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_late_payment_that_waited_looks_at_the_hold_again(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(2).await;
    let [lost, kept] = [
        shop.hold(product, 1).await.id,
        shop.stale_hold(product, 2, 60).await,
    ];
    let mut lock = shop.lock(product).await;
    let waiting = |id| {
        let shop = shop.clone();
        tokio::spawn(async move { reacquire(&shop, id).await })
    };
    let calls = [waiting(lost), waiting(kept)];
    shop.until_waiting(&[calls[0].abort_handle(), calls[1].abort_handle()])
        .await;
    // During the wait, one hold falls due and the other is extended.
    shop.backdate(lost, 0).await;
    sqlx::query("update reservations set expires_at = 'tomorrow' where id = $1")
        .bind(kept)
        .execute(&mut *lock)
        .await
        .unwrap();
    lock.commit().await.unwrap();
    let [late, early] = calls;
    let late = late.await.unwrap();
    assert_eq!((outcomes(&late), late.changed()), (vec![Ok(())], 1));
    let refused = [Err(Refusal::ReservationNotConfirmed)];
    assert_eq!(outcomes(&early.await.unwrap()), refused);
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_late_payment_keeps_to_the_users_limit(pool: PgPool) {
    let shop = Shop::new(pool);
    let limited = Policy {
        max_per_user: Some(Some(2.try_into().unwrap())),
        ..Policy::default()
    };
    let product = shop.product_with(9, limited).await;
    let lost = only(shop.reserve(&[units(product, 1, 2)]).await)
        .unwrap()
        .id;
    shop.backdate(lost, 1).await;
    let since = shop.hold(product, 1).await.id;
    let refused = [Err(Refusal::MaxPerUserReached { remaining: 1 })];
    assert_eq!(outcomes(&reacquire(&shop, lost).await), refused);
    shop.confirm(&[since]).await;
    assert_eq!(outcomes(&reacquire(&shop, lost).await), refused);
    shop.return_sold(&[since]).await;
    only(reacquire(&shop, lost).await).unwrap();
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn what_did_not_expire_is_not_reacquired(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(9).await;
    let [active, sold, canceled] = [
        shop.hold(product, 1).await.id,
        shop.hold(product, 2).await.id,
        shop.hold(product, 3).await.id,
    ];
    shop.confirm(&[sold]).await;
    shop.cancel(&[canceled]).await;
    for (id, outcome) in [
        (active, Err(Refusal::ReservationNotConfirmed)),
        (sold, Ok(())),
        (canceled, Err(Refusal::ReservationCanceled)),
        (reservation_id(i64::MAX), Err(Refusal::ReservationNotFound)),
    ] {
        let batch = reacquire(&shop, id).await;
        assert_eq!((outcomes(&batch), batch.changed()), (vec![outcome], 0));
    }
    assert_eq!(shop.counters(product).await, (7, 1, 1));
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_sale_is_taken_back_once(_: PgPoolOptions, options: PgConnectOptions) {
    let shop = Shop::with_connections(8, options).await;
    let product = shop.product(5).await;
    let sold = only(shop.reserve(&[units(product, 1, 3)]).await)
        .unwrap()
        .id;
    shop.confirm(&[sold]).await;
    let ids = [sold, sold];
    let batches = join_all((0..8).map(|_| shop.return_sold(&ids))).await;
    assert_eq!(batches.iter().map(|batch| batch.changed()).sum::<u64>(), 1);
    let returned = shop.get(sold).await;
    assert_eq!(returned.status, Status::Returned);
    assert!(returned.returned_at >= returned.confirmed_at && returned.confirmed_at.is_some());
    for batch in batches {
        for answer in batch.answers {
            assert_eq!(format!("{:?}", answer.unwrap()), format!("{returned:?}"));
        }
    }
    assert_eq!(shop.counters(product).await, (5, 0, 0));

    let [active, due, canceled] = [
        shop.hold(product, 2).await.id,
        shop.stale_hold(product, 3, 1).await,
        shop.hold(product, 4).await.id,
    ];
    shop.cancel(&[canceled]).await;
    let ids = [active, due, canceled, reservation_id(i64::MAX)];
    let refused = [
        Err(Refusal::ReservationNotConfirmed),
        Err(Refusal::ReservationExpired),
        Err(Refusal::ReservationCanceled),
        Err(Refusal::ReservationNotFound),
    ];
    assert_eq!(outcomes(&shop.return_sold(&ids).await), refused);
    let refused = [Err(Refusal::ReservationReturned)];
    assert_eq!(outcomes(&shop.confirm(&[sold]).await), refused);
    assert_eq!(outcomes(&shop.cancel(&[sold]).await), refused);
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn stock_is_adjusted_within_what_is_free_and_what_fits(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(5).await;
    let more = adjust(&shop, product, 3).await.answer.unwrap();
    assert_eq!((more.stock, more.total), (8, 8));
    shop.reserve(&[units(product, 1, 2)]).await;
    let stale = only(shop.reserve(&[units(product, 2, 3)]).await)
        .unwrap()
        .id;
    let refused = adjust(&shop, product, -4).await.answer.unwrap_err();
    assert_eq!(refused, Refusal::InsufficientStock { free: 3 });
    // Units of a due hold count as free.
    shop.backdate(stale, 1).await;
    let fewer = adjust(&shop, product, -4).await;
    assert_eq!(fewer.expired, 1);
    let fewer = fewer.answer.unwrap();
    assert_eq!((fewer.stock, fewer.held, fewer.total), (2, 2, 4));
    let refused = adjust(&shop, product, -3).await.answer.unwrap_err();
    assert_eq!(refused, Refusal::InsufficientStock { free: 2 });

    let refused = adjust(&shop, product, i32::MAX - 3)
        .await
        .answer
        .unwrap_err();
    assert_eq!(refused, Refusal::TotalTooLarge);
    let full = adjust(&shop, product, i32::MAX - 4).await.answer.unwrap();
    assert_eq!(full.total, i32::MAX);
    let refused = adjust(&shop, product, i32::MIN).await.answer.unwrap_err();
    assert_eq!(refused, Refusal::InsufficientStock { free: i32::MAX - 2 });
    let unknown = ProductId::try_from(i64::MAX).unwrap();
    let refused = adjust(&shop, unknown, 1).await.answer.unwrap_err();
    assert_eq!(refused, Refusal::ProductNotFound);

    assert_eq!(
        shop.count("select sum(delta) from stock_adjustments").await,
        i64::from(i32::MAX) - 5
    );
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_adjustment_that_waited_takes_what_is_left(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(3).await;
    let mut lock = shop.lock(product).await;
    let waiting = shop.clone();
    let call = tokio::spawn(async move { adjust(&waiting, product, -2).await.answer });
    shop.until_waiting(&[call.abort_handle()]).await;
    let reserve = "select from reserve_v3(array[$1], array[1], array[2], '{}', 300, '{}')";
    sqlx::query(reserve)
        .bind(product)
        .execute(&mut *lock)
        .await
        .unwrap();
    lock.commit().await.unwrap();
    let refused = call.await.unwrap().unwrap_err();
    assert_eq!(refused, Refusal::InsufficientStock { free: 1 });
    shop.assert_sound().await;
}

/// Holds that fall due during the wait are reclaimed, too. The answer has the product's state after the wait.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_adjustment_that_waited_knows_the_product_as_it_is(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let hold = shop.hold(product, 1).await.id;
    let mut lock = shop.lock(product).await;
    let waiting = shop.clone();
    let call = tokio::spawn(async move { adjust(&waiting, product, -1).await });
    shop.until_waiting(&[call.abort_handle()]).await;
    shop.backdate(hold, 0).await;
    sqlx::query("update products set name = 'iPhone 16', max_per_user = 2 where id = $1")
        .bind(product)
        .execute(&mut *lock)
        .await
        .unwrap();
    lock.commit().await.unwrap();
    let adjusted = call.await.unwrap();
    assert_eq!(adjusted.expired, 1);
    let answer = adjusted.answer.unwrap();
    let read = product::get(&shop.pool, &[product]).await.unwrap();
    assert_eq!(
        format!("{answer:?}"),
        format!("{:?}", read[0].as_ref().unwrap())
    );
    assert_eq!((answer.name.as_str(), answer.total), ("iPhone 16", 0));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_return_that_waited_is_later_than_the_sale(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let sold = shop.hold(product, 1).await.id;
    let mut lock = shop.lock(product).await;
    let waiting = shop.clone();
    let call = tokio::spawn(async move { waiting.return_sold(&[sold]).await });
    shop.until_waiting(&[call.abort_handle()]).await;
    sqlx::query("select from confirm_v2(array[$1], '{ReservationConfirmed}')")
        .bind(sold)
        .execute(&mut *lock)
        .await
        .unwrap();
    lock.commit().await.unwrap();
    let returned = only(call.await.unwrap()).unwrap();
    assert!(returned.returned_at > returned.confirmed_at);
    assert_eq!(shop.counters(product).await, (1, 0, 0));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn each_transition_writes_the_event_that_is_wanted(pool: PgPool) {
    let mut shop = Shop::new(pool);
    for (events, wanted) in [
        (
            ALL_EVENTS,
            vec![
                "ReservationCanceled",
                "ReservationConfirmed",
                "ReservationConfirmed",
                "ReservationCreated",
                "ReservationCreated",
                "ReservationCreated",
                "ReservationExpired",
                "ReservationReturned",
                "StockAdjusted",
            ],
        ),
        ("ReservationConfirmed", vec!["ReservationConfirmed"; 2]),
        ("", vec![]),
    ] {
        shop.events = events.parse().unwrap();
        let product = shop.product(3).await;
        let [sold, canceled] = [
            shop.hold(product, 1).await.id,
            shop.hold(product, 2).await.id,
        ];
        shop.confirm(&[sold]).await;
        shop.confirm(&[sold]).await;
        shop.cancel(&[canceled]).await;
        let lost = shop.stale_hold(product, 3, 1).await;
        shop.expire(product, 10).await;
        shop.return_sold(&[sold]).await;
        adjust(&shop, product, 1).await;
        reacquire(&shop, lost).await;
        let written: Vec<String> =
            sqlx::query_scalar("delete from outbox_events returning event_type")
                .fetch_all(&shop.pool)
                .await
                .unwrap();
        let mut written: Vec<&str> = written.iter().map(String::as_str).collect();
        written.sort_unstable();
        assert_eq!(written, wanted);
    }
}
