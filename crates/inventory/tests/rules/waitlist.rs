//! Waitlists: units that come free go to the first in line, and to nobody else.

mod bounds;
mod closing;
mod entries;
mod imports;
mod locked;
mod orders;
mod reported;
mod stage;
mod storm;
mod turns;
mod waits;

use futures_util::future::join_all;
use inventory::{
    adjust_stock::{Adjustment, adjust_stock},
    expire::{self, Commit::Asynchronous},
    locked::IfLocked,
    product::{self, Policy},
    reacquire,
    reservation::{Refusal, Status},
    reserve_batch::reserve_batch,
    waitlist::EntryStatus,
};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use time::{Duration, OffsetDateTime};
use trace::Span;

use self::stage::{Line, wish};
use crate::support::{
    ALL_EVENTS, Changed as _, HOLD_SECONDS, Shop, one, only, outcomes, units, user,
};

/// All verbs that free units, each with a product of two units that users 1 and 2 have.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn each_way_to_free_units_gives_them_to_the_first_in_line(pool: PgPool) {
    let mut shop = Shop::new(pool);
    shop.events = ALL_EVENTS.parse().unwrap();
    for way in [
        "cancel",
        "expire",
        "return",
        "add stock",
        "reserve",
        "late payment",
        "leave",
        "join",
    ] {
        let product = shop.product(2).await;
        let [hold, other] = [
            shop.hold(product, 1).await.id,
            shop.hold(product, 2).await.id,
        ];
        if way == "return" {
            shop.confirm(&[hold]).await;
        }
        let first = shop.waits(product, 3).await;
        let second = shop.waits(product, 4).await;
        assert_eq!((first.position, second.position), (Some(1), Some(2)));
        let offers = match way {
            "cancel" => shop.cancel(&[hold]).await.offered,
            "return" => shop.return_sold(&[hold]).await.offered,
            "add stock" => {
                let one_more = Adjustment::new(1, "found".to_owned()).unwrap();
                let adjusted = adjust_stock(&shop.pool, product, &one_more, &shop.events).await;
                let adjusted = adjusted.unwrap();
                assert_eq!(adjusted.answer.unwrap().stock, 0);
                adjusted.offered
            }
            "leave" => {
                // The first wants more than is free, and gives up.
                let product = shop.product(1).await;
                let many = shop.join(&wish(product, 3, 2)).await.answer.unwrap();
                let behind = shop.waits(product, 4).await;
                let left = shop.leave(many.id).await;
                assert_eq!(left.answer.unwrap().status, EntryStatus::Left);
                let offered = shop.entry(behind.id).await;
                assert_eq!(offered.status, EntryStatus::Offered);
                shop.cancel(&[hold]).await;
                left.offered
            }
            _ => {
                shop.backdate(hold, 1).await;
                match way {
                    "expire" => {
                        let (pool, events) = (&shop.pool, &shop.events);
                        let done =
                            expire::expire(pool, product, 10, Asynchronous, IfLocked::Skip, events)
                                .await;
                        let done = done.unwrap().unwrap();
                        assert_eq!(done.expired, 1);
                        done.offered
                    }
                    "reserve" => {
                        let batch = shop.reserve(&[one(product, 9)]).await;
                        assert_eq!(batch.expired, 1);
                        assert_eq!(outcomes(&batch), [taken()]);
                        batch.offered
                    }
                    "join" => {
                        let joined = shop.join(&wish(product, 9, 1)).await;
                        assert_eq!(joined.expired, 1);
                        assert_eq!(joined.answer.unwrap().position, Some(2));
                        joined.offered
                    }
                    _ => {
                        let batch =
                            reacquire::reacquire(&shop.pool, hold, &Span::current(), &shop.events)
                                .await;
                        let batch = batch.unwrap();
                        assert_eq!(batch.expired, 1);
                        assert_eq!(outcomes(&batch), [Err(Refusal::ExpiredSoldOut)]);
                        batch.offered
                    }
                }
            }
        };
        assert_eq!(offers, 1, "{way}");
        let first = shop.entry(first.id).await;
        assert_eq!(first.status, EntryStatus::Offered, "{way}");
        let offered = shop.get(first.reservation_id.unwrap()).await;
        assert_eq!(
            (offered.status, offered.user_id, offered.product_id),
            (Status::Active, user(3), product),
            "{way}"
        );
        assert_eq!(first.ended_at, Some(offered.created_at), "{way}");
        assert_eq!(
            offered.expires_at - offered.created_at,
            Duration::seconds(HOLD_SECONDS.into())
        );
        let second = shop.entry(second.id).await;
        assert_eq!(
            (second.status, second.position),
            (EntryStatus::Waiting, Some(1)),
            "{way}"
        );
        // The offered unit is a hold as any other.
        assert_eq!(shop.confirm(&[offered.id]).await.changed(), 1);
        shop.cancel(&[other]).await;
        let second = shop.entry(second.id).await;
        assert_eq!(second.status, EntryStatus::Offered, "{way}");
        shop.assert_sound().await;
    }
    shop.assert_lines().await;
}

