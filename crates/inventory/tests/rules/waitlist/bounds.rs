//! Long lines, many due holds at once, and products without a line.

use std::time::Duration;

use inventory::{
    adjust_stock::{Adjustment, adjust_stock},
    expire,
    import::{self, Mode, Row},
    product::Policy,
    reacquire,
    reservation::Refusal,
    waitlist,
};
use sqlx::{
    AssertSqlSafe, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use trace::Span;

use super::stage::{Line, crowd_waits, wish};
use crate::support::{ALL_EVENTS, Shop, one, outcomes};

/// The number of offers of one transaction is limited, and the expirer goes on.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn units_for_a_long_line_are_offered_in_several_transactions(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(0).await;
    crowd_waits(&shop, product, 3_000).await;
    let many = Adjustment::new(2_600, "delivery".to_owned()).unwrap();
    let adjusted = adjust_stock(&shop.pool, product, &many, &shop.events).await;
    assert_eq!(adjusted.unwrap().offered, 1_000);
    // The rest is due. Until then it is nobody else's, and the audit knows.
    shop.assert_sound().await;
    assert_eq!(expire::due(&shop.pool).await.unwrap().waitlists, [product]);
    let mut batches = Vec::new();
    let swept = expire::sweep(
        &shop.pool,
        250,
        expire::Commit::Asynchronous,
        &shop.events,
        |done| {
            batches.push(done.offered);
            true
        },
    );
    let swept = swept.await.unwrap();
    assert_eq!(batches, [1_000, 600]);
    assert!(swept.next_due > Some(Duration::from_secs(1)));
    assert_eq!(shop.counters(product).await, (0, 2_600, 0));
    shop.assert_sound().await;
    shop.assert_lines().await;
}

/// So is the number of holds that a reserve reclaims for those who wait.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn due_holds_for_a_long_line_are_reclaimed_in_several_transactions(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(3_000).await;
    shop.crowd(product, 3_000, -60).await;
    crowd_waits(&shop, product, 2_000).await;
    for (expired, refusals) in [(1_000, 1), (1_001, 0)] {
        let batch = shop.reserve(&[one(product, 1)]).await;
        assert_eq!(batch.expired, expired);
        let refused = outcomes(&batch).iter().filter(|it| it.is_err()).count();
        assert_eq!(refused, refusals);
    }
    let line = shop.count("select count(*) from waitlist_entries where status = 'OFFERED'");
    assert_eq!(line.await, 2_000);
    shop.assert_sound().await;
    shop.assert_lines().await;
}

/// So is the number of holds that one request ends to find units for itself, where the line takes all of them.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_request_that_needs_units_of_due_holds_ends_few_for_a_long_line(pool: PgPool) {
    let shop = Shop::new(pool);
    for way in ["late payment", "units removed"] {
        // The entries and their units, the expired and offered holds of the first call, and whether it gets its unit.
        // Then the expirer goes on, until so many wait.
        for (entries, units, expired, offered, served, left) in [
            (2_500, 1, 0, 0, false, 0),
            (900, 5, 1_000, 200, false, 300),
            (600, 1, 1_000, 600, true, 0),
        ] {
            let product = shop.product(3_001).await;
            let lost = shop.stale_hold(product, 1, 3_600).await;
            shop.crowd(product, 3_000, -60).await;
            crowd_waits(&shop, product, entries).await;
            sqlx::query("update waitlist_entries set quantity = $2 where product_id = $1")
                .bind(product)
                .bind(units)
                .execute(&shop.pool)
                .await
                .unwrap();
            let (told, refused) = if way == "late payment" {
                let span = Span::current();
                let late = reacquire::reacquire(&shop.pool, lost, &span, &shop.events);
                let mut batch = late.await.unwrap();
                let told = (batch.expired, batch.offered);
                (told, batch.answers.remove(0).err())
            } else {
                let fewer = Adjustment::new(-1, "lost".to_owned()).unwrap();
                let adjusted = adjust_stock(&shop.pool, product, &fewer, &shop.events).await;
                let adjusted = adjusted.unwrap();
                ((adjusted.expired, adjusted.offered), adjusted.answer.err())
            };
            assert_eq!(told, (expired, offered), "{way}: {entries}");
            let refusal = match way {
                "late payment" => Refusal::ExpiredSoldOut,
                _ => Refusal::InsufficientStock { free: 0 },
            };
            assert_eq!(refused, (!served).then_some(refusal), "{way}: {entries}");
            let commit = expire::Commit::Asynchronous;
            let swept = expire::sweep(&shop.pool, 500, commit, &shop.events, |_| true);
            swept.await.unwrap();
            let waiting = "select waiting from products order by id desc limit 1";
            let waiting: i32 = sqlx::query_scalar(waiting)
                .fetch_one(&shop.pool)
                .await
                .unwrap();
            assert_eq!(waiting, left, "{way}: {entries}");
        }
    }
    shop.assert_sound().await;
    shop.assert_lines().await;
}

