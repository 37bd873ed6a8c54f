//! extend: moves a deadline within limits.

use inventory::{
    ReservationId,
    batch::Batch,
    extend::{Extend, extend},
    product::Policy,
    reservation::Refusal,
};
use sqlx::PgPool;
use time::Duration;

use crate::support::{
    Changed as _, HOLD_SECONDS, MAX_HOLD_SECONDS, Shop, only, outcomes, reservation_id,
};

async fn extend_by(shop: &Shop, ids: &[ReservationId], seconds: i64) -> Batch {
    let seconds = seconds.try_into().unwrap();
    let requests: Vec<_> = ids.iter().map(|&id| Extend { id, seconds }).collect();
    extend(&shop.pool, &requests, MAX_HOLD_SECONDS)
        .await
        .unwrap()
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_deadline_only_moves_away_and_not_too_far(pool: PgPool) {
    let shop = Shop::new(pool);
    let short = Policy {
        max_hold_seconds: Some(Some(600.try_into().unwrap())),
        ..Policy::default()
    };
    for (policy, longest) in [(Policy::default(), MAX_HOLD_SECONDS), (short, 600)] {
        let product = shop.product_with(1, policy).await;
        let hold = shop.hold(product, 1).await;
        let same = extend_by(&shop, &[hold.id], i64::from(HOLD_SECONDS) - 100).await;
        assert_eq!(same.changed(), 0);
        assert_eq!(only(same).unwrap().expires_at, hold.expires_at);

        let later = only(extend_by(&shop, &[hold.id], 400).await).unwrap();
        let lasts = later.expires_at - hold.created_at;
        assert!(
            lasts >= Duration::seconds(400) && lasts < Duration::seconds(500),
            "{lasts}"
        );
        assert_eq!(
            format!("{:?}", shop.get(hold.id).await),
            format!("{later:?}")
        );

        for _ in 0..2 {
            let last = only(extend_by(&shop, &[hold.id], 1_000_000).await).unwrap();
            let lasts = last.expires_at - hold.created_at;
            assert_eq!(lasts, Duration::seconds(longest.into()));
        }
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn of_several_requests_for_one_hold_the_longest_counts(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let hold = shop.hold(product, 1).await;
    let requests = [600, 900, 500].map(|seconds: i64| Extend {
        id: hold.id,
        seconds: seconds.try_into().unwrap(),
    });
    let batch = extend(&shop.pool, &requests, MAX_HOLD_SECONDS)
        .await
        .unwrap();
    assert_eq!(batch.changed(), 1);
    for answer in batch.answers {
        let lasts = answer.unwrap().expires_at - hold.created_at;
        assert!(lasts >= Duration::seconds(900), "{lasts}");
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn what_has_ended_is_not_extended(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(9).await;
    let [active, due, sold, canceled, returned] = [
        shop.hold(product, 1).await.id,
        shop.stale_hold(product, 2, 1).await,
        shop.hold(product, 3).await.id,
        shop.hold(product, 4).await.id,
        shop.hold(product, 5).await.id,
    ];
    shop.confirm(&[sold, returned]).await;
    shop.cancel(&[canceled]).await;
    shop.return_sold(&[returned]).await;
    let ids = [
        active,
        due,
        sold,
        reservation_id(i64::MAX),
        canceled,
        returned,
        active,
    ];
    let wanted = [
        Ok(()),
        Err(Refusal::ReservationExpired),
        Err(Refusal::ReservationConfirmed),
        Err(Refusal::ReservationNotFound),
        Err(Refusal::ReservationCanceled),
        Err(Refusal::ReservationReturned),
        Ok(()),
    ];
    let before = shop.stored(due).await;
    let batch = extend_by(&shop, &ids, 900).await;
    assert_eq!(outcomes(&batch), wanted);
    assert_eq!(batch.changed(), 1);
    assert_eq!(shop.stored(due).await, before);
    // The same after the sweep.
    assert_eq!(shop.expire(product, 10).await, 1);
    assert_eq!(
        outcomes(&extend_by(&shop, &[due], 900).await),
        [wanted[1].clone()]
    );
    shop.assert_sound().await;
}

/// A deadline that passes during the wait for the lock counts as passed, whichever call has the lock first.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_extension_that_waited_too_long_revives_nothing(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let hold = shop.hold(product, 1).await.id;
    let lock = shop.lock(product).await;
    let waiting = shop.clone();
    let call = tokio::spawn(async move { extend_by(&waiting, &[hold], 900).await });
    shop.until_waiting(&[call.abort_handle()]).await;
    shop.backdate(hold, 0).await;
    lock.commit().await.unwrap();
    assert_eq!(
        outcomes(&call.await.unwrap()),
        [Err(Refusal::ReservationExpired)]
    );
    assert_eq!(shop.expire(product, 10).await, 1);
    shop.assert_sound().await;
}
