//! A long line and very many due holds of one product at once, beside products that are quiet.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use inventory::expire::{self, Commit};
use sqlx::PgPool;

use super::{
    stage::crowd_waits,
    turns::{falls_due, with_a_line},
};
use crate::support::{Shop, one, outcomes};

const HOLDS: i32 = 100_000;
const ENTRIES: i32 = 10_000;
const BATCH: i32 = 500;

/// Each transaction lasts at least so long. All together last longer than the time until the last hold falls due and is
/// found, also on a fast machine.
const AT_LEAST: Duration = Duration::from_millis(10);

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn ten_thousand_wait_and_a_hundred_thousand_holds_fall_due_at_once(pool: PgPool) {
    let shop = Shop::new(pool);
    let storm = shop.product(HOLDS.into()).await;
    shop.crowd(storm, HOLDS, -60).await;
    crowd_waits(&shop, storm, ENTRIES).await;
    // One hold falls due before the sweep, one during it, and one product has no hold that falls due.
    let [before, during] = [with_a_line(&shop).await, with_a_line(&shop).await];
    falls_due(&shop, before, -1.0).await;
    falls_due(&shop, during, 0.3).await;
    let quiet = shop.product(1_000_000).await;

    let (mut batches, over) = (Vec::new(), AtomicBool::new(false));
    let sweep = async {
        let events = &shop.events;
        let swept = expire::sweep(&shop.pool, BATCH, Commit::Asynchronous, events, |done| {
            batches.push((done.expired, done.offered));
            thread::sleep(AT_LEAST);
            true
        });
        let swept = swept.await;
        over.store(true, Relaxed);
        swept.unwrap()
    };
    let reserves = async {
        let mut reserved = 0;
        while !over.load(Relaxed) {
            reserved += 1;
            let batch = shop.reserve(&[one(quiet, reserved)]).await;
            assert_eq!((outcomes(&batch), batch.expired), (vec![Ok(())], 0));
        }
        reserved
    };
    let (swept, reserved) = tokio::join!(sweep, reserves);

    assert_eq!(swept.expired, u64::from(HOLDS.unsigned_abs()) + 2);
    assert!(reserved > 1, "{reserved}");
    let full = u64::from(BATCH.unsigned_abs());
    let of_storm: Vec<(u64, u64)> = batches.iter().copied().filter(|it| *it != (1, 1)).collect();
    // Small ones at first, and the rest at last.
    let sizes: Vec<u64> = of_storm.iter().map(|it| it.0).collect();
    assert_eq!(
        sizes,
        [&[50, 100, 200, 400][..], &[full; 198], &[250]].concat()
    );
    // The line gets all units of each transaction, until nobody waits.
    let mut waiting = u64::from(ENTRIES.unsigned_abs());
    for (expired, offered) in &of_storm {
        assert_eq!(*offered, waiting.min(*expired));
        waiting -= offered;
    }
    assert_eq!(waiting, 0);
    let others: Vec<usize> = (0..batches.len())
        .filter(|place| batches[*place] == (1, 1))
        .collect();
    let [first, second] = others[..] else {
        panic!("{others:?} of {batches:?}");
    };
    // The one in its turn, and the other long before the end of the storm.
    assert_eq!(first, 1);
    let last = batches.iter().rposition(|it| it.0 == full).unwrap();
    assert!(second < last, "{second} of {last}");
    assert_eq!(
        shop.counters(storm).await,
        (HOLDS - ENTRIES, ENTRIES, 0),
        "all who waited have their units"
    );
    let out_of_turn = shop
        .count(
            "select count(*) from (
                select e.status, e.ended_at, e.reservation_id,
                    lag(e.ended_at) over line as ended_before, lag(e.reservation_id) over line as hold_before
                from waitlist_entries e window line as (partition by e.product_id order by e.id)
            ) e
            where e.status <> 'OFFERED' or e.ended_at < e.ended_before or e.reservation_id <= e.hold_before",
        )
        .await;
    assert_eq!(out_of_turn, 0);
    shop.assert_sound().await;
}
