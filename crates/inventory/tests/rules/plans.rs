//! Plans with stale statistics: how much a call reads with 20,000 live holds of one product, when the statistics date
//! from the minute before the sale.

use std::ops::RangeInclusive;

use inventory::{
    ProductId,
    adjust_stock::{Adjustment, adjust_stock},
    expire,
    extend::{self, Extend},
    list::{Filter, Page, list},
    locked, outbox,
    product::Policy,
    reacquire,
    reservation::Status,
    stock_ledger,
    waitlist::{self, EntryStatus, Order},
};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use trace::Span;

use crate::support::{Changed as _, MAX_HOLD_SECONDS, Shop, one, user};

const HOLDS: i32 = 20_000;
/// Number of rows of a call, and the maximum number of index entries that it may read per row.
const ROWS: i64 = 100;
const ENTRIES_PER_ROW: i64 = 12;
/// The first five plans of a prepared statement are custom plans, later ones may be generic.
const CALLS: i64 = 8;

/// A shop with one connection, so that its read counters are complete.
async fn shop_with_stale_statistics(options: PgConnectOptions) -> Shop {
    let shop = Shop::with_connections(1, options).await;
    sqlx::raw_sql(
        "alter table products set (autovacuum_enabled = off);
        alter table reservations_active set (autovacuum_enabled = off);
        alter table reservations_ended set (autovacuum_enabled = off);
        alter table outbox_events set (autovacuum_enabled = off);
        analyze products, reservations, outbox_events",
    )
    .execute(&shop.pool)
    .await
    .unwrap();
    // The connection also caches plans for tables with a few rows. The plans of a reclaim may come from any of its
    // callers.
    let short = shop.product(1).await;
    shop.stale_hold(short, 1, 60).await;
    let taken = Adjustment::new(-1, "broken".to_owned()).unwrap();
    let adjusted = adjust_stock(&shop.pool, short, &taken, &shop.events).await;
    assert_eq!(adjusted.unwrap().expired, 1);
    let product = shop.product(100).await;
    for call in 0..CALLS {
        let [first, last] = [3 * call + 1, 3 * call + 2];
        let sale = shop.hold(product, first).await.id;
        let gone = shop.hold(product, last).await.id;
        shop.stale_hold(product, last + 1, 60).await;
        shop.confirm(&[sale]).await;
        shop.cancel(&[gone]).await;
        assert_eq!(shop.expire(product, 1).await, 1);
    }
    shop
}

/// Does what autovacuum does within about a minute. (Without index_cleanup a few dead entries would stay in the indexes.)
async fn analyze(shop: &Shop) {
    sqlx::raw_sql("vacuum (analyze, index_cleanup on) reservations")
        .execute(&shop.pool)
        .await
        .unwrap();
}

/// Number of index entries and rows read so far, by index and table.
async fn read(shop: &Shop) -> Vec<(String, i64)> {
    sqlx::raw_sql("select pg_stat_force_next_flush()")
        .execute(&shop.pool)
        .await
        .unwrap();
    sqlx::query_as(
        "select indexrelname::text, idx_tup_read from pg_stat_user_indexes
        union all
        select relname::text, seq_tup_read from pg_stat_user_tables
        order by 1",
    )
    .fetch_all(&shop.pool)
    .await
    .unwrap()
}

/// Fails unless the number of entries read between `before` and now is within `expected`.
async fn assert_read(
    shop: &Shop,
    before: &[(String, i64)],
    expected: RangeInclusive<i64>,
    what: &str,
) {
    let after = read(shop).await;
    let entries: i64 = after.iter().zip(before).map(|(a, b)| a.1 - b.1).sum();
    let by_index: Vec<_> = after
        .iter()
        .zip(before)
        .map(|((name, after), (_, before))| (name, after - before))
        .filter(|(_, entries)| *entries > 0)
        .collect();
    assert!(
        expected.contains(&entries),
        "{what} read {entries}, not {expected:?}: {by_index:?}"
    );
}

