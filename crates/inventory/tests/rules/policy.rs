//! The rules of one product's sale: duration, quantity and time.

use futures_util::future::join_all;
use inventory::{
    ProductId,
    product::{self, InvalidProduct, Policy, Rejected},
    reservation::{Refusal, Status},
};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use time::{Duration, OffsetDateTime};

use crate::{
    reserve_batch::reserve_in_batch,
    support::{Changed as _, HOLD_SECONDS, Shop, one, only, outcomes, units},
};

fn at_most(units: i64) -> Policy {
    Policy {
        max_per_user: Some(Some(units.try_into().unwrap())),
        ..Policy::default()
    }
}

/// Given in hours from now.
fn window(starts: Option<i64>, ends: Option<i64>) -> Policy {
    let time = |hours| OffsetDateTime::now_utc() + Duration::hours(hours);
    Policy {
        sale_starts_at: Some(starts.map(time)),
        sale_ends_at: Some(ends.map(time)),
        ..Policy::default()
    }
}

fn reached<T>(remaining: i32) -> Result<T, Refusal> {
    Err(Refusal::MaxPerUserReached { remaining })
}

async fn change(shop: &Shop, product: ProductId, policy: Policy) -> product::Product {
    let changed = product::change(&shop.pool, product, None, None, &policy, &shop.events).await;
    changed.unwrap().answer.unwrap().unwrap()
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_product_can_say_how_long_its_holds_last(pool: PgPool) {
    let shop = Shop::new(pool);
    let short = |limit: Policy| Policy {
        hold_seconds: Some(Some(7.try_into().unwrap())),
        ..limit
    };
    let [product, other] = [
        shop.product_with(3, short(Policy::default())).await,
        shop.product(2).await,
    ];
    let batch = shop.reserve(&[one(product, 1), one(other, 1)]).await;
    for (hold, seconds) in batch.answers.iter().zip([7, HOLD_SECONDS]) {
        let hold = hold.as_ref().unwrap();
        let lasts = hold.expires_at - hold.created_at;
        assert_eq!(lasts, Duration::seconds(seconds.into()));
        assert_eq!(shop.get(hold.id).await.expires_at, hold.expires_at);
    }
    // Also alone, and where a rule is checked request by request.
    for product in [product, shop.product_with(1, short(at_most(1))).await] {
        let hold = shop.hold(product, 2).await;
        assert_eq!(hold.expires_at - hold.created_at, Duration::seconds(7));
        assert_eq!(shop.get(hold.id).await.expires_at, hold.expires_at);
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_users_limit_counts_what_is_held_and_what_was_bought(pool: PgPool) {
    let shop = Shop::new(pool);
    let [product, other] = [
        shop.product_with(10, at_most(3)).await,
        shop.product(10).await,
    ];
    let too_many = shop.reserve(&[units(product, 1, 4)]).await;
    assert_eq!(outcomes(&too_many), [reached(3)]);
    // Also among requests for other products. What was bought of them does not count.
    let elsewhere = [units(product, 1, 4), units(other, 1, 4)];
    let batch = shop.reserve(&elsewhere).await;
    assert_eq!(outcomes(&batch), [reached(3), Ok(())]);
    let elsewhere = batch.answers[1].as_ref().unwrap().id;
    shop.confirm(&[elsewhere]).await;

    let hold = only(shop.reserve(&[units(product, 1, 2)]).await).unwrap();
    shop.confirm(&[hold.id]).await;
    let batch = [units(product, 1, 2), units(product, 2, 3)];
    let batch = shop.reserve(&batch).await;
    assert_eq!(outcomes(&batch), [reached(1), Ok(())]);
    let last = shop.hold(product, 1).await.id;
    // The user's own stale hold no longer counts. A purchase does.
    shop.backdate(last, 1).await;
    let last = shop.hold(product, 1).await.id;
    shop.confirm(&[last]).await;
    assert_eq!(
        outcomes(&shop.reserve(&[one(product, 1)]).await),
        [reached(0)]
    );

    // A returned purchase does not count.
    shop.return_sold(&[hold.id]).await;
    only(shop.reserve(&[units(product, 1, 2)]).await).unwrap();
    // A later limit does not remove anything, and what remains is never negative.
    change(&shop, product, at_most(1)).await;
    let held = batch.answers[1].as_ref().unwrap().id;
    shop.confirm(&[held]).await;
    assert_eq!(
        outcomes(&shop.reserve(&[one(product, 2)]).await),
        [reached(0)]
    );
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_users_limit_is_exact_when_batches_race(_: PgPoolOptions, options: PgConnectOptions) {
    let shop = Shop::with_connections(8, options).await;
    let product = shop.product_with(1000, at_most(3)).await;
    let buyers = (0..8).map(|_| async {
        for _ in 0..20 {
            let requests = [one(product, 1), units(product, 2, 2)];
            let batch = shop.reserve(&requests).await;
            let held: Vec<_> = batch.answers.iter().flatten().map(|hold| hold.id).collect();
            shop.confirm(&held).await;
        }
    });
    join_all(buyers).await;
    let bought = shop
        .count("select sum(quantity) from reservations where user_id = 1 and status = 'CONFIRMED'")
        .await;
    assert_eq!(bought, 3);
    let bought = shop
        .count("select sum(quantity) from reservations where user_id = 2 and status = 'CONFIRMED'")
        .await;
    assert_eq!(bought, 2);
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_sale_is_on_from_its_start_until_its_end(pool: PgPool) {
    let shop = Shop::new(pool);
    for (starts, ends, outcome) in [
        (Some(-1), Some(1), Ok(())),
        (Some(-1), None, Ok(())),
        (None, Some(1), Ok(())),
        (Some(1), None, Err(Refusal::SaleNotOpen)),
        (Some(-2), Some(-1), Err(Refusal::SaleClosed)),
    ] {
        // Also for a product without free units, which is decided without a lock.
        let [product, empty] = [
            shop.product_with(2, window(starts, ends)).await,
            shop.product_with(0, window(starts, ends)).await,
        ];
        let batch = shop.reserve(&[one(product, 1), one(empty, 1)]).await;
        let sold_out = outcome.clone().and(Err(Refusal::SoldOut { free: 0 }));
        let both = [outcome.clone(), sold_out];
        assert_eq!(outcomes(&batch), both, "{starts:?} {ends:?}");
        let alone = shop.reserve(&[one(product, 2)]).await;
        assert_eq!(outcomes(&alone), [outcome], "{starts:?} {ends:?}");
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn refusals_come_in_their_order(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product_with(2, at_most(1)).await;
    let hold = shop.hold(product, 1).await.id;
    let ask = async || only(shop.reserve(&[units(product, 1, 5)]).await).unwrap_err();
    let held = Refusal::AlreadyReserved {
        reservation_id: hold,
    };
    change(&shop, product, window(Some(1), None)).await;
    assert_eq!(ask().await, held);
    change(&shop, product, window(None, Some(-1))).await;
    assert_eq!(ask().await, held);
    // A hold can still be confirmed after the end of the sale.
    assert_eq!(shop.confirm(&[hold]).await.changed(), 1);
    assert_eq!(ask().await, Refusal::SaleClosed);
    change(&shop, product, window(Some(1), None)).await;
    assert_eq!(ask().await, Refusal::SaleNotOpen);
    change(&shop, product, window(None, None)).await;
    assert_eq!(ask().await, Refusal::SoldOut { free: 1 });
    assert_eq!(
        only(shop.reserve(&[one(product, 1)]).await).unwrap_err(),
        Refusal::MaxPerUserReached { remaining: 0 }
    );
}

/// A client whose answer was lost repeats its request, perhaps after the end of the sale.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_repeated_reserve_finds_its_hold_outside_the_sale(pool: PgPool) {
    let shop = Shop::new(pool);
    for (starts, ends, refusal) in [
        (Some(1), None, Refusal::SaleNotOpen),
        (None, Some(-1), Refusal::SaleClosed),
    ] {
        // The last unit is decided in another way than one of several.
        for stock in [1, 5] {
            let [product, other] = [shop.product(stock).await, shop.product(stock).await];
            let requests = [one(product, 1), one(other, 1)];
            let batch = reserve_in_batch(&shop, &requests).await;
            let holds: Vec<_> = batch.answer.unwrap().iter().map(|hold| hold.id).collect();
            let held = |position: usize| Refusal::AlreadyReserved {
                reservation_id: holds[position],
            };
            change(&shop, product, window(starts, ends)).await;
            change(&shop, other, window(starts, ends)).await;

            for position in [0, 1] {
                let repeated = shop.reserve(&requests[position..=position]).await;
                assert_eq!(only(repeated).unwrap_err(), held(position));
            }
            let others = [one(other, 2), one(other, 1), one(product, 1)];
            let wanted = [Err(refusal.clone()), Err(held(1)), Err(held(0))];
            assert_eq!(outcomes(&shop.reserve(&others).await), wanted);
            let repeated = reserve_in_batch(&shop, &requests).await.answer;
            assert_eq!(repeated.unwrap_err(), (product, held(0)));

            // A hold past its deadline is not a hold any more, and a closed sale does not replace it.
            shop.backdate(holds[0], 1).await;
            let repeated = shop.reserve(&requests[..1]).await;
            assert_eq!(repeated.expired, 0);
            assert_eq!(only(repeated).unwrap_err(), refusal);
        }
    }
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_change_touches_what_it_names(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product_with(1, at_most(3)).await;
    let changed = change(&shop, product, window(Some(1), Some(2))).await;
    assert_eq!(changed.max_per_user.map(|units| units.get()), Some(3));
    assert!(changed.sale_starts_at < changed.sale_ends_at);
    let unlimited = Policy {
        max_per_user: Some(None),
        ..Policy::default()
    };
    let changed = change(&shop, product, unlimited).await;
    assert_eq!(
        (changed.max_per_user, changed.name.as_str()),
        (None, "iPhone 15")
    );
    assert!(changed.sale_ends_at.is_some());

    let empty = window(Some(2), None).sale_starts_at;
    let empty = Policy {
        sale_starts_at: empty,
        ..Policy::default()
    };
    let refused = product::change(&shop.pool, product, None, None, &empty, &shop.events).await;
    assert_eq!(
        refused.unwrap().answer.unwrap_err(),
        Rejected::Invalid(InvalidProduct::Window)
    );
    let unknown = ProductId::try_from(i64::MAX).unwrap();
    let policy = Policy::default();
    let nothing = product::change(&shop.pool, unknown, None, None, &policy, &shop.events).await;
    assert!(nothing.unwrap().answer.unwrap().is_none());
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_reference_is_kept_with_its_request(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(3).await;
    let mut requests = [one(product, 1), one(product, 2), one(product, 3)];
    requests[1].reference = Some("A-7".parse().unwrap());
    let batch = shop.reserve(&requests).await;
    for (position, hold) in batch.answers.iter().enumerate() {
        let hold = hold.as_ref().unwrap();
        assert_eq!(hold.reference, requests[position].reference);
        assert_eq!(shop.get(hold.id).await.reference, hold.reference);
        assert_eq!(hold.status, Status::Active);
    }
}
