//! The time between the end of a sale and the sweep that closes its line: nobody waits any more.

use inventory::{
    ReservationId,
    adjust_stock::{Adjustment, adjust_stock},
    confirm_batch::{Reacquire, confirm_batch},
    expire::{self, Commit},
    reacquire::reacquire,
    reservation::Refusal,
    waitlist::EntryStatus,
};
use sqlx::PgPool;
use trace::Span;

use super::stage::{Line as _, crowd_waits, wish};
use crate::support::{Shop, only};

/// What takes one free unit away from those who wait.
#[derive(Clone, Copy, Debug)]
enum Taker {
    LatePayment,
    LateOrder,
    Removal,
}

const TAKERS: [Taker; 3] = [Taker::LatePayment, Taker::LateOrder, Taker::Removal];

impl Taker {
    /// Returns the refusal, if any, and the numbers of expired and offered holds. `lost` is an expired hold.
    async fn takes(self, shop: &Shop, lost: ReservationId) -> (Option<Refusal>, u64, u64) {
        let (pool, events) = (&shop.pool, &shop.events);
        match self {
            Self::LatePayment => {
                let paid = reacquire(pool, lost, &Span::current(), events).await;
                let paid = paid.unwrap();
                let (expired, offered) = (paid.expired, paid.offered);
                (only(paid).err(), expired, offered)
            }
            Self::LateOrder => {
                let paid = confirm_batch(pool, &[lost], Reacquire::Expired, events).await;
                let paid = paid.unwrap();
                let refusal = paid.answer.err().map(|(_, refusal)| refusal);
                (refusal, paid.expired, paid.offered)
            }
            Self::Removal => {
                let product = shop.get(lost).await.product_id;
                let fewer = Adjustment::new(-1, "lost".to_owned()).unwrap();
                let removed = adjust_stock(pool, product, &fewer, events).await.unwrap();
                (removed.answer.err(), removed.expired, removed.offered)
            }
        }
    }
}

/// One unit is free, and the first in line wants two.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_late_payment_takes_what_the_line_left_free(pool: PgPool) {
    let shop = Shop::new(pool);
    for taker in [Taker::LatePayment, Taker::LateOrder] {
        let product = shop.product(2).await;
        let [lost, other] = [
            shop.hold(product, 1).await.id,
            shop.hold(product, 2).await.id,
        ];
        let entry = shop.join(&wish(product, 3, 2)).await.answer.unwrap();
        shop.backdate(lost, 60).await;
        shop.expire(product, 10).await;
        assert_eq!(shop.counters(product).await, (1, 1, 0));
        let refused = taker.takes(&shop, lost).await;
        assert_eq!(refused, (Some(Refusal::ExpiredSoldOut), 0, 0), "{taker:?}");

        shop.end_sale(product).await;
        assert_eq!(taker.takes(&shop, lost).await, (None, 0, 0), "{taker:?}");
        assert_eq!(shop.counters(product).await, (0, 1, 1));

        // Until the sweep, the entry reads as before. It gets nothing.
        assert_eq!(shop.entry(entry.id).await.status, EntryStatus::Waiting);
        assert_eq!(shop.cancel(&[other]).await.offered, 0);
        let (commit, events) = (Commit::Asynchronous, &shop.events);
        let swept = expire::sweep(&shop.pool, 10, commit, events, |_| true).await;
        swept.unwrap();
        assert_eq!(shop.entry(entry.id).await.status, EntryStatus::Closed);
    }
    shop.assert_sound().await;
    shop.assert_lines().await;
}

/// No unit is free, but holds are due, and more users wait than one transaction may serve.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn units_of_due_holds_are_free_however_many_waited(pool: PgPool) {
    let shop = Shop::new(pool);
    for taker in TAKERS {
        for entries in [1, 900, 1_500] {
            let product = shop.product(10).await;
            let lost = shop.hold(product, 1).await.id;
            shop.crowd(product, 9, 60).await;
            crowd_waits(&shop, product, entries).await;
            shop.backdate(lost, 60).await;
            shop.end_sale(product).await;
            let taken = taker.takes(&shop, lost).await;
            assert_eq!(taken, (None, 1, 0), "{taker:?}, {entries} entries");
        }
    }
    shop.assert_sound().await;
    shop.assert_lines().await;
}
