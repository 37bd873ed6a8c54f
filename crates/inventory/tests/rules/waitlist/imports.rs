//! An import beside waitlists: what it adds belongs to the users who wait.

use inventory::{
    ProductId,
    import::{self, Imported, Mode, Row},
    product::{self, Policy},
    waitlist::{Entry, EntryStatus},
};
use sqlx::{PgConnection, PgPool};

use super::stage::{self, Line, wish};
use crate::support::{ALL_EVENTS, Shop};

/// All that is stored, with the transaction that wrote each row.
async fn stored(shop: &Shop) -> Vec<String> {
    sqlx::query_scalar(
        "select 'product ' || xmin || p from products p
        union all select 'reservation ' || xmin || r from reservations r
        union all select 'entry ' || xmin || e from waitlist_entries e
        union all select 'line ' || xmin || l from waitlists l
        union all select 'adjustment ' || xmin || a from stock_adjustments a
        union all select 'event ' || xmin || o from outbox_events o
        order by 1",
    )
    .fetch_all(&shop.pool)
    .await
    .unwrap()
}

fn row(sku: &str, stock: i32, policy: &Policy) -> Row {
    Row {
        sku: sku.parse().unwrap(),
        name: Some(sku.to_owned().try_into().unwrap()),
        stock: Some(stock),
        policy: Policy { ..*policy },
    }
}

async fn run(
    executor: impl Into<inventory::database::Executor<'_>>,
    shop: &Shop,
    rows: &[Row],
    mode: Mode,
) -> Vec<Imported> {
    let rows: Vec<&Row> = rows.iter().collect();
    let imported = import::import(executor, &rows, mode, &shop.events).await;
    imported.unwrap().rows
}

/// A dry run, the import, and its repeat. Only the import writes.
async fn import_all(shop: &Shop, rows: &[Row]) -> Vec<Imported> {
    let before = stored(shop).await;
    let checked = run(&shop.pool, shop, rows, Mode::Check).await;
    assert_eq!(stored(shop).await, before);
    let imported = run(&shop.pool, shop, rows, Mode::Write).await;
    assert_eq!(checked, imported);
    let written = stored(shop).await;
    for again in run(&shop.pool, shop, rows, Mode::Write).await {
        assert!(matches!(again, Imported::Unchanged(_)), "{again:?}");
    }
    assert_eq!(stored(shop).await, written);
    shop.assert_sound().await;
    shop.assert_lines().await;
    imported
}

/// Imports a product whose units users from 1 on take, one each.
async fn sold_out(shop: &Shop, sku: &str, stock: i32) -> ProductId {
    let row = row(sku, stock, &Policy::default());
    let imported = run(&shop.pool, shop, &[row], Mode::Write).await;
    let [Imported::Created(Some(product))] = imported[..] else {
        panic!("{imported:?}");
    };
    for user in 1..=stock.into() {
        shop.hold(product, user).await;
    }
    product
}

async fn statuses(shop: &Shop, line: &[Entry]) -> Vec<EntryStatus> {
    let mut statuses = Vec::new();
    for entry in line {
        statuses.push(shop.entry(entry.id).await.status);
    }
    statuses
}