async fn each_verb_reads_its_own_rows(shop: &Shop, product: ProductId) {
    let mut holds = Vec::new();
    for call in 0..CALLS {
        let requests: Vec<_> = (1..=ROWS).map(|n| one(product, call * ROWS + n)).collect();
        let before = read(shop).await;
        let batch = shop.reserve(&requests).await;
        assert_eq!((batch.changed(), batch.expired), (ROWS as u64, 0));
        assert_read(shop, &before, 1..=ROWS * ENTRIES_PER_ROW, "reserve").await;
        holds.push(
            batch
                .answers
                .into_iter()
                .map(|a| a.unwrap().id)
                .collect::<Vec<_>>(),
        );
    }
    for ids in &holds {
        let longer: Vec<_> = ids
            .iter()
            .map(|&id| Extend {
                id,
                seconds: 900.try_into().unwrap(),
            })
            .collect();
        let before = read(shop).await;
        locked::products_of(&shop.pool, ids).await.unwrap();
        assert_read(shop, &before, 1..=ROWS * ENTRIES_PER_ROW, "products of").await;
        let before = read(shop).await;
        let batch = extend::extend(&shop.pool, &longer, MAX_HOLD_SECONDS).await;
        assert_eq!(batch.unwrap().changed(), ROWS as u64);
        assert_read(shop, &before, 1..=ROWS * ENTRIES_PER_ROW, "extend").await;
        let (sell, give_up) = ids.split_at(ids.len() / 2);
        let before = read(shop).await;
        assert_eq!(shop.confirm(sell).await.changed(), sell.len() as u64);
        assert_read(shop, &before, 1..=ROWS * ENTRIES_PER_ROW, "confirm").await;
        let before = read(shop).await;
        assert_eq!(shop.cancel(give_up).await.changed(), give_up.len() as u64);
        assert_read(shop, &before, 1..=ROWS * ENTRIES_PER_ROW, "cancel").await;
        let (back, _) = sell.split_at(sell.len() / 2);
        let before = read(shop).await;
        assert_eq!(shop.return_sold(back).await.changed(), back.len() as u64);
        assert_read(shop, &before, 1..=ROWS * ENTRIES_PER_ROW, "return").await;
    }
}

