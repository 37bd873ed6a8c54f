//! A reserve with keys, which is one call for new keys.

use std::time::Duration;

use futures_util::FutureExt as _;
use inventory::{
    Executor, ProductId,
    batch::Batch,
    idempotency::{self, Executed, Kept, Key, KeyOutcome, WorkOutcome},
    product::Policy,
    reservation::{Refusal, Reservation},
    reserve::{self, Reserve},
};
use sqlx::PgPool;
use time::OffsetDateTime;

use super::{answer, key, new, occupy, once};
use crate::support::{Changed as _, HOLD_SECONDS, Shop, one, outcomes, reservation_id, units};

/// The answers to requests with keys, as a lane gives them. `None`: a key is in use, or belongs to another request.
pub(super) async fn reserve(
    shop: &Shop,
    keys: &[Key],
    requests: &[Reserve],
) -> Vec<Option<Result<Reservation, Refusal>>> {
    if let Some(batch) = reserve_once(shop, keys, requests).await {
        return batch.answers.into_iter().map(Some).collect();
    }
    let (events, all) = (shop.events.clone(), requests.to_vec());
    let once = idempotency::execute_once(&shop.pool, keys, move |transaction, new| {
        async move {
            let new: Vec<_> = new.into_iter().map(|n| all[n].clone()).collect();
            let executor = Executor::Transaction(transaction);
            let batch = reserve::reserve(executor, &new, HOLD_SECONDS, &events).await?;
            let ids = batch.answers.iter().map(|hold| hold.as_ref().unwrap().id);
            let answers = ids.map(|id| answer(&id.to_string())).collect();
            Ok(WorkOutcome::<_, ()>::Keep(answers, ()))
        }
        .boxed()
    });
    let Executed::Kept(outcomes, _) = once.await.unwrap() else {
        panic!("nothing was to be undone");
    };
    let mut answers = Vec::new();
    for (outcome, request) in outcomes.into_iter().zip(requests) {
        answers.push(match outcome {
            KeyOutcome::Done(answer) | KeyOutcome::Replayed(answer) => {
                let id = reservation_id(answer.body.parse().unwrap());
                Some(Ok(shop.get(id).await))
            }
            KeyOutcome::ReplayedReserve(stored) => {
                Some(reserve::restore(&stored, request).unwrap())
            }
            KeyOutcome::Reused | KeyOutcome::InUse => None,
        });
    }
    answers
}

async fn reserve_once(shop: &Shop, keys: &[Key], requests: &[Reserve]) -> Option<Batch> {
    reserve::reserve_once(&shop.pool, keys, requests, HOLD_SECONDS, &shop.events)
        .await
        .unwrap()
}