const W: EntryStatus = EntryStatus::Waiting;
const O: EntryStatus = EntryStatus::Offered;

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn units_that_an_import_adds_go_to_the_line_in_order(pool: PgPool) {
    let mut shop = Shop::new(pool);
    shop.events = ALL_EVENTS.parse().unwrap();
    let [mug, cup] = [
        sold_out(&shop, "MUG", 2).await,
        sold_out(&shop, "CUP", 1).await,
    ];
    sold_out(&shop, "FORK", 0).await;
    let mut mugs = Vec::new();
    for (user, quantity) in [(11, 1), (12, 2), (13, 1), (14, 1)] {
        mugs.push(shop.join(&wish(mug, user, quantity)).await.answer.unwrap());
    }
    let cups = [shop.waits(cup, 11).await, shop.waits(cup, 12).await];

    // The second entry wants two mugs, and nobody overtakes it.
    for (stock, of_mugs, of_cups, free) in [
        ((3, 1), [O, W, W, W], [W, W], (0, 0)),
        ((4, 2), [O, W, W, W], [O, W], (1, 0)),
        ((3, 2), [O, W, W, W], [O, W], (0, 0)),
        ((5, 3), [O, O, W, W], [O, O], (0, 0)),
        ((9, 5), [O, O, O, O], [O, O], (2, 2)),
    ] {
        // In another order than that of the ids, and beside products without a line.
        let rows = [
            row("CUP", stock.1, &Policy::default()),
            row("FORK", stock.0, &Policy::default()),
            row("MUG", stock.0, &Policy::default()),
        ];
        import_all(&shop, &rows).await;
        assert_eq!(statuses(&shop, &mugs).await, of_mugs, "{stock:?}");
        assert_eq!(statuses(&shop, &cups).await, of_cups, "{stock:?}");
        let now_free = (shop.counters(mug).await.0, shop.counters(cup).await.0);
        assert_eq!(now_free, free, "{stock:?}");
    }
    // An offer has the transaction, and the time, of the stock that it comes from.
    let of_imports = "select count(*) from waitlist_entries e
        join reservations r on r.id = e.reservation_id and r.xmin = e.xmin and r.status = 'ACTIVE'
        join stock_adjustments a on a.product_id = e.product_id and a.reason = 'import' and a.delta > 0
            and a.xmin = e.xmin and a.created_at = e.ended_at";
    assert_eq!(shop.count(of_imports).await, 6);
    let told = "select count(*) from outbox_events o
        join waitlist_entries e on e.reservation_id = (o.payload->>'reservation_id')::bigint and e.xmin = o.xmin
        where o.event_type in ('WaitlistOffered', 'ReservationCreated')";
    assert_eq!(shop.count(told).await, 12);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_import_that_is_rolled_back_offers_nothing(pool: PgPool) {
    let shop = Shop::new(pool);
    let mug = sold_out(&shop, "MUG", 1).await;
    let entry = shop.waits(mug, 11).await;
    let before = stored(&shop).await;
    let mut transaction = shop.pool.begin().await.unwrap();
    let connection: &mut PgConnection = &mut transaction;
    let rows = [row("MUG", 2, &Policy::default())];
    let imported = run(connection, &shop, &rows, Mode::Write).await;
    assert_eq!(imported, [Imported::Changed(mug, vec!["stock".to_owned()])]);
    let offered: bool =
        sqlx::query_scalar("select status = 'OFFERED' from waitlist_entries where id = $1")
            .bind(entry.id)
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
    assert!(offered);
    transaction.rollback().await.unwrap();
    assert_eq!(stored(&shop).await, before);
}

/// An import can open a sale, end it, and change how many units a user may have.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_import_that_changes_the_rules_of_a_sale_settles_its_line(pool: PgPool) {
    let shop = Shop::new(pool);
    let opens = stage::window(1, 2);
    let opened = stage::window(-1, 2);
    let ended = stage::window(-2, -1);
    let one_each = Policy {
        max_per_user: Some(Some(1.try_into().unwrap())),
        ..Policy::default()
    };
    let closed = EntryStatus::Closed;
    for (sku, policy, stock, wanted, free) in [
        // Before the sale the units stay free.
        ("A", &opens, 3, [W, W], 2),
        ("B", &opened, 3, [O, W], 0),
        ("C", &ended, 4, [closed, closed], 3),
        ("D", &one_each, 2, [closed, O], 0),
    ] {
        let product = sold_out(&shop, sku, 1).await;
        let line = [
            shop.join(&wish(product, 11, 2)).await.answer.unwrap(),
            shop.waits(product, 12).await,
        ];
        import_all(&shop, &[row(sku, stock, policy)]).await;
        assert_eq!(statuses(&shop, &line).await, wanted, "{sku}");
        assert_eq!(shop.counters(product).await.0, free, "{sku}");
    }
    // The sale of the first product begins. A dry run offers nothing, and an import does, although the file says nothing
    // new.
    sqlx::query("update products set sale_starts_at = clock_timestamp() where sku = 'A'")
        .execute(&shop.pool)
        .await
        .unwrap();
    let rows = [Row {
        policy: Policy::default(),
        ..row("A", 3, &opens)
    }];
    let before = stored(&shop).await;
    for (mode, writes) in [(Mode::Check, false), (Mode::Write, true)] {
        let imported = run(&shop.pool, &shop, &rows, mode).await;
        assert!(matches!(imported[..], [Imported::Unchanged(_)]));
        assert_eq!(stored(&shop).await != before, writes, "{mode:?}");
    }
    let product = &product::list(&shop.pool).await.unwrap()[0];
    assert_eq!((product.stock, product.held, product.waiting), (0, 3, 1));
    shop.assert_sound().await;
    shop.assert_lines().await;
}
