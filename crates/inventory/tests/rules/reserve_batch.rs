//! reserve_batch: all or none.

use futures_util::future::join_all;
use inventory::{
    ProductId,
    product::Policy,
    reservation::Refusal,
    reserve::Reserve,
    reserve_batch::{ReservedBatch, reserve_batch},
};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::support::{ALL_EVENTS, HOLD_SECONDS, Shop, one, units};

pub(crate) async fn reserve_in_batch(shop: &Shop, requests: &[Reserve]) -> ReservedBatch {
    reserve_batch(&shop.pool, requests, HOLD_SECONDS, &shop.events)
        .await
        .unwrap()
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn all_are_had_in_the_order_of_the_requests(pool: PgPool) {
    let shop = Shop::new(pool);
    let [first, second] = [shop.product(2).await, shop.product(1).await];
    let requests = [one(second, 7), units(first, 7, 2)];
    let holds = reserve_in_batch(&shop, &requests).await.answer.unwrap();
    let products: Vec<_> = holds
        .iter()
        .map(|hold| (hold.product_id, hold.quantity.get()))
        .collect();
    assert_eq!(products, [(second, 1), (first, 2)]);
    for hold in holds {
        assert_eq!(
            format!("{:?}", shop.get(hold.id).await),
            format!("{hold:?}")
        );
    }
    assert_eq!(shop.counters(first).await, (0, 2, 0));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn where_one_is_refused_nothing_is_held(pool: PgPool) {
    let mut shop = Shop::new(pool);
    shop.events = "ReservationCreated,ReservationExpired,ReservationConfirmed"
        .parse()
        .unwrap();
    let [first, second] = [shop.product(5).await, shop.product(2).await];
    let unknown = ProductId::try_from(i64::MAX).unwrap();
    let stale = shop.stale_hold(first, 7, 60).await;
    let before = shop.count("select count(*) from outbox_events").await;

    let sold_out = reserve_in_batch(&shop, &[one(first, 7), units(second, 7, 3)]).await;
    assert_eq!(
        sold_out.answer.unwrap_err(),
        (second, Refusal::SoldOut { free: 2 })
    );
    let not_found = reserve_in_batch(
        &shop,
        &[one(first, 7), one(unknown, 7), units(second, 7, 3)],
    )
    .await;
    assert_eq!(
        not_found.answer.unwrap_err(),
        (unknown, Refusal::ProductNotFound)
    );
    assert_eq!((sold_out.expired, not_found.expired), (0, 0));

    // As if it had not been requested: the stale hold is unchanged, and there is no event.
    assert_eq!(shop.stored(stale).await.status, "ACTIVE");
    assert_eq!(shop.counters(first).await, (4, 1, 0));
    assert_eq!(shop.counters(second).await, (2, 0, 0));
    assert_eq!(
        shop.count("select count(*) from outbox_events").await,
        before
    );

    // The user's own stale hold never blocks it.
    let had = reserve_in_batch(&shop, &[units(first, 7, 5), units(second, 7, 2)]).await;
    assert_eq!((had.answer.unwrap().len(), had.expired), (2, 1));
    assert_eq!(shop.stored(stale).await.status, "EXPIRED");
    assert_eq!(
        shop.count("select count(*) from outbox_events").await,
        before + 3
    );
    shop.assert_sound().await;
}

/// Half of an order must not lapse while the user pays.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn all_holds_have_the_earliest_deadline(pool: PgPool) {
    let mut shop = Shop::new(pool);
    shop.events = ALL_EVENTS.parse().unwrap();
    let lasting = async |seconds: i64| {
        let hold_seconds = Some(Some(seconds.try_into().unwrap()));
        let policy = Policy {
            hold_seconds,
            ..Policy::default()
        };
        shop.product_with(9, policy).await
    };
    let [longer, shorter, usual] = [
        lasting(900).await,
        lasting(200).await,
        shop.product(9).await,
    ];
    let setting = i64::from(HOLD_SECONDS);
    for (user, products, seconds) in [
        (1, vec![longer], 900),
        (2, vec![longer, usual], setting),
        (3, vec![usual, shorter, longer], 200),
        (4, vec![usual, shorter], 200),
    ] {
        // Also where the requests are decided one by one.
        for stale in [false, true] {
            let user = user + if stale { 10 } else { 0 };
            if stale {
                shop.stale_hold(products[0], user, 60).await;
            }
            let requests: Vec<_> = products.iter().map(|id| one(*id, user)).collect();
            let holds = reserve_in_batch(&shop, &requests).await.answer.unwrap();
            for hold in holds {
                assert_eq!((hold.expires_at - hold.created_at).whole_seconds(), seconds);
                let read = shop.get(hold.id).await;
                assert_eq!(format!("{read:?}"), format!("{hold:?}"));
            }
        }
    }
    let unlike = "select count(*) from reservations r
        full join (select * from outbox_events where event_type = 'ReservationCreated') e
            on (e.payload->>'reservation_id')::bigint = r.id
        where r.status = 'ACTIVE' and r.expires_at is distinct from (e.payload->>'expires_at')::timestamptz";
    assert_eq!(shop.count(unlike).await, 0);
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn two_orders_of_the_same_products_do_not_deadlock(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let shop = Shop::with_connections(8, options).await;
    let [first, second] = [shop.product(100).await, shop.product(60).await];
    let buyers = (1..=8).map(|buyer| {
        let shop = shop.clone();
        async move {
            let mut had = 0;
            for round in 0..10 {
                let user = buyer * 100 + round;
                let mut requests = [one(first, user), one(second, user)];
                if buyer % 2 == 0 {
                    requests.reverse();
                }
                had += usize::from(reserve_in_batch(&shop, &requests).await.answer.is_ok());
            }
            had
        }
    });
    let had: usize = join_all(buyers).await.into_iter().sum();
    assert_eq!(had, 60);
    assert_eq!(shop.counters(first).await, (40, 60, 0));
    assert_eq!(shop.counters(second).await, (0, 60, 0));
    shop.assert_sound().await;
}
