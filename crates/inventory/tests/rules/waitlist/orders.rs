//! Orders of several products, one of which has a line.

use inventory::{
    ProductId, ReservationId, WaitlistEntryId,
    expire::{self, Commit},
    reservation::Refusal,
    reserve_batch::reserve_batch,
    waitlist::EntryStatus,
};
use sqlx::PgPool;

use super::stage::Line as _;
use crate::support::{HOLD_SECONDS, Shop, one};

/// The only unit of the product is held past its deadline. User 2 waits for it, and so many others behind. Returns the
/// hold, and the entry of user 2.
async fn a_due_unit_with_a_line(
    shop: &Shop,
    product: ProductId,
    others: i64,
) -> (ReservationId, WaitlistEntryId) {
    let hold = shop.hold(product, 1).await.id;
    let entry = shop.waits(product, 2).await.id;
    for other in 0..others {
        shop.waits(product, 3 + other).await;
    }
    shop.backdate(hold, 1).await;
    (hold, entry)
}

/// A refused order is rolled back, and with it what it handed over, unless the refusal names it. The expirer does that again.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_refused_order_leaves_due_units_to_the_expirer(pool: PgPool) {
    let shop = Shop::new(pool);
    for others in [0, 1] {
        let [product, plenty] = [shop.product(1).await, shop.product(9).await];
        let (hold, entry) = a_due_unit_with_a_line(&shop, product, others).await;
        let requests = [one(product, 9), one(plenty, 9)];
        let refused = reserve_batch(&shop.pool, &requests, HOLD_SECONDS, &shop.events).await;
        let refused = refused.unwrap();
        assert_eq!((refused.expired, refused.offered), (0, 0));
        let refusal = match others {
            0 => Refusal::SoldOut { free: 0 },
            _ => Refusal::SoldOutToWaitlist { free: 0 },
        };
        assert_eq!(refused.answer.unwrap_err(), (product, refusal));
        assert_eq!(shop.entry(entry).await.status, EntryStatus::Waiting);
        assert_eq!(shop.stored(hold).await.status, "ACTIVE");
        assert_eq!(expire::due(&shop.pool).await.unwrap().products, [product]);
        shop.assert_sound().await;

        let (commit, events) = (Commit::Asynchronous, &shop.events);
        let swept = expire::sweep(&shop.pool, 10, commit, events, |_| true).await;
        assert_eq!(swept.unwrap().expired, 1);
        assert_eq!(shop.entry(entry).await.status, EntryStatus::Offered);
    }
    shop.assert_sound().await;
    shop.assert_lines().await;
}

/// The user who orders is first in the line of one of the products. A due unit of it is theirs before the order is decided,
/// and the order is refused because of that hold. The answer names it, so it must not be rolled back with the order.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_refused_order_names_a_hold_that_exists(pool: PgPool) {
    let shop = Shop::new(pool);
    for (others, ordered_first) in [(0, true), (0, false), (1, true), (1, false)] {
        let [product, plenty] = [shop.product(1).await, shop.product(9).await];
        let (_, entry) = a_due_unit_with_a_line(&shop, product, others).await;
        let mut requests = [one(product, 2), one(plenty, 2)];
        if !ordered_first {
            requests.reverse();
        }
        let refused = reserve_batch(&shop.pool, &requests, HOLD_SECONDS, &shop.events).await;
        let refused = refused.unwrap();
        let (refused_product, refusal) = refused.answer.unwrap_err();
        assert_eq!(refused_product, product);
        let Refusal::AlreadyReserved { reservation_id } = refusal else {
            panic!("{refusal:?}");
        };
        let named = shop.get(reservation_id).await;
        assert_eq!((named.product_id, named.user_id.get()), (product, 2));
        assert_eq!((refused.expired, refused.offered), (1, 1));
        assert_eq!(shop.entry(entry).await.status, EntryStatus::Offered);
        assert_eq!(shop.counters(plenty).await, (9, 0, 0));
    }
    shop.assert_sound().await;
    shop.assert_lines().await;
}