/// A user's purchases are counted in the user's own reservations.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_users_limit_is_counted_by_the_users_own_rows(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let shop = shop_with_stale_statistics(options).await;
    let limited = Policy {
        max_per_user: Some(Some(2.try_into().unwrap())),
        ..Policy::default()
    };
    let product = shop.product_with(2 * i64::from(HOLDS), limited).await;
    shop.crowd(product, HOLDS, 3600).await;
    sqlx::raw_sql(
        "update products set sold = sold + held, held = 0 where held > 100;
        update reservations set status = 'CONFIRMED', confirmed_at = created_at where status = 'ACTIVE'",
    )
    .execute(&shop.pool)
    .await
    .unwrap();
    for call in 0..CALLS {
        let requests: Vec<_> = (1..=ROWS).map(|n| one(product, call * ROWS + n)).collect();
        let before = read(&shop).await;
        assert_eq!(shop.reserve(&requests).await.changed(), ROWS as u64);
        assert_read(&shop, &before, 1..=ROWS * ENTRIES_PER_ROW, "reserve").await;
        let lost = shop.stale_hold(product, 1000 * (call + 1), 60).await;
        let before = read(&shop).await;
        let batch = reacquire::reacquire(&shop.pool, lost, &Span::current(), &shop.events).await;
        assert_eq!(batch.unwrap().changed(), 1);
        assert_read(&shop, &before, 1..=ENTRIES_PER_ROW, "reacquire").await;
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_call_reads_its_own_rows_and_not_all_live_holds(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let shop = shop_with_stale_statistics(options).await;
    let product = shop.product(2 * i64::from(HOLDS)).await;
    shop.crowd(product, HOLDS, 3600).await;
    each_verb_reads_its_own_rows(&shop, product).await;
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_call_reads_its_own_rows_and_not_all_due_holds(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let shop = shop_with_stale_statistics(options).await;
    let product = shop.product(2 * i64::from(HOLDS)).await;
    shop.crowd(product, HOLDS, -3600).await;
    each_verb_reads_its_own_rows(&shop, product).await;
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_reclaim_reads_what_it_ends(_: PgPoolOptions, options: PgConnectOptions) {
    let shop = shop_with_stale_statistics(options).await;
    let [product, other] = [
        shop.product(HOLDS.into()).await,
        shop.product(HOLDS.into()).await,
    ];
    shop.crowd(other, HOLDS, -7200).await;
    shop.crowd(product, HOLDS, -3600).await;

    for call in 0..CALLS {
        let requests: Vec<_> = (1..=ROWS).map(|n| one(product, call * ROWS + n)).collect();
        let before = read(&shop).await;
        assert_eq!(shop.reserve(&requests).await.expired, ROWS as u64);
        // Rows that earlier calls ended leave dead entries at the front of the index until the vacuum.
        let most = ROWS * (ENTRIES_PER_ROW + call);
        assert_read(&shop, &before, 1..=most, "reserve").await;

        let before = read(&shop).await;
        assert_eq!(shop.expire(other, ROWS as i32).await, ROWS as u64);
        assert_read(&shop, &before, 1..=most, "expire").await;
    }
    shop.assert_sound().await;

    // The call reads two holds of each product, and the dead entries of ended ones.
    let before = read(&shop).await;
    let due = expire::due(&shop.pool).await.unwrap();
    assert_eq!(due.products, [other, product]);
    let most = 4 + 3 * CALLS * ROWS;
    assert_read(&shop, &before, 1..=most, "due").await;
}

/// The broker was down for an hour. The statistics date from before.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_relay_reads_its_own_rows_and_not_the_whole_queue(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let shop = shop_with_stale_statistics(options).await;
    sqlx::query(
        "insert into outbox_events (event_type, payload, published_at)
        select 'ReservationConfirmed', '{}', case when n % 2 = 0 then clock_timestamp() end
        from generate_series(1, 2 * $1) n",
    )
    .bind(HOLDS)
    .execute(&shop.pool)
    .await
    .unwrap();

    for call in 0..CALLS {
        // Rows that earlier calls marked leave dead entries at the front of the index until the vacuum.
        let most = ROWS * (ENTRIES_PER_ROW + 4 * call);
        let before = read(&shop).await;
        let mut connection = shop.pool.acquire().await.unwrap();
        let mut transaction = outbox::begin(&mut connection).await.unwrap();
        let rows = outbox::claim(&mut transaction, 4 * ROWS).await.unwrap();
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let (acked, rest) = ids.split_at(ROWS as usize);
        let (returned, rest) = rest.split_at(ROWS as usize);
        let (refused, late) = rest.split_at(ROWS as usize);
        let refused: Vec<_> = refused.iter().map(|id| (*id, "no".to_owned())).collect();
        outbox::publish(&mut transaction, acked).await.unwrap();
        outbox::back_off(&mut transaction, returned, "unroutable")
            .await
            .unwrap();
        outbox::refuse(&mut transaction, &refused, 9).await.unwrap();
        let until = outbox::lease(&mut transaction, late, outbox::LEASE, "late").await;
        transaction.commit().await.unwrap();
        drop(connection);
        assert_read(&shop, &before, 4 * ROWS..=most, "a relay's batch").await;

        let before = read(&shop).await;
        let until = until.unwrap().unwrap();
        let mut connection = shop.pool.acquire().await.unwrap();
        let mut transaction = outbox::begin(&mut connection).await.unwrap();
        let ours = outbox::relock(&mut transaction, late, &[until]).await;
        assert_eq!(ours.unwrap().len(), late.len());
        outbox::publish(&mut transaction, late).await.unwrap();
        let none = outbox::claim_misdated(&mut transaction, ROWS).await;
        assert_eq!(none.unwrap().len(), 0);
        transaction.commit().await.unwrap();
        drop(connection);
        let most = ROWS * ENTRIES_PER_ROW;
        assert_read(&shop, &before, ROWS..=most, "late confirms").await;
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn traces_are_stored_with_their_own_events_and_without_reading_the_whole_queue(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let shop = shop_with_stale_statistics(options).await;
    sqlx::query(
        "insert into outbox_events (event_type, payload)
        select 'ReservationConfirmed', '{}' from generate_series(1, $1)",
    )
    .bind(HOLDS)
    .execute(&shop.pool)
    .await
    .unwrap();
    let product = shop.product(HOLDS.into()).await;
    for call in 0..CALLS {
        let requests: Vec<_> = (1..=ROWS).map(|n| one(product, call * ROWS + n)).collect();
        let holds = shop.reserve(&requests).await.answers.into_iter();
        let ids: Vec<_> = holds.map(|hold| hold.unwrap().id).collect();
        let sold = shop.confirm(&ids).await;
        let at = sold.answers[0].as_ref().unwrap().confirmed_at;
        let sampled: Vec<i64> = ids.iter().skip(1).step_by(2).map(|id| id.get()).collect();
        let traces: Vec<String> = sampled.iter().map(|id| format!("of {id}")).collect();
        let before = read(&shop).await;
        sqlx::query("select trace_events_v1($1, $2, $3)")
            .bind(&sampled)
            .bind(at)
            .bind(traces)
            .execute(&shop.pool)
            .await
            .unwrap();
        assert_read(&shop, &before, ROWS..=ROWS * ENTRIES_PER_ROW, "traces").await;
        let stored: Vec<i64> = sqlx::query_scalar(
            "select (payload->>'reservation_id')::bigint from outbox_events
            where created_at = $1 and traceparent = 'of ' || (payload->>'reservation_id') order by 1",
        )
        .bind(at)
        .fetch_all(&shop.pool)
        .await
        .unwrap();
        assert_eq!(stored, sampled);
    }
    let all = "select count(*) from outbox_events where traceparent is not null";
    assert_eq!(shop.count(all).await, CALLS * ROWS / 2);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_page_reads_a_page(_: PgPoolOptions, options: PgConnectOptions) {
    let shop = shop_with_stale_statistics(options).await;
    let product = shop.product(2 * i64::from(HOLDS)).await;
    let hold = shop.hold(product, 42).await.id;
    shop.crowd(product, HOLDS, 3600).await;
    let unswept = shop.product(HOLDS.into()).await;
    shop.crowd(unswept, HOLDS, -3600).await;
    analyze(&shop).await;

    let of_a_user = Filter {
        user_id: Some(user(42)),
        ..Filter::default()
    };
    let of_a_reference = Filter {
        reference: Some("A-7".parse().unwrap()),
        ..Filter::default()
    };
    let of_a_status = [
        None,
        Some(Status::Confirmed),
        Some(Status::Canceled),
        Some(Status::Returned),
        Some(Status::Expired),
    ]
    .map(|status| Filter {
        status,
        ..Filter::default()
    });
    let rare = shop.product(1).await;
    shop.hold(rare, 42).await;
    let of_a_product = [None, Some(Status::Active), Some(Status::Confirmed)].map(|status| Filter {
        product_id: Some(rare),
        status,
        ..Filter::default()
    });
    let page = Page {
        limit: 20,
        offset: 0,
        after: None,
    };
    for filter in of_a_status
        .into_iter()
        .chain([of_a_user.clone(), of_a_reference])
        .chain(of_a_product)
    {
        let before = read(&shop).await;
        list(&shop.pool, &filter, page).await.unwrap();
        // The rows read to find out whether there are few or many, and a page of each branch with one more entry at
        // its edge: both partitions are read in one order.
        let most = if filter.status == Some(Status::Expired) {
            2_001 + 42
        } else {
            23
        };
        assert_read(&shop, &before, 0..=most, "list").await;
    }
    let found = list(&shop.pool, &of_a_user, page).await.unwrap();
    assert!(found.iter().any(|found| found.id == hold));
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_page_of_live_holds_does_not_look_for_them_among_the_unswept(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let shop = shop_with_stale_statistics(options).await;
    let product = shop.product(2 * i64::from(HOLDS)).await;
    let hold = shop.hold(product, 42).await.id;
    shop.crowd(product, HOLDS, -3600).await;
    analyze(&shop).await;
    let live = Filter {
        status: Some(Status::Active),
        ..Filter::default()
    };
    let page = Page {
        limit: 20,
        offset: 0,
        after: None,
    };
    let before = read(&shop).await;
    let found = list(&shop.pool, &live, page).await.unwrap();
    // The hold, and those from the warm-up.
    assert_eq!(found.last().map(|found| found.id), Some(hold));
    assert_read(&shop, &before, 0..=4 * CALLS, "list").await;
}

/// The reads of the live page, of which some run once per second, with statistics of empty tables.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn what_the_live_page_reads_is_found_by_index(_: PgPoolOptions, options: PgConnectOptions) {
    let shop = shop_with_stale_statistics(options).await;
    let product = shop.product(0).await;
    sqlx::raw_sql(
        "insert into products (name, stock, total, initial) select 'x', 0, 0, 0 from generate_series(1, 20000);
        insert into waitlists (product_id, offered) select id, 1 from products;
        insert into stock_adjustments (product_id, delta, reason)
            select (select max(id) from products) - n, 1, 'x' from generate_series(1, 10000) n",
    )
    .execute(&shop.pool)
    .await
    .unwrap();
    sqlx::query(
        "insert into waitlist_entries (product_id, user_id, quantity, hold_seconds, status, reservation_id, ended_at)
        select $1, n, 1, 60, 'OFFERED', n, now() from generate_series(1, 20000) n",
    )
    .bind(product)
    .execute(&shop.pool)
    .await
    .unwrap();
    for _ in 0..CALLS {
        let changed = Adjustment::new(1, "found".to_owned()).unwrap();
        let adjusted = adjust_stock(&shop.pool, product, &changed, &shop.events).await;
        adjusted.unwrap().answer.unwrap();
    }
    let offered = waitlist::Filter {
        product_id: Some(product),
        status: Some(EntryStatus::Offered),
        user_id: None,
    };
    let page = waitlist::Page {
        order: Order::Newest,
        after: None,
        limit: ROWS,
    };
    for _ in 0..CALLS {
        let before = read(&shop).await;
        let offers = waitlist::offers(&shop.pool, ROWS).await.unwrap();
        assert_eq!(offers.len() as i64, ROWS);
        assert_read(&shop, &before, ROWS..=2 * ROWS, "offers").await;
        let before = read(&shop).await;
        let entries = waitlist::list(&shop.pool, &offered, page).await.unwrap();
        assert_eq!(entries.len() as i64, ROWS);
        assert!(entries[0].user_id > entries[1].user_id);
        assert_read(&shop, &before, ROWS..=2 * ROWS, "newest entries").await;
        let before = read(&shop).await;
        let changes = stock_ledger::list(&shop.pool, product, None, ROWS);
        assert_eq!(changes.await.unwrap().len() as i64, CALLS);
        assert_read(&shop, &before, CALLS..=2 * CALLS, "stock ledger").await;
    }
}