/// A call that frees units of many products ends as many entries, and holds, as one of a single product.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_lines_of_several_products_share_the_limit_of_a_call(pool: PgPool) {
    let shop = Shop::new(pool);
    let rows = |stock| {
        ["A", "B", "C", "D"].map(|sku| Row {
            sku: sku.parse().unwrap(),
            name: Some(sku.to_owned().try_into().unwrap()),
            stock: Some(stock),
            policy: Policy::default(),
        })
    };
    let import = async |stock| {
        let rows = rows(stock);
        let rows: Vec<&Row> = rows.iter().collect();
        let imported = import::import(&shop.pool, &rows, Mode::Write, &shop.events).await;
        imported.unwrap().offered
    };
    assert_eq!(import(0).await, 0);
    let products = [1, 2, 3, 4].map(|id| inventory::ProductId::try_from(id).unwrap());
    for product in products {
        crowd_waits(&shop, product, 700).await;
    }
    assert_eq!(import(600).await, 1_200);
    let due = expire::due(&shop.pool).await.unwrap();
    assert_eq!(due.waitlists.len(), 2, "{due:?}");
    shop.assert_sound().await;
    // What the expirer has not handed over yet is for nobody else, and the first request hands it over.
    let requests = products.map(|product| one(product, 1));
    assert_eq!(shop.reserve(&requests).await.offered, 1_200);
    shop.assert_sound().await;
    shop.assert_lines().await;

    // The same with holds that are due.
    let mut requests = Vec::new();
    for _ in 0..4 {
        let product = shop.product(500).await;
        shop.crowd(product, 500, -60).await;
        crowd_waits(&shop, product, 500).await;
        requests.push(one(product, 1));
    }
    let batch = shop.reserve(&requests).await;
    assert_eq!((batch.expired, batch.offered), (1_000, 1_000));
    shop.assert_sound().await;
}

/// After the end of the sale, a long line is closed in several transactions.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_long_line_is_closed_in_several_transactions(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(5).await;
    crowd_waits(&shop, product, 2_500).await;
    shop.end_sale(product).await;
    let mut transactions = 0;
    let swept = expire::sweep(
        &shop.pool,
        250,
        expire::Commit::Asynchronous,
        &shop.events,
        |_| {
            transactions += 1;
            true
        },
    );
    swept.await.unwrap();
    assert_eq!(transactions, 3);
    let closed = shop.count("select count(*) from waitlist_entries where status = 'CLOSED'");
    assert_eq!(closed.await, 2_500);
    assert_eq!(shop.counters(product).await, (5, 0, 0));
    shop.assert_sound().await;
}

/// A position is counted up to a limit.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_end_of_a_very_long_line_has_no_position(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(0).await;
    crowd_waits(&shop, product, 9_999).await;
    let mut positions = Vec::new();
    for user_id in 1..3 {
        let joined = shop.waits(product, user_id).await;
        let read = shop.entry(joined.id).await;
        assert_eq!(read.position, joined.position);
        positions.push(read.position);
    }
    assert_eq!(positions, [Some(waitlist::POSITION_MAX), None]);
}