fn taken<T>() -> Result<T, Refusal> {
    Err(Refusal::SoldOutToWaitlist { free: 0 })
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_first_entry_that_wants_two_waits_for_the_second_unit(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(2).await;
    let [first, second] = [
        shop.hold(product, 1).await.id,
        shop.hold(product, 2).await.id,
    ];
    let two = shop.join(&wish(product, 3, 2)).await.answer.unwrap();
    let one_more = shop.waits(product, 4).await;

    assert_eq!(shop.cancel(&[first]).await.offered, 0);
    assert_eq!(shop.counters(product).await, (1, 1, 0));
    // The unit is free, and nobody overtakes: no stranger, nobody behind, and no late payment.
    let refused = outcomes(&shop.reserve(&[one(product, 9), one(product, 8)]).await);
    let waits = || Err(Refusal::SoldOutToWaitlist { free: 1 });
    assert_eq!(refused, [waits(), waits()]);
    let behind = shop.waits(product, 5).await;
    assert_eq!(behind.position, Some(3));
    let lost = shop.hold_by_hand(product, 6).await;
    shop.backdate(lost, 1).await;
    let late = reacquire::reacquire(&shop.pool, lost, &Span::current(), &shop.events).await;
    assert_eq!(outcomes(&late.unwrap()), [Err(Refusal::ExpiredSoldOut)]);
    shop.assert_sound().await;

    // With the unit of the expired hold there are enough.
    assert_eq!(shop.expire(product, 10).await, 1);
    assert_eq!(shop.entry(two.id).await.status, EntryStatus::Offered);
    assert_eq!(shop.entry(one_more.id).await.position, Some(1));
    assert_eq!(shop.cancel(&[second]).await.offered, 1);
    assert_eq!(shop.entry(behind.id).await.position, Some(1));
    shop.assert_sound().await;
    shop.assert_lines().await;
}

/// One product, several products, and all or none: with units that are free, due, or neither.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn nobody_else_is_served_while_somebody_waits(pool: PgPool) {
    let shop = Shop::new(pool);
    let plenty = shop.product(100).await;
    for due in [false, true] {
        for free in [0, 2] {
            let product = shop.product(1 + free).await;
            let hold = shop.hold(product, 1).await.id;
            let many = shop.join(&wish(product, 2, 3 + free)).await;
            let many = many.answer.unwrap();
            if due {
                shop.backdate(hold, 1).await;
            }
            // The first wants more than all: its units stay free.
            let requests = [
                one(product, 7),
                one(plenty, 1_000 * i64::from(due) + 100 * free + 8),
                one(product, 8),
            ];
            let answers = outcomes(&shop.reserve(&requests).await);
            let now_free = shop.counters(product).await.0;
            let refusal = Refusal::SoldOutToWaitlist { free: now_free };
            let waits = || Err(refusal.clone());
            assert_eq!(answers, [waits(), Ok(()), waits()], "{due} {free}");
            let alone = outcomes(&shop.reserve(&[one(product, 9)]).await);
            assert_eq!(alone, [waits()]);
            let requests = [one(plenty, 9), one(product, 9)];
            let all = reserve_batch(&shop.pool, &requests, HOLD_SECONDS, &shop.events).await;
            let refused = all.unwrap().answer.unwrap_err();
            assert_eq!(refused, (product, refusal));
            assert_eq!(shop.entry(many.id).await.position, Some(1));
            // Once nobody waits, everybody may.
            shop.leave(many.id).await;
            if due || free > 0 {
                only(shop.reserve(&[one(product, 9)]).await).unwrap();
            }
        }
    }
    shop.assert_sound().await;
    shop.assert_lines().await;
}