/// One request for each outcome that is kept.
async fn requests_of_each_outcome(shop: &Shop) -> Vec<Reserve> {
    let hour = |hours| OffsetDateTime::now_utc() + time::Duration::hours(hours);
    let mut policies: [Policy; 4] = Default::default();
    policies[0].hold_seconds = Some(Some(7.try_into().unwrap()));
    policies[1].max_per_user = Some(Some(2.try_into().unwrap()));
    policies[2].sale_starts_at = Some(Some(hour(1)));
    policies[3].sale_ends_at = Some(Some(hour(-1)));
    let mut products = Vec::new();
    for policy in policies {
        products.push(shop.product_with(9, policy).await);
    }
    let open = shop.product(9).await;
    shop.hold(open, 1).await;
    let with_reference = Reserve {
        reference: Some("order 7".parse().unwrap()),
        ..units(open, 2, 3)
    };
    vec![
        with_reference,
        one(products[0], 1),
        one(open, 1),
        units(open, 3, 7),
        units(products[1], 1, 3),
        one(products[2], 1),
        one(products[3], 1),
    ]
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_reserve_is_answered_again_as_the_first_time(pool: PgPool) {
    let shop = Shop::new(pool);
    let requests = requests_of_each_outcome(&shop).await;
    let keys = |request| {
        let keys = (0..requests.len()).map(|n| key(&n.to_string(), request));
        keys.collect::<Vec<_>>()
    };
    let first = reserve_once(&shop, &keys(1), &requests).await.unwrap();
    assert_eq!(first.changed(), 2);
    // Whatever happened to the holds since.
    for hold in first.answers.iter().flatten() {
        shop.cancel(&[hold.id]).await;
    }
    let holds = shop.count("select count(*) from reservations").await;
    let again = reserve(&shop, &keys(1), &requests).await;
    for (first, again) in first.answers.into_iter().zip(again) {
        assert_eq!(format!("{:?}", again.unwrap()), format!("{first:?}"));
    }
    assert_eq!(shop.count("select count(*) from reservations").await, holds);
    for answer in reserve(&shop, &keys(2), &requests).await {
        assert!(answer.is_none(), "{answer:?}");
    }

    // Only refusals are kept for the shorter time.
    let purge = async |kept| {
        let purged = idempotency::purge(&shop.pool, kept, Duration::ZERO, 100);
        purged.await.unwrap()
    };
    assert_eq!(purge(Kept::Refused).await, 5);
    assert_eq!(purge(Kept::Done).await, 2);
    shop.assert_sound().await;
}

/// The product may be on its way to another cell, and come back.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_unknown_product_keeps_no_key(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(9).await;
    let unknown = ProductId::try_from(product.get() + 1).unwrap();
    let keys = [key("a", 1), key("b", 1), key("c", 1)];
    let requests = [one(product, 1), one(unknown, 1), one(unknown, 2)];
    let first = reserve_once(&shop, &keys, &requests).await.unwrap();
    let unknown_twice = [Err(Refusal::ProductNotFound), Err(Refusal::ProductNotFound)];
    assert_eq!(outcomes(&first)[1..], unknown_twice);
    assert_eq!(shop.count("select count(*) from idempotency_keys").await, 1);

    assert_eq!(shop.product(1).await, unknown);
    let again = reserve_once(&shop, &keys[1..], &requests[1..])
        .await
        .unwrap();
    assert!(
        again.answers[0].is_ok() && again.answers[1].is_err(),
        "{again:?}"
    );
    // What is known is known, also when the product is gone.
    sqlx::raw_sql("delete from reservations; delete from products")
        .execute(&shop.pool)
        .await
        .unwrap();
    assert!(reserve_once(&shop, &keys, &requests).await.is_none());
    assert_eq!(shop.count("select count(*) from idempotency_keys").await, 3);
}

/// Without any hold, the call reads no time of reservation.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn what_is_sold_out_is_answered_again_too(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    shop.hold(product, 1).await;
    let (keys, requests) = ([key("a", 1)], [one(product, 2)]);
    for _ in 0..2 {
        let answers = reserve(&shop, &keys, &requests).await;
        let [Some(Err(refusal))] = &answers[..] else {
            panic!("{answers:?}");
        };
        assert_eq!(*refusal, Refusal::SoldOut { free: 0 });
    }
    assert_eq!(shop.count("select count(*) from idempotency_keys").await, 1);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn what_is_done_in_one_go_needs_new_keys(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(9).await;
    let _occupied = occupy(&shop, "in use").await;
    once(&shop.pool, "x", &[key("known", 1)]).await;
    let requests = [one(product, 1), one(product, 2)];
    for other in ["known", "in use", "new"] {
        let keys = [key("new", 1), key(other, 1)];
        let done = reserve_once(&shop, &keys, &requests).await;
        assert!(done.is_none(), "{other}");
        assert_eq!(shop.counters(product).await, (9, 0, 0), "{other}");
        assert_eq!(new(&shop, "x", &keys).await, None, "{other}");
    }
    let keys = [key("fresh", 1), key("fresher", 1)];
    let done = ["x0", "x1"].map(|body| KeyOutcome::Done(answer(body)));
    assert_eq!(new(&shop, "x", &keys).await.unwrap(), done);
    let replayed = ["x0", "x1"].map(|body| KeyOutcome::Replayed(answer(body)));
    assert_eq!(once(&shop.pool, "y", &keys).await, replayed);
    let keys = [key("new", 1), key("newer", 1)];
    assert!(reserve_once(&shop, &keys, &requests).await.is_some());
    assert_eq!(shop.counters(product).await, (7, 2, 0));
}

/// The lane must learn of it, because it looks for blocked products then.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_product_that_stays_locked_is_not_mistaken_for_a_key_in_use(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(9).await;
    sqlx::query(
        "alter function reserve_v3(bigint[], bigint[], integer[], text[], integer, text[], boolean)
        set lock_timeout = '50ms'",
    )
    .execute(&shop.pool)
    .await
    .unwrap();
    let mut blocker = shop.pool.begin().await.unwrap();
    sqlx::query("select from products for update")
        .execute(&mut *blocker)
        .await
        .unwrap();
    let (keys, requests) = ([key("a", 1)], [one(product, 1)]);
    let failed =
        reserve::reserve_once(&shop.pool, &keys, &requests, HOLD_SECONDS, &shop.events).await;
    assert!(failed.unwrap_err().is_lock_timeout());
}
