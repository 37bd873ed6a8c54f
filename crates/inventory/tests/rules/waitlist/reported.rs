//! What a call reports to its followers: every offered hold, and whether there are events.

use inventory::{
    ReservationId,
    adjust_stock::{Adjustment, adjust_stock},
    audit,
    confirm_batch::{Reacquire, confirm_batch},
    expire,
    import::{self, Mode, Row},
    locked::IfLocked,
    product::{self, Policy},
    reacquire,
    set_stock::{SetStock, set_stock},
    transition::{Change, Transition},
};
use sqlx::PgPool;
use trace::Span;

use super::stage::{self, Line};
use crate::support::{ALL_EVENTS, Shop, one};

/// What was reported of a call.
#[derive(Debug, PartialEq)]
struct Reported {
    created: u64,
    expired: u64,
    has_event: bool,
}

fn reported<'a>(
    shop: &Shop,
    transitions: impl Iterator<Item = Transition<'a>> + Clone,
) -> Reported {
    let sum = |count: fn(Transition<'a>) -> u64| transitions.clone().map(count).sum();
    Reported {
        created: sum(|transition| match transition {
            Transition::Of(Change::Reserved | Change::Reacquired, _) => 1,
            Transition::Offered(holds) => holds,
            _ => 0,
        }),
        expired: sum(|transition| match transition {
            Transition::Expired(holds) => holds,
            _ => 0,
        }),
        has_event: transitions.clone().any(|it| it.has_event(&shop.events)),
    }
}

/// A product with a SKU, whose two units were held by users 1 and 2 until a minute ago. User 3 waits.
async fn product_with_a_line(shop: &Shop, sku: &str) -> (inventory::ProductId, [ReservationId; 2]) {
    let product = shop.product(2).await;
    let key = sku.parse().unwrap();
    let policy = Policy::default();
    let named = product::change(&shop.pool, product, None, Some(&key), &policy, &shop.events).await;
    named.unwrap().answer.unwrap();
    let holds = [
        shop.hold(product, 1).await.id,
        shop.hold(product, 2).await.id,
    ];
    shop.waits(product, 3).await;
    for hold in holds {
        shop.backdate(hold, 60).await;
    }
    (product, holds)
}

const WAYS: [&str; 9] = [
    "late payment",
    "order paid late",
    "units removed",
    "too many removed",
    "units set",
    "rules changed",
    "import",
    "expire",
    "reserve",
];

async fn act(shop: &Shop, way: &str, sku: &str) -> Reported {
    let (product, [hold, other]) = product_with_a_line(shop, sku).await;
    let (pool, events) = (&shop.pool, &shop.events);
    match way {
        "late payment" => {
            let late = reacquire::reacquire(pool, hold, &Span::current(), events).await;
            reported(shop, late.unwrap().transitions())
        }
        "order paid late" => {
            let late = confirm_batch(pool, &[hold], Reacquire::Expired, events).await;
            reported(shop, late.unwrap().transitions())
        }
        "units removed" | "too many removed" => {
            let delta = if way == "units removed" { -1 } else { -2 };
            let fewer = Adjustment::new(delta, "lost".to_owned()).unwrap();
            let adjusted = adjust_stock(pool, product, &fewer, events).await.unwrap();
            assert_eq!(adjusted.answer.is_ok(), delta == -1);
            reported(shop, adjusted.transitions())
        }
        "units set" => {
            let wanted = SetStock {
                stock: 1,
                expected: None,
                reason: "count".to_owned().try_into().unwrap(),
            };
            let set = set_stock(pool, product, &wanted, events).await.unwrap();
            reported(shop, set.transitions())
        }
        "rules changed" => {
            // While the sale is not open, units stay free.
            shop.change(product, &stage::window(1, 2)).await;
            assert_eq!(shop.expire(product, 10).await, 2);
            let before = shop.count("select count(*) from outbox_events").await;
            let rules = stage::window(-1, 2);
            let changed = product::change(pool, product, None, None, &rules, events).await;
            let changed = reported(shop, changed.unwrap().transitions());
            let wrote = shop.count("select count(*) from outbox_events").await > before;
            assert_eq!(changed.has_event, wrote);
            Reported {
                // Those of the sweep.
                expired: 2,
                has_event: changed.has_event || events_of_a_sweep(shop),
                ..changed
            }
        }
        "import" => {
            let row = Row {
                sku: sku.parse().unwrap(),
                name: None,
                stock: Some(3),
                policy: Policy::default(),
            };
            let imported = import::import(pool, &[&row], Mode::Write, events).await;
            reported(shop, imported.unwrap().transitions())
        }
        "expire" => {
            let commit = expire::Commit::Asynchronous;
            let done = expire::expire(pool, product, 10, commit, IfLocked::Skip, events).await;
            reported(shop, done.unwrap().unwrap().transitions())
        }
        _ => {
            assert_eq!(way, "reserve");
            shop.backdate(other, -300).await;
            reported(shop, shop.reserve(&[one(product, 9)]).await.transitions())
        }
    }
}

fn events_of_a_sweep(shop: &Shop) -> bool {
    Transition::Expired(2).has_event(&shop.events)
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn every_offered_hold_and_every_event_is_reported(pool: PgPool) {
    let mut shop = Shop::new(pool);
    for way in WAYS {
        for (n, wanted) in ALL_EVENTS.split(',').chain([""]).enumerate() {
            shop.events = "".parse().unwrap();
            let before = audit::tally(&shop.pool).await.unwrap();
            let messages = shop.count("select count(*) from outbox_events").await;
            shop.events = wanted.trim().parse().unwrap();
            // The two holds of the stage, and their events.
            let [made, created] = [2, 2 * i64::from(wanted == "ReservationCreated")];
            let reported = act(&shop, way, &format!("{}-{n}", way.replace(' ', "-"))).await;
            let after = audit::tally(&shop.pool).await.unwrap();
            let count = |before: i64, after: i64| (after - before).unsigned_abs();
            assert_eq!(
                reported,
                Reported {
                    created: count(before.created + made, after.created),
                    expired: count(before.expired, after.expired),
                    has_event: shop.count("select count(*) from outbox_events").await
                        > messages + created,
                },
                "{way}: {wanted}"
            );
            assert!(reported.created > 0, "{way}");
        }
    }
    shop.assert_lines().await;
}