/// The third request would have been served before the units of the due hold were free for the first.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn without_a_line_a_refusal_never_speaks_of_one(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(4).await;
    let held = only(shop.reserve(&[units(product, 9, 2)]).await).unwrap();
    shop.backdate(held.id, 1).await;
    let requests = [units(product, 1, 3), one(product, 2), one(product, 3)];
    let answers = outcomes(&shop.reserve(&requests).await);
    assert_eq!(answers, [Ok(()), Ok(()), Err(Refusal::SoldOut { free: 0 })]);
    shop.assert_sound().await;
}

/// A reserve that finds due units for those who wait serves the requests with what is left.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn what_the_line_leaves_is_for_the_requests_that_found_it(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(4).await;
    let held = only(shop.reserve(&[units(product, 1, 4)]).await).unwrap();
    let first = shop.waits(product, 2).await;
    let second = shop.join(&wish(product, 3, 2)).await.answer.unwrap();
    shop.backdate(held.id, 1).await;

    let requests = [one(product, 8), one(product, 9), one(product, 2)];
    let batch = shop.reserve(&requests).await;

    let first = shop.entry(first.id).await;
    assert_eq!(
        outcomes(&batch),
        [
            Ok(()),
            Err(Refusal::SoldOut { free: 0 }),
            Err(Refusal::AlreadyReserved {
                reservation_id: first.reservation_id.unwrap()
            })
        ]
    );
    assert_eq!(shop.entry(second.id).await.status, EntryStatus::Offered);
    assert_eq!(shop.counters(product).await, (0, 4, 0));
    shop.assert_sound().await;
    shop.assert_lines().await;
}

/// Free units, units that are due, and the user's own hold that is due.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_offered_hold_that_expires_goes_to_the_next_in_line(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let hold = shop.hold(product, 1).await.id;
    let mut line = Vec::new();
    for user_id in 2..5 {
        line.push(shop.waits(product, user_id).await);
    }
    let mut last = hold;
    for entry in &line {
        shop.backdate(last, 1).await;
        assert_eq!(shop.expire(product, 10).await, 1);
        last = shop.entry(entry.id).await.reservation_id.unwrap();
        assert_eq!(shop.get(last).await.user_id, entry.user_id);
    }
    shop.backdate(last, 1).await;
    assert_eq!(shop.expire(product, 10).await, 1);
    assert_eq!(shop.counters(product).await, (1, 0, 0));
    // Who was offered a hold may join again, and gets a new entry.
    let again = shop.waits(product, 2).await;
    assert!(again.id > line[2].id);
    shop.assert_sound().await;
    shop.assert_lines().await;
}

