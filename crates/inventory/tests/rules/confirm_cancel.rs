//! confirm and cancel: the two ways for a client to end a hold.

use inventory::{
    batch::Batch,
    reservation::{Refusal, Status},
};
use serde_json::json;
use sqlx::{PgPool, Row};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::support::{Changed as _, Shop, one, only, outcomes, reservation_id, units};

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_confirmation_sells_the_units_and_writes_one_event(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(10).await;
    let hold = only(shop.reserve(&[units(product, 42, 2)]).await).unwrap();

    let batch = shop.confirm(&[hold.id]).await;

    assert_eq!(batch.changed(), 1);
    let sale = only(batch).unwrap();
    assert_eq!((sale.id, sale.status), (hold.id, Status::Confirmed));
    assert_eq!((sale.canceled_at, sale.expired_at), (None, None));
    assert_eq!(
        (sale.expires_at, sale.created_at),
        (hold.expires_at, hold.created_at)
    );
    assert_eq!(shop.counters(product).await, (8, 0, 2));
    assert_eq!(
        format!("{sale:?}"),
        format!("{:?}", shop.get(hold.id).await)
    );

    let event = sqlx::query("select * from outbox_events")
        .fetch_one(&shop.pool)
        .await
        .unwrap();
    assert_eq!(event.get::<&str, _>("event_type"), "ReservationConfirmed");
    let mut payload: serde_json::Value = event.get("payload");
    let told = payload.as_object_mut().unwrap().remove("confirmed_at");
    let told = OffsetDateTime::parse(told.unwrap().as_str().unwrap(), &Rfc3339).unwrap();
    assert_eq!(Some(told), sale.confirmed_at);
    assert_eq!(
        payload,
        json!({
            "reservation_id": hold.id.get(), "product_id": product.get(), "user_id": 42, "quantity": 2
        })
    );
    // Ready to publish at once, and not tried yet.
    for column in ["created_at", "next_attempt_at"] {
        assert_eq!(
            event.get::<Option<OffsetDateTime>, _>(column),
            sale.confirmed_at
        );
    }
    for column in ["published_at", "dead_at"] {
        assert_eq!(event.get::<Option<OffsetDateTime>, _>(column), None);
    }
    assert_eq!(event.get::<i32, _>("attempts"), 0);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn confirming_again_answers_the_same_and_sells_nothing(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(3).await;
    let [first, second] = [
        shop.hold(product, 1).await.id,
        shop.hold(product, 2).await.id,
    ];

    // The same id twice in one batch is one sale, and so is a retry of the batch.
    let batch = shop.confirm(&[first, second, first]).await;
    let retry = shop.confirm(&[first, second, first]).await;

    assert_eq!((batch.changed(), retry.changed()), (2, 0));
    assert_eq!(
        format!("{:?}", batch.answers),
        format!("{:?}", retry.answers)
    );
    let answered: Vec<_> = batch
        .answers
        .iter()
        .map(|a| a.as_ref().unwrap().id)
        .collect();
    assert_eq!(answered, [first, second, first]);
    assert_eq!(shop.counters(product).await, (1, 0, 2));
    shop.assert_sound().await;

    // A sale stays a sale after the deadline of its hold.
    shop.backdate(first, 60).await;
    assert_eq!(outcomes(&shop.confirm(&[first]).await), [Ok(())]);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn canceling_gives_the_units_back_once(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(3).await;
    let hold = only(shop.reserve(&[units(product, 1, 2)]).await).unwrap();

    let batch = shop.cancel(&[hold.id, hold.id]).await;
    let retry = shop.cancel(&[hold.id, hold.id]).await;

    assert_eq!((batch.changed(), retry.changed()), (1, 0));
    assert_eq!(
        format!("{:?}", batch.answers),
        format!("{:?}", retry.answers)
    );
    let canceled = batch.answers[0].as_ref().unwrap();
    assert_eq!(canceled.status, Status::Canceled);
    assert!(canceled.canceled_at.is_some());
    assert_eq!((canceled.confirmed_at, canceled.expired_at), (None, None));
    assert_eq!(shop.counters(product).await, (3, 0, 0));
    assert_eq!(
        format!("{canceled:?}"),
        format!("{:?}", shop.get(hold.id).await)
    );
    shop.assert_sound().await;

    // A canceled hold stays canceled after its deadline, and its units are never freed twice.
    shop.backdate(hold.id, 60).await;
    assert_eq!(outcomes(&shop.cancel(&[hold.id]).await), [Ok(())]);
    assert_eq!(shop.expire(product, 10).await, 0);
    assert_eq!(shop.counters(product).await, (3, 0, 0));
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_canceled_unit_goes_to_the_next_and_its_user_may_come_back(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(2).await;
    let [first, second] = [
        shop.hold(product, 1).await.id,
        shop.hold(product, 2).await.id,
    ];
    shop.cancel(&[first]).await;

    let batch = shop.reserve(&[one(product, 3), one(product, 1)]).await;
    assert_eq!(
        outcomes(&batch),
        [Ok(()), Err(Refusal::SoldOut { free: 0 })]
    );

    shop.cancel(&[second]).await;
    shop.hold(product, 1).await;

    // A sale does not block the buyer's next hold.
    let third = batch.answers[0].as_ref().unwrap().id;
    shop.confirm(&[third]).await;
    assert_eq!(
        outcomes(&shop.reserve(&[one(product, 3)]).await),
        [Err(Refusal::SoldOut { free: 0 })]
    );
    shop.assert_sound().await;
}

/// One hold of each status and an unknown id, with the answers of both verbs.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn each_refusal_says_precisely_why(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(10).await;
    let confirmed = shop.hold(product, 1).await.id;
    let canceled = shop.hold(product, 2).await.id;
    let swept = shop.stale_hold(product, 3, 60).await;
    shop.confirm(&[confirmed]).await;
    shop.cancel(&[canceled]).await;
    assert_eq!(shop.expire(product, 10).await, 1);
    let due = shop.stale_hold(product, 4, 60).await;
    let [sell, give_up] = [
        shop.hold(product, 5).await.id,
        shop.hold(product, 6).await.id,
    ];
    let unknown = reservation_id(i64::MAX);

    let sale = shop
        .confirm(&[due, unknown, canceled, sell, swept, confirmed])
        .await;
    let cancellation = shop
        .cancel(&[confirmed, give_up, canceled, swept, unknown, due])
        .await;

    let told = |batch: &Batch| (batch.changed(), outcomes(batch));
    assert_eq!(
        told(&sale),
        (
            1,
            vec![
                Err(Refusal::ReservationExpired),
                Err(Refusal::ReservationNotFound),
                Err(Refusal::ReservationCanceled),
                Ok(()),
                Err(Refusal::ReservationExpired),
                Ok(()),
            ]
        )
    );
    assert_eq!(
        told(&cancellation),
        (
            1,
            vec![
                Err(Refusal::ReservationConfirmed),
                Ok(()),
                Ok(()),
                Err(Refusal::ReservationExpired),
                Err(Refusal::ReservationNotFound),
                Err(Refusal::ReservationExpired),
            ]
        )
    );
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_empty_batch_changes_nothing(pool: PgPool) {
    let shop = Shop::new(pool);
    for batch in [shop.confirm(&[]).await, shop.cancel(&[]).await] {
        assert_eq!((batch.answers.len(), batch.changed()), (0, 0));
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn past_the_deadline_nothing_but_expiry_is_left_also_before_any_sweep(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let due = shop.stale_hold(product, 1, 0).await;

    let expired = [Err(Refusal::ReservationExpired)];
    assert_eq!(outcomes(&shop.confirm(&[due]).await), expired);
    assert_eq!(outcomes(&shop.cancel(&[due]).await), expired);

    // Both left it unchanged: the unit is still held, and is freed once.
    assert_eq!(shop.stored(due).await.status, "ACTIVE");
    assert_eq!(shop.counters(product).await, (0, 1, 0));
    assert_eq!(shop.count("select count(*) from outbox_events").await, 0);
    shop.hold(product, 2).await;
    assert_eq!(outcomes(&shop.confirm(&[due]).await), expired);
    assert_eq!(outcomes(&shop.cancel(&[due]).await), expired);
    assert_eq!(shop.counters(product).await, (0, 1, 0));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_batch_over_several_products_counts_each_by_itself(pool: PgPool) {
    let shop = Shop::new(pool);
    let [first, second] = [shop.product(9).await, shop.product(9).await];
    let batch = shop
        .reserve(&[
            units(second, 1, 1),
            units(first, 1, 2),
            units(second, 2, 3),
            units(first, 2, 4),
        ])
        .await;
    let ids: Vec<_> = batch
        .answers
        .iter()
        .map(|a| a.as_ref().unwrap().id)
        .collect();

    let sold = shop.confirm(&[ids[2], ids[1], ids[0]]).await;
    assert_eq!(sold.changed(), 3);
    assert_eq!(shop.counters(first).await, (3, 4, 2));
    assert_eq!(shop.counters(second).await, (5, 0, 4));

    let canceled = shop.cancel(&[ids[0], ids[3]]).await;
    assert_eq!(
        outcomes(&canceled),
        [Err(Refusal::ReservationConfirmed), Ok(())]
    );
    assert_eq!(shop.counters(first).await, (7, 0, 2));
    assert_eq!(shop.counters(second).await, (5, 0, 4));
    shop.assert_sound().await;
}
