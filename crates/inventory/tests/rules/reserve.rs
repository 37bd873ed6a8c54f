//! reserve: grants, refusals, and their order.

use inventory::{
    ProductId,
    product::Policy,
    reservation::{Refusal, Status},
};
use sqlx::PgPool;
use time::Duration;

use crate::support::{Changed as _, HOLD_SECONDS, Shop, one, only, outcomes, units};

fn unknown_product() -> ProductId {
    ProductId::try_from(i64::MAX).unwrap()
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_hold_takes_its_units_until_its_deadline(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(10).await;

    let batch = shop.reserve(&[units(product, 42, 3)]).await;

    assert_eq!((batch.changed(), batch.expired), (1, 0));
    let hold = only(batch).unwrap();
    assert_eq!((hold.product_id, hold.user_id.get()), (product, 42));
    assert_eq!((hold.quantity.get(), hold.status), (3, Status::Active));
    assert_eq!(
        hold.expires_at - hold.created_at,
        Duration::seconds(HOLD_SECONDS.into())
    );
    assert_eq!(
        (hold.confirmed_at, hold.canceled_at, hold.expired_at),
        (None, None, None)
    );
    assert_eq!(shop.counters(product).await, (7, 3, 0));

    // The answer matches the row.
    assert_eq!(
        format!("{hold:?}"),
        format!("{:?}", shop.get(hold.id).await)
    );
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_empty_batch_has_no_answers(pool: PgPool) {
    let batch = Shop::new(pool).reserve(&[]).await;
    assert_eq!(
        (batch.answers.len(), batch.changed(), batch.expired),
        (0, 0, 0)
    );
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_holder_of_the_last_unit_hears_that_they_hold_it_not_that_it_is_sold_out(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let held = shop.hold(product, 1).await;

    let again = only(shop.reserve(&[one(product, 1)]).await);
    let other = only(shop.reserve(&[one(product, 2)]).await);

    let already = Refusal::AlreadyReserved {
        reservation_id: held.id,
    };
    assert_eq!(again.unwrap_err(), already);
    assert_eq!(other.unwrap_err(), Refusal::SoldOut { free: 0 });
    assert_eq!(shop.counters(product).await, (0, 1, 0));
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn one_product_without_units_costs_a_request_of_another_nothing(pool: PgPool) {
    let shop = Shop::new(pool);
    let [none, some] = [shop.product(0).await, shop.product(1).await];

    for (first, second) in [(none, some), (some, none)] {
        let batch = shop.reserve(&[one(first, 1), one(second, 1)]).await;
        for (answer, product) in batch.answers.into_iter().zip([first, second]) {
            match answer {
                Ok(hold) => {
                    assert_eq!((hold.product_id, product), (some, some));
                    shop.cancel(&[hold.id]).await;
                }
                Err(refusal) => {
                    assert_eq!((refusal, product), (Refusal::SoldOut { free: 0 }, none));
                }
            }
        }
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn each_request_of_a_batch_has_its_own_answer_in_order(pool: PgPool) {
    let shop = Shop::new(pool);
    let [scarce, plenty] = [shop.product(1).await, shop.product(5).await];
    let held = shop.hold(plenty, 1).await;

    let batch = shop
        .reserve(&[
            one(plenty, 1),
            one(scarce, 2),
            one(unknown_product(), 3),
            one(scarce, 4),
            one(plenty, 5),
            units(plenty, 6, 4),
        ])
        .await;

    let already = Refusal::AlreadyReserved {
        reservation_id: held.id,
    };
    assert_eq!(
        outcomes(&batch),
        [
            Err(already),
            Ok(()),
            Err(Refusal::ProductNotFound),
            Err(Refusal::SoldOut { free: 0 }),
            Ok(()),
            Err(Refusal::SoldOut { free: 3 }),
        ]
    );
    assert_eq!(batch.changed(), 2);
    assert_eq!(shop.counters(scarce).await, (0, 1, 0));
    assert_eq!(shop.counters(plenty).await, (3, 2, 0));
    for (position, product, user) in [(1, scarce, 2), (4, plenty, 5)] {
        let hold = batch.answers[position].as_ref().unwrap();
        let row = shop.get(hold.id).await;
        assert_eq!((row.product_id, row.user_id.get()), (product, user));
    }
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_batch_names_its_products_in_any_order(pool: PgPool) {
    let shop = Shop::new(pool);
    let mut products = Vec::new();
    for _ in 0..5 {
        products.push(shop.product(10).await);
    }
    let requests: Vec<_> = [3, 0, 4, 1, 3, 2, 0, 4, 3]
        .iter()
        .enumerate()
        .map(|(n, product)| one(products[*product], 100 + n as i64))
        .collect();

    let batch = shop.reserve(&requests).await;

    assert_eq!(batch.changed(), 9);
    for (request, answer) in requests.iter().zip(&batch.answers) {
        let row = shop.get(answer.as_ref().unwrap().id).await;
        assert_eq!(
            (row.product_id, row.user_id),
            (request.product_id, request.user_id)
        );
    }
    for (product, held) in products.into_iter().zip([2, 1, 1, 3, 2]) {
        assert_eq!(shop.counters(product).await, (10 - held, held, 0));
    }
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_user_named_twice_in_a_batch_gets_one_hold_a_product(pool: PgPool) {
    let shop = Shop::new(pool);
    let [first, second] = [shop.product(5).await, shop.product(5).await];

    let batch = shop
        .reserve(&[one(first, 1), one(second, 1), units(first, 1, 2)])
        .await;

    let reservation_id = batch.answers[0].as_ref().unwrap().id;
    assert_eq!(
        outcomes(&batch),
        [
            Ok(()),
            Ok(()),
            Err(Refusal::AlreadyReserved { reservation_id })
        ]
    );
    assert_eq!(shop.counters(first).await, (4, 1, 0));
    assert_eq!(shop.counters(second).await, (4, 1, 0));
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn with_plenty_of_units_each_user_still_gets_one_hold(pool: PgPool) {
    let shop = Shop::new(pool);
    let [product, other] = [shop.product(90).await, shop.product(90).await];
    for (user, elsewhere) in [(1, None), (11, Some(one(other, 11)))] {
        let held = shop.hold(product, user).await.id;
        let already = |reservation_id| Err(Refusal::AlreadyReserved { reservation_id });

        let requests = [one(product, user), one(product, user + 1)];
        let batch = shop
            .reserve(&[&requests[..], elsewhere.as_slice()].concat())
            .await;
        assert_eq!(outcomes(&batch)[..2], [already(held), Ok(())]);
        let second = batch.answers[1].as_ref().unwrap().id;

        let requests = [
            one(product, user + 1),
            one(product, user + 2),
            one(product, user + 2),
            one(product, user + 3),
        ];
        let batch = shop
            .reserve(&[&requests[..], elsewhere.as_slice()].concat())
            .await;
        let third = batch.answers[1].as_ref().unwrap().id;
        let wanted = [already(second), Ok(()), already(third), Ok(())];
        assert_eq!(outcomes(&batch)[..4], wanted);

        // Only a repeat, and no holder.
        let requests = [one(product, user + 4), one(product, user + 4)];
        let batch = shop
            .reserve(&[&requests[..], elsewhere.as_slice()].concat())
            .await;
        let last = batch.answers[0].as_ref().unwrap().id;
        assert_eq!(outcomes(&batch)[..2], [Ok(()), already(last)]);
    }
    assert_eq!(shop.counters(product).await, (80, 10, 0));
    assert_eq!(shop.counters(other).await, (89, 1, 0));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_refused_duplicate_leaves_its_unit_to_the_next_in_line(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(3).await;
    let held = shop.hold(product, 1).await;

    // Two units are left. Neither the holder nor a repeated request takes one.
    let batch = shop
        .reserve(&[
            one(product, 1),
            one(product, 2),
            one(product, 2),
            one(product, 3),
            one(product, 4),
        ])
        .await;

    let already = |reservation_id| Err(Refusal::AlreadyReserved { reservation_id });
    let new = batch.answers[1].as_ref().unwrap().id;
    assert_eq!(
        outcomes(&batch),
        [
            already(held.id),
            Ok(()),
            already(new),
            Ok(()),
            Err(Refusal::SoldOut { free: 0 })
        ]
    );
    assert_eq!(shop.counters(product).await, (0, 3, 0));
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_request_that_is_too_large_leaves_room_for_a_smaller_one(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(4).await;

    let batch = shop
        .reserve(&[
            units(product, 1, 5),
            units(product, 2, 3),
            units(product, 3, 2),
            // The first request of this user was refused, so this is not a repetition.
            units(product, 1, 1),
            units(product, 4, 1),
        ])
        .await;

    assert_eq!(
        outcomes(&batch),
        [
            Err(Refusal::SoldOut { free: 4 }),
            Ok(()),
            Err(Refusal::SoldOut { free: 1 }),
            Ok(()),
            Err(Refusal::SoldOut { free: 0 }),
        ]
    );
    assert_eq!(shop.counters(product).await, (0, 4, 0));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_largest_numbers_are_answered_like_any_other(pool: PgPool) {
    let shop = Shop::new(pool);
    let most = i64::from(i32::MAX);
    let product = shop.product(most).await;

    let batch = shop
        .reserve(&[
            units(product, i64::MAX, most),
            units(product, 1, most),
            units(product, 2, most),
        ])
        .await;

    let sold_out = Err(Refusal::SoldOut { free: 0 });
    assert_eq!(outcomes(&batch), [Ok(()), sold_out.clone(), sold_out]);
    assert_eq!(shop.counters(product).await, (0, i32::MAX, 0));
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_users_own_stale_hold_makes_way_and_can_never_be_sold(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let old = shop.stale_hold(product, 1, 60).await;

    let batch = shop.reserve(&[one(product, 1)]).await;

    assert_eq!((batch.changed(), batch.expired), (1, 1));
    let new = only(batch).unwrap().id;
    assert_ne!(new, old);
    let row = shop.stored(old).await;
    assert_eq!(
        (row.status.as_str(), row.expired_at),
        ("EXPIRED", Some(row.expires_at))
    );
    let expired = [Err(Refusal::ReservationExpired)];
    assert_eq!(outcomes(&shop.confirm(&[old]).await), expired);
    assert_eq!(outcomes(&shop.cancel(&[old]).await), expired);
    assert_eq!(shop.counters(product).await, (0, 1, 0));
    assert_eq!(outcomes(&shop.confirm(&[new]).await), [Ok(())]);
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn own_stale_holds_end_even_where_stock_is_plenty_and_only_those(pool: PgPool) {
    let shop = Shop::new(pool);
    let [product, other] = [shop.product(10).await, shop.product(10).await];
    let own = only(shop.reserve(&[units(product, 1, 4)]).await)
        .unwrap()
        .id;
    shop.backdate(own, 60).await;
    let strangers = shop.stale_hold(product, 2, 60).await;
    let elsewhere = shop.stale_hold(other, 1, 60).await;

    // Requested twice, the stale hold still frees its units once.
    let batch = shop.reserve(&[one(product, 1), one(product, 1)]).await;

    assert_eq!((batch.changed(), batch.expired), (1, 1));
    assert_eq!(shop.counters(product).await, (8, 2, 0));
    assert_eq!(shop.stored(own).await.status, "EXPIRED");
    assert_eq!(shop.stored(strangers).await.status, "ACTIVE");
    assert_eq!(shop.stored(elsewhere).await.status, "ACTIVE");
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn what_is_refused_for_another_reason_still_ends_the_users_stale_hold(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(2).await;
    let old = shop.stale_hold(product, 1, 60).await;

    let batch = shop.reserve(&[units(product, 1, 3)]).await;

    assert_eq!((batch.changed(), batch.expired), (0, 1));
    assert_eq!(outcomes(&batch), [Err(Refusal::SoldOut { free: 2 })]);
    assert_eq!(shop.stored(old).await.status, "EXPIRED");
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn with_no_expirer_a_reserve_reclaims_what_it_lacks_longest_due_first(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(5).await;
    let latest = shop.stale_hold(product, 1, 10).await;
    let longest = shop.stale_hold(product, 2, 30).await;
    let second = shop.stale_hold(product, 3, 20).await;
    let live = shop.hold(product, 4).await.id;

    // One unit is free.
    let requests = [5, 6, 7].map(|user| one(product, user));
    let batch = shop.reserve(&requests).await;

    assert_eq!((batch.changed(), batch.expired), (3, 2));
    for (id, status) in [
        (longest, "EXPIRED"),
        (second, "EXPIRED"),
        (latest, "ACTIVE"),
        (live, "ACTIVE"),
    ] {
        assert_eq!(shop.stored(id).await.status, status);
    }
    assert_eq!(shop.counters(product).await, (0, 5, 0));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_product_with_units_enough_keeps_its_due_holds(pool: PgPool) {
    let shop = Shop::new(pool);
    // A limit, so that both products are decided request by request.
    let limited = Policy {
        max_per_user: Some(Some(9.try_into().unwrap())),
        ..Policy::default()
    };
    let [enough, lacking] = [shop.product_with(3, limited).await, shop.product(1).await];
    let kept = shop.stale_hold(enough, 1, 60).await;
    let reclaimed = shop.stale_hold(lacking, 1, 60).await;

    let batch = shop.reserve(&[one(enough, 2), one(lacking, 2)]).await;

    assert_eq!((batch.changed(), batch.expired), (2, 1));
    assert_eq!(shop.stored(kept).await.status, "ACTIVE");
    assert_eq!(shop.stored(reclaimed).await.status, "EXPIRED");
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn reclaimed_units_that_are_too_few_stay_free(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(3).await;
    shop.stale_hold(product, 1, 60).await;
    shop.stale_hold(product, 2, 60).await;
    shop.hold(product, 3).await;

    let batch = shop
        .reserve(&[units(product, 4, 3), units(product, 5, 1)])
        .await;

    assert_eq!(
        outcomes(&batch),
        [Err(Refusal::SoldOut { free: 2 }), Ok(())]
    );
    assert_eq!((batch.changed(), batch.expired), (1, 2));
    assert_eq!(shop.counters(product).await, (1, 2, 0));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_thousand_due_holds_are_one_pass_and_a_batch_makes_as_many_as_it_needs(pool: PgPool) {
    let shop = Shop::new(pool);
    let [retail, wholesale] = [shop.product(2600).await, shop.product(2600).await];
    shop.crowd(retail, 2600, -60).await;
    shop.crowd(wholesale, 2600, -60).await;

    let many: Vec<_> = (1..=2500).map(|user| one(retail, user)).collect();
    let batch = shop.reserve(&many).await;
    assert_eq!((batch.changed(), batch.expired), (2500, 2500));
    assert_eq!(shop.counters(retail).await, (0, 2600, 0));

    let batch = shop.reserve(&[units(wholesale, 1, 2500)]).await;
    assert_eq!((batch.changed(), batch.expired), (1, 2500));
    assert_eq!(shop.counters(wholesale).await, (0, 2600, 0));
    shop.assert_sound().await;
}

/// The long way serves locked products only, also if another one exists by now.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_product_that_is_not_locked_is_not_found(pool: PgPool) {
    let shop = Shop::new(pool);
    let [locked, new] = [shop.product(1).await, shop.product(1).await];
    let outcomes: Vec<String> = sqlx::query_scalar(
        "select outcomes
        from reserve_one_by_one_v1(
            array[$1, $2], '{1,1}', '{1,1}', '{}', 300, '{}', array[$1], clock_timestamp()
        )",
    )
    .bind(locked)
    .bind(new)
    .fetch_one(&shop.pool)
    .await
    .unwrap();
    assert_eq!(outcomes, ["reserved", "product_not_found"]);
    assert_eq!(shop.counters(locked).await, (0, 1, 0));
    assert_eq!(shop.counters(new).await, (1, 0, 0));
    shop.assert_sound().await;
}