/// The offered hold lasts as long as the product says by then, or else as the API said at the join.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_offered_hold_lasts_from_the_offer_on(pool: PgPool) {
    let shop = Shop::new(pool);
    for (own, seconds) in [(None, HOLD_SECONDS), (Some(7), 7)] {
        let product = shop.product(1).await;
        let hold = shop.hold(product, 1).await.id;
        let entry = shop.waits(product, 2).await;
        let policy = Policy {
            hold_seconds: Some(own.map(|seconds: i64| seconds.try_into().unwrap())),
            ..Policy::default()
        };
        shop.change(product, &policy).await;
        shop.cancel(&[hold]).await;
        let offered = shop.entry(entry.id).await.reservation_id.unwrap();
        let offered = shop.get(offered).await;
        assert!(offered.created_at > entry.created_at);
        let lasts = offered.expires_at - offered.created_at;
        assert_eq!(lasts, Duration::seconds(seconds.into()));
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn after_the_end_of_the_sale_nobody_is_offered_anything(pool: PgPool) {
    let shop = Shop::new(pool);
    // Ended by time, and by a change.
    for by_change in [false, true] {
        let product = shop.product_with(2, stage::window(-2, 2)).await;
        let [hold, other] = [
            shop.hold(product, 1).await.id,
            shop.hold(product, 2).await.id,
        ];
        let line = [shop.waits(product, 3).await, shop.waits(product, 4).await];
        let due = expire::due(&shop.pool).await.unwrap();
        assert!(due.waitlists.is_empty() && due.next_due <= Some(stage::HOLD));
        let due_at_its_end =
            "select count(*) from waitlists l join products p on p.id = l.product_id
            where l.due_at = p.sale_ends_at";
        assert_eq!(shop.count(due_at_its_end).await, 1);
        if by_change {
            shop.change(product, &stage::window(-2, -1)).await;
        } else {
            shop.end_sale(product).await;
            let due = expire::due(&shop.pool).await.unwrap();
            assert_eq!(due.waitlists, [product]);
            assert_eq!(shop.cancel(&[hold]).await.offered, 0);
        }
        let swept = expire::sweep(&shop.pool, 10, Asynchronous, &shop.events, |done| {
            done.offered == 0
        })
        .await;
        assert_eq!(swept.unwrap().expired, 0);
        for entry in &line {
            let closed = shop.entry(entry.id).await;
            assert_eq!(
                (closed.status, closed.position, closed.reservation_id),
                (EntryStatus::Closed, None, None)
            );
            let late = shop.leave(entry.id).await.answer;
            assert_eq!(late.unwrap_err(), Refusal::WaitlistEntryClosed);
        }
        assert!(expire::due(&shop.pool).await.unwrap().waitlists.is_empty());
        shop.cancel(&[hold, other]).await;
        assert_eq!(shop.counters(product).await, (2, 0, 0));
    }
    shop.assert_sound().await;
    shop.assert_lines().await;
}

/// While the sale is not open, units stay free. When it opens, the expirer hands them over.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_line_waits_for_the_start_of_the_sale(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let hold = shop.hold(product, 1).await.id;
    let entry = shop.waits(product, 2).await;
    shop.change(product, &stage::window(1, 2)).await;
    assert_eq!(shop.cancel(&[hold]).await.offered, 0);
    shop.assert_sound().await;
    let refused = outcomes(&shop.reserve(&[one(product, 9)]).await);
    assert_eq!(refused, [Err(Refusal::SaleNotOpen)]);
    let due = expire::due(&shop.pool).await.unwrap();
    assert!(due.waitlists.is_empty() && due.next_due > Some(stage::HOLD));
    let due_at_its_start = "select count(*) from waitlists l join products p on p.id = l.product_id
        where l.due_at = p.sale_starts_at";
    assert_eq!(shop.count(due_at_its_start).await, 1);

    // The time of the start comes.
    sqlx::raw_sql(
        "update products set sale_starts_at = clock_timestamp();
        update waitlists set due_at = clock_timestamp()",
    )
    .execute(&shop.pool)
    .await
    .unwrap();
    shop.assert_sound().await;
    let swept = expire::sweep(&shop.pool, 10, Asynchronous, &shop.events, |_| true).await;
    assert!(swept.is_ok());
    assert_eq!(shop.entry(entry.id).await.status, EntryStatus::Offered);
    shop.assert_sound().await;
    shop.assert_lines().await;

    // By a change of the rules, the start is at once.
    let product = shop.product(1).await;
    let hold = shop.hold(product, 1).await.id;
    let entry = shop.waits(product, 2).await;
    shop.change(product, &stage::window(1, 2)).await;
    shop.cancel(&[hold]).await;
    let changed = shop.change(product, &stage::window(-1, 2)).await;
    assert_eq!((changed.stock, changed.held, changed.waiting), (0, 1, 0));
    assert_eq!(shop.entry(entry.id).await.status, EntryStatus::Offered);
    shop.assert_sound().await;
}

