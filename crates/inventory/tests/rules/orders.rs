//! confirm, cancel and extend of whole orders: all or none.

use std::fmt::Debug;

use futures_util::future::join_all;
use inventory::{
    ReservationId, Seconds,
    batch::AllOrNone,
    cancel_batch,
    confirm_batch::{self, Reacquire},
    extend_batch,
    product::Policy,
    reservation::{Refusal, Reservation, Status},
    transition::{Change, Transition},
};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use time::{Duration, OffsetDateTime};

use crate::support::{ALL_EVENTS, MAX_HOLD_SECONDS, Shop, only, reservation_id};

type Order = AllOrNone<ReservationId>;

async fn confirm(shop: &Shop, ids: &[ReservationId], reacquire: Reacquire) -> Order {
    let confirmed = confirm_batch::confirm_batch(&shop.pool, ids, reacquire, &shop.events).await;
    confirmed.unwrap()
}

async fn cancel(shop: &Shop, ids: &[ReservationId]) -> Order {
    let canceled = cancel_batch::cancel_batch(&shop.pool, ids, &shop.events).await;
    canceled.unwrap()
}

async fn extend(shop: &Shop, ids: &[ReservationId], seconds: i64) -> Order {
    let seconds: Seconds = seconds.try_into().unwrap();
    let extended = extend_batch::extend_batch(&shop.pool, ids, seconds, MAX_HOLD_SECONDS).await;
    extended.unwrap()
}

/// One of the three verbs.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Confirm,
    Cancel,
    Extend,
}

const VERBS: [Verb; 3] = [Verb::Confirm, Verb::Cancel, Verb::Extend];

impl Verb {
    async fn act(self, shop: &Shop, ids: &[ReservationId]) -> Order {
        match self {
            Self::Confirm => confirm(shop, ids, Reacquire::Nothing).await,
            Self::Cancel => cancel(shop, ids).await,
            Self::Extend => extend(shop, ids, 2_000).await,
        }
    }

    fn result(self) -> (Status, Change, &'static str) {
        match self {
            Self::Confirm => (Status::Confirmed, Change::Confirmed, "ReservationConfirmed"),
            Self::Cancel => (Status::Canceled, Change::Canceled, "ReservationCanceled"),
            Self::Extend => (Status::Active, Change::Extended, ""),
        }
    }
}

fn changes(order: &Order) -> Vec<Change> {
    let transitions = order.transitions().map(|transition| match transition {
        Transition::Of(change, _) => change,
        other => panic!("nothing was due: {other:?}"),
    });
    transitions.collect()
}

/// The first three users' holds of as many products, the newest first.
async fn order(shop: &Shop) -> Vec<ReservationId> {
    let mut ids = Vec::new();
    for user in 1..=3 {
        let product = shop.product(5).await;
        ids.push(shop.hold(product, user).await.id);
    }
    ids.reverse();
    ids
}

async fn rows(shop: &Shop) -> Vec<String> {
    let rows = "select (select jsonb_agg(r order by id) from reservations r)::text
        || (select jsonb_agg(p order by id) from products p)::text
        || (select count(*) from outbox_events)";
    sqlx::query_scalar(rows)
        .fetch_all(&shop.pool)
        .await
        .unwrap()
}

fn deadlines(holds: &[Reservation]) -> Vec<OffsetDateTime> {
    holds.iter().map(|hold| hold.expires_at).collect()
}