/// The statements on the tables of waitlists that a session has run so far: their scans.
async fn scans(shop: &Shop) -> i64 {
    sqlx::raw_sql("select pg_stat_force_next_flush()")
        .execute(&shop.pool)
        .await
        .unwrap();
    shop.count(
        "select sum(seq_scan + coalesce(idx_scan, 0) + n_tup_ins + n_tup_upd)::bigint
        from pg_stat_user_tables where relname in ('waitlist_entries', 'waitlists')",
    )
    .await
}

/// No verb reads or writes a waitlist for a product that has none, and none runs a statement more.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_product_without_a_line_costs_nothing(_: PgPoolOptions, options: PgConnectOptions) {
    let mut shop = Shop::with_connections(1, options).await;
    shop.events = ALL_EVENTS.parse().unwrap();
    let [product, other] = [shop.product(50).await, shop.product(1).await];
    let before = scans(&shop).await;
    for user_id in 1..10 {
        let [first, second] = [
            shop.hold(product, user_id).await.id,
            shop.hold(product, user_id + 10).await.id,
        ];
        shop.reserve(&[one(product, user_id + 20), one(other, user_id)])
            .await;
        shop.stale_hold(product, user_id + 30, 60).await;
        shop.reserve(&[one(other, 99), one(product, user_id + 30)])
            .await;
        shop.confirm(&[first]).await;
        shop.cancel(&[second]).await;
        shop.return_sold(&[first]).await;
        shop.stale_hold(product, user_id + 40, 60).await;
        assert_eq!(shop.expire(product, 10).await, 1);
        let more = Adjustment::new(1, "found".to_owned()).unwrap();
        let adjusted = adjust_stock(&shop.pool, product, &more, &shop.events).await;
        assert_eq!(adjusted.unwrap().offered, 0);
    }
    assert_eq!(scans(&shop).await, before);
    shop.waits(other, 77).await;
    assert!(scans(&shop).await > before, "the count notices a line");
}

/// With statistics from a day without entries, each call reads about as many entries as it offers.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_call_does_not_read_the_whole_line(_: PgPoolOptions, options: PgConnectOptions) {
    let shop = Shop::with_connections(1, options).await;
    sqlx::raw_sql(
        "alter table waitlist_entries set (autovacuum_enabled = off);
        alter table waitlists set (autovacuum_enabled = off);
        analyze waitlist_entries, waitlists",
    )
    .execute(&shop.pool)
    .await
    .unwrap();
    let product = shop.product(100).await;
    let mut holds = Vec::new();
    for user_id in 1..=100 {
        holds.push(shop.hold(product, user_id).await.id);
    }
    crowd_waits(&shop, product, 20_000).await;
    let read = async || {
        sqlx::raw_sql("select pg_stat_force_next_flush()")
            .execute(&shop.pool)
            .await
            .unwrap();
        let read = "select sum(idx_tup_read)::bigint + (
                select sum(seq_tup_read)::bigint from pg_stat_user_tables
                where relname in ('waitlist_entries', 'waitlists')
            )
            from pg_stat_user_indexes where relname in ('waitlist_entries', 'waitlists')";
        sqlx::query_scalar::<_, i64>(AssertSqlSafe(read))
            .fetch_one(&shop.pool)
            .await
            .unwrap()
    };
    for (call, hold) in holds.iter().enumerate() {
        let before = read().await;
        assert_eq!(shop.cancel(&[*hold]).await.offered, 1);
        // Two looks at the first 250, and the entries that earlier calls ended and no vacuum has removed.
        let entries = read().await - before;
        assert!(entries <= 550 + 4 * call as i64, "{call}: {entries}");
        let before = read().await;
        shop.reserve(&[one(product, 1_000)]).await;
        assert!(read().await - before <= 600 + 4 * call as i64);
        let before = read().await;
        let entry = shop.join(&wish(product, 2_000 + call as i64, 1)).await;
        assert!(read().await - before <= 1_200 + 8 * call as i64);
        let before = read().await;
        shop.leave(entry.answer.unwrap().id).await;
        assert!(read().await - before <= 600 + 4 * call as i64);
    }
    shop.assert_lines().await;
}