/// Such an entry would keep the units from everybody else.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_entry_that_the_limit_does_not_allow_is_closed_when_its_turn_comes(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(4).await;
    let held = only(shop.reserve(&[units(product, 1, 4)]).await).unwrap();
    let mut line = Vec::new();
    for (user_id, quantity) in [(2, 3), (3, 1), (4, 1), (5, 3), (6, 1)] {
        let entry = shop.join(&wish(product, user_id, quantity)).await;
        line.push(entry.answer.unwrap());
    }
    // One has a hold that a person wrote by hand: a second hold would break every call.
    shop.hold_by_hand(product, 4).await;
    let two = Policy {
        max_per_user: Some(Some(2.try_into().unwrap())),
        ..Policy::default()
    };
    shop.change(product, &two).await;
    assert_eq!(shop.entry(line[0].id).await.position, Some(1));
    assert_eq!(shop.cancel(&[held.id]).await.offered, 2);

    let statuses = join_all(line.iter().map(|entry| shop.entry(entry.id))).await;
    let statuses: Vec<_> = statuses.iter().map(|entry| entry.status).collect();
    let [closed, offered] = [EntryStatus::Closed, EntryStatus::Offered];
    assert_eq!(statuses, [closed, offered, closed, closed, offered]);
    assert_eq!(shop.counters(product).await, (2, 3, 0));

    // Also if it wants more units than are free.
    let product = shop.product(1).await;
    let held = shop.hold(product, 1).await.id;
    let many = shop.join(&wish(product, 2, 3)).await.answer.unwrap();
    let next = shop.waits(product, 3).await;
    shop.change(product, &two).await;
    assert_eq!(shop.cancel(&[held]).await.offered, 1);
    assert_eq!(shop.entry(many.id).await.status, closed);
    assert_eq!(shop.entry(next.id).await.status, offered);
    shop.assert_sound().await;
    shop.assert_lines().await;
}

/// All verbs at once on one product with few units: the order of the line holds, and nobody gets a unit twice.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_line_holds_when_all_come_at_once(_: PgPoolOptions, options: PgConnectOptions) {
    let shop = Shop::with_connections(12, options).await;
    let product = shop.product(3).await;
    let mut holds = Vec::new();
    for user_id in 1..4 {
        holds.push(shop.hold(product, user_id).await.id);
    }
    let joins = join_all((10..40).map(|user_id| shop.waits(product, user_id)));
    let strangers = (50..90).map(|user_id| {
        let (shop, request) = (&shop, one(product, user_id));
        async move { shop.reserve(&[request]).await }
    });
    let strangers = join_all(strangers);
    let (line, served, _) = tokio::join!(joins, strangers, shop.cancel(&holds[..2]));
    // Who reserved before the first joined may have got a unit.
    let served = served.iter().filter(|batch| batch.changed() > 0).count();
    assert!(served <= 2, "{served}");
    let ids: Vec<_> = line.iter().map(|entry| entry.id).collect();
    let leaves = join_all(ids[20..].iter().map(|id| shop.leave(*id)));
    let more = Adjustment::new(5, "found".to_owned()).unwrap();
    let added = adjust_stock(&shop.pool, product, &more, &shop.events);
    let (_, added, _, _) = tokio::join!(
        leaves,
        added,
        shop.cancel(&holds[2..]),
        shop.expire(product, 10)
    );
    added.unwrap();
    shop.assert_sound().await;
    shop.assert_lines().await;
    let product = product::get(&shop.pool, &[product]).await.unwrap();
    assert_eq!(product[0].as_ref().unwrap().stock, 0);
    assert!(OffsetDateTime::now_utc() > product[0].as_ref().unwrap().created_at);
}