fn same(one: &impl Debug, other: &impl Debug) {
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn all_are_done_in_the_order_of_the_ids_and_once(pool: PgPool) {
    let mut shop = Shop::new(pool);
    shop.events = ALL_EVENTS.parse().unwrap();
    for verb in VERBS {
        let ids = order(&shop).await;
        let (status, change, event) = verb.result();
        // A part was done before.
        if change != Change::Extended {
            verb.act(&shop, &ids[1..2]).await.answer.unwrap();
        }
        let done = verb.act(&shop, &ids).await;
        let second = if change == Change::Extended {
            change
        } else {
            Change::Repeated
        };
        assert_eq!(changes(&done), [change, second, change], "{verb:?}");
        let answers = done.answer.unwrap();
        for (id, answer) in ids.iter().zip(&answers) {
            assert_eq!((answer.id, answer.status), (*id, status), "{verb:?}");
            same(answer, &shop.get(*id).await);
        }
        // A repeat of confirm and cancel gets the same answer.
        if change != Change::Extended {
            let again = verb.act(&shop, &ids).await;
            assert_eq!(changes(&again), [Change::Repeated; 3]);
            same(&again.answer.unwrap(), &answers);
            let events: i64 = sqlx::query_scalar(
                "select count(*) from outbox_events
                where event_type = $1 and (payload->>'reservation_id')::bigint = any($2)",
            )
            .bind(event)
            .bind(ids.iter().map(|id| id.get()).collect::<Vec<_>>())
            .fetch_one(&shop.pool)
            .await
            .unwrap();
            assert_eq!(events, 3);
        }
    }
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_first_that_cannot_be_done_is_named_and_nothing_is_done(pool: PgPool) {
    let mut shop = Shop::new(pool);
    shop.events = ALL_EVENTS.parse().unwrap();
    let product = shop.product(50).await;
    let made = order(&shop).await;
    let [sold, canceled, returned, stale] = [
        shop.hold(product, 11).await.id,
        shop.hold(product, 12).await.id,
        shop.hold(product, 13).await.id,
        shop.stale_hold(product, 14, 60).await,
    ];
    shop.confirm(&[sold, returned]).await;
    shop.cancel(&[canceled]).await;
    shop.return_sold(&[returned]).await;
    let unknown = reservation_id(i64::MAX);
    let before = rows(&shop).await;
    for verb in VERBS {
        let obstacles = [
            (unknown, Refusal::ReservationNotFound),
            (stale, Refusal::ReservationExpired),
            (returned, Refusal::ReservationReturned),
            match verb {
                Verb::Confirm => (canceled, Refusal::ReservationCanceled),
                Verb::Cancel | Verb::Extend => (sold, Refusal::ReservationConfirmed),
            },
        ];
        for (place, (obstacle, refusal)) in obstacles.iter().enumerate() {
            // Further obstacles after it count for nothing.
            let (later, _) = &obstacles[(place + 1) % obstacles.len()];
            for ids in [
                vec![*obstacle],
                vec![made[0], *obstacle, made[1], *later],
                vec![*obstacle, *later, made[0]],
                vec![made[2], made[1], made[0], *obstacle],
            ] {
                let refused = verb.act(&shop, &ids).await;
                assert_eq!(refused.transitions().count(), 0);
                let (id, why) = refused.answer.unwrap_err();
                assert_eq!((id, &why), (*obstacle, refusal), "{verb:?} {ids:?}");
                assert_eq!(rows(&shop).await, before, "{verb:?} {ids:?}");
            }
        }
    }
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn expired_holds_are_sold_again_if_all_of_them_can_be(pool: PgPool) {
    let mut shop = Shop::new(pool);
    shop.events = ALL_EVENTS.parse().unwrap();
    let [plenty, scarce] = [shop.product(9).await, shop.product(1).await];
    let lost = shop.stale_hold(scarce, 1, 60).await;
    let also_lost = shop.stale_hold(plenty, 1, 60).await;
    let in_time = shop.hold(plenty, 2).await.id;
    let ids = [in_time, lost, also_lost];

    // Without `reacquire`, and while another user holds the last unit.
    let late = confirm(&shop, &ids, Reacquire::Nothing).await;
    assert_eq!(
        late.answer.unwrap_err(),
        (lost, Refusal::ReservationExpired)
    );
    let another = shop.hold(scarce, 3).await.id;
    let before = rows(&shop).await;
    for ids in [&ids[..], &[also_lost, in_time, lost]] {
        let refused = confirm(&shop, ids, Reacquire::Expired).await;
        assert_eq!((refused.transitions().count(), refused.expired), (0, 0));
        assert_eq!(refused.answer.unwrap_err(), (lost, Refusal::ExpiredSoldOut));
        assert_eq!(rows(&shop).await, before);
    }

    shop.cancel(&[another]).await;
    let canceled = confirm(&shop, &[lost, another], Reacquire::Expired).await;
    assert_eq!(
        canceled.answer.unwrap_err(),
        (another, Refusal::ReservationCanceled)
    );
    assert_eq!(shop.counters(scarce).await, (1, 0, 0));

    let done = confirm(&shop, &ids, Reacquire::Expired).await;
    let wanted = [Change::Confirmed, Change::Reacquired, Change::Reacquired];
    assert_eq!(changes(&done), wanted);
    let sold = done.answer.unwrap();
    let from: Vec<_> = sold.iter().map(|sold| sold.reacquired_from).collect();
    assert_eq!(from, [None, Some(lost), Some(also_lost)]);
    for sold in &sold {
        same(sold, &shop.get(sold.id).await);
    }
    for _ in 0..2 {
        let again = confirm(&shop, &ids, Reacquire::Expired).await;
        assert_eq!(changes(&again), [Change::Repeated; 3]);
        same(&again.answer.unwrap(), &sold);
    }
    // The units that were sold again can be returned, and then the order is over.
    only(shop.return_sold(&[sold[1].id]).await).unwrap();
    let over = confirm(&shop, &ids, Reacquire::Expired).await;
    assert_eq!(
        over.answer.unwrap_err(),
        (lost, Refusal::ReservationReturned)
    );
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_users_limit_counts_for_what_is_sold_again(pool: PgPool) {
    let shop = Shop::new(pool);
    let policy = Policy {
        max_per_user: Some(Some(1.try_into().unwrap())),
        ..Policy::default()
    };
    let product = shop.product_with(9, policy).await;
    let first = shop.stale_hold(product, 1, 60).await;
    let second = shop.stale_hold(product, 1, 60).await;
    let refused = confirm(&shop, &[first, second], Reacquire::Expired).await;
    let wanted = Refusal::MaxPerUserReached { remaining: 0 };
    assert_eq!(refused.answer.unwrap_err(), (second, wanted));
    assert_eq!(shop.counters(product).await.2, 0);
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn all_get_the_earliest_deadline_that_one_may_have(pool: PgPool) {
    let shop = Shop::new(pool);
    let longest = async |seconds: i64| {
        let max_hold_seconds = Some(Some(seconds.try_into().unwrap()));
        let policy = Policy {
            max_hold_seconds,
            ..Policy::default()
        };
        shop.product_with(9, policy).await
    };
    let [shorter, longer] = [longest(1_000).await, longest(9_000).await];
    let first = shop.hold(longer, 1).await;
    let second = shop.hold(shorter, 1).await;
    let ids = [first.id, second.id];
    let extended = extend(&shop, &ids, 500).await.answer.unwrap();
    assert_eq!(extended[0].expires_at, extended[1].expires_at);
    assert!((extended[0].expires_at - first.created_at).whole_seconds() >= 500);
    // The second hold may last 1,000 s.
    let extended = extend(&shop, &ids, 5_000).await.answer.unwrap();
    let deadline = second.created_at + Duration::seconds(1_000);
    assert_eq!(deadlines(&extended), [deadline; 2]);
    // A deadline never moves back.
    let alone = extend(&shop, &ids[..1], 5_000).await.answer.unwrap();
    assert!(alone[0].expires_at > deadline);
    let extended = extend(&shop, &ids, 700).await.answer.unwrap();
    assert_eq!(deadlines(&extended), [alone[0].expires_at, deadline]);
}

/// The shop has been promised that time.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_hold_whose_deadline_is_later_keeps_it(pool: PgPool) {
    let shop = Shop::new(pool);
    let holds = order(&shop).await;
    let later = extend(&shop, &holds[1..2], 2_000).await.answer.unwrap()[0].expires_at;
    for _ in 0..2 {
        let extended = extend(&shop, &holds, 900).await;
        let told = changes(&extended);
        let extended = deadlines(&extended.answer.unwrap());
        assert_eq!(extended[1], later);
        assert!(extended[0] < later);
        for (place, deadline) in extended.iter().enumerate() {
            let (wanted, change) = match place {
                1 => (later, Change::Repeated),
                _ => (extended[0], Change::Extended),
            };
            assert_eq!((*deadline, told[place]), (wanted, change), "{place}");
            assert_eq!(shop.stored(holds[place]).await.expires_at, wanted);
        }
    }
    shop.assert_sound().await;
}

/// Orders and single holds meet on the same products, in every order of the ids.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn orders_and_single_verbs_do_not_deadlock(_: PgPoolOptions, options: PgConnectOptions) {
    let shop = Shop::with_connections(12, options).await;
    let mut products = Vec::new();
    for _ in 0..3 {
        products.push(shop.product(400).await);
    }
    let buyers = (0..12_i64).map(|buyer| {
        let (shop, products) = (shop.clone(), products.clone());
        async move {
            for round in 0..8 {
                let user = 1 + buyer * 100 + round;
                let mut ids = Vec::new();
                for product in &products {
                    ids.push(shop.hold(*product, user).await.id);
                }
                if buyer % 2 == 0 {
                    ids.reverse();
                }
                let only_one = ids[round as usize % 3];
                match buyer % 6 {
                    0 | 1 => {
                        extend(&shop, &ids, 900).await.answer.unwrap();
                        confirm(&shop, &ids, Reacquire::Expired)
                            .await
                            .answer
                            .unwrap();
                    }
                    2 | 3 => {
                        cancel(&shop, &ids).await.answer.unwrap();
                    }
                    4 => {
                        shop.cancel(&[only_one]).await;
                        let half = confirm(&shop, &ids, Reacquire::Expired).await;
                        assert_eq!(half.answer.unwrap_err().0, only_one);
                    }
                    _ => {
                        shop.backdate(only_one, 5).await;
                        confirm(&shop, &ids, Reacquire::Expired)
                            .await
                            .answer
                            .unwrap();
                    }
                }
            }
        }
    });
    join_all(buyers).await;
    for product in products {
        let (stock, held, sold) = shop.counters(product).await;
        assert_eq!(stock + held + sold, 400);
    }
    shop.assert_sound().await;
}
