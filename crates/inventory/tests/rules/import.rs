//! import: products are created and changed by SKU.

use inventory::{
    import::{self, Imported, Mode, RefusedRow, Row},
    product::{self, Policy, Product},
};
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::support::{ALL_EVENTS, Shop};

fn row(sku: &str, name: &str, stock: i32) -> Row {
    Row {
        sku: sku.parse().unwrap(),
        name: Some(name.to_owned().try_into().unwrap()),
        stock: Some(stock),
        policy: Policy::default(),
    }
}

async fn import(shop: &Shop, rows: &[Row], mode: Mode) -> Vec<Imported> {
    let rows: Vec<&Row> = rows.iter().collect();
    import::import(&shop.pool, &rows, mode, &shop.events)
        .await
        .unwrap()
        .rows
}

async fn products(shop: &Shop) -> Vec<Product> {
    product::list(&shop.pool).await.unwrap()
}

fn kinds(imported: &[Imported]) -> Vec<&'static str> {
    let kinds = imported.iter().map(|imported| match imported {
        Imported::Created(_) => "created",
        Imported::Changed(..) => "changed",
        Imported::Unchanged(_) => "unchanged",
        Imported::Refused(_) => "refused",
    });
    kinds.collect()
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn new_products_are_created_and_others_changed_and_a_second_time_nothing(pool: PgPool) {
    let mut shop = Shop::new(pool);
    shop.events = ALL_EVENTS.parse().unwrap();
    let time = |seconds| Some(Some(OffsetDateTime::from_unix_timestamp(seconds).unwrap()));
    let first = [row("B", "cup", 7), row("A", "mug", 5)];
    assert_eq!(
        kinds(&import(&shop, &first, Mode::Check).await),
        ["created"; 2]
    );
    assert_eq!(products(&shop).await, []);
    let made = import(&shop, &first, Mode::Write).await;
    let stored = products(&shop).await;
    let [cup, mug] = [stored[0].id, stored[1].id];
    assert_eq!(
        made,
        [Imported::Created(Some(cup)), Imported::Created(Some(mug))]
    );
    assert_eq!(
        (stored[0].name.as_str(), stored[0].stock, stored[0].total),
        ("cup", 7, 7)
    );

    // A sale goes on meanwhile.
    let sold = shop.hold(mug, 1).await.id;
    shop.confirm(&[sold]).await;
    shop.hold(mug, 2).await;
    let policy = Policy {
        hold_seconds: Some(Some(60.try_into().unwrap())),
        max_per_user: Some(Some(2.try_into().unwrap())),
        sale_starts_at: time(1_000),
        sale_ends_at: time(4_000_000_000),
        ..Policy::default()
    };
    let second = [
        Row {
            policy,
            ..row("A", "large mug", 8)
        },
        row("B", "cup", 7),
        row("C", "plate", 0),
    ];
    for mode in [Mode::Check, Mode::Write] {
        let imported = import(&shop, &second, mode).await;
        assert_eq!(
            kinds(&imported),
            ["changed", "unchanged", "created"],
            "{mode:?}"
        );
        let fields = [
            "name",
            "stock",
            "hold_seconds",
            "max_per_user",
            "sale_starts_at",
            "sale_ends_at",
        ];
        let fields = fields.map(str::to_owned).to_vec();
        assert_eq!(imported[0], Imported::Changed(mug, fields));
    }
    // The three units more are free. What is held and sold stays so.
    assert_eq!(shop.counters(mug).await, (6, 1, 1));
    let before = products(&shop).await;
    let again = import(&shop, &second, Mode::Write).await;
    assert_eq!(kinds(&again), ["unchanged"; 3]);
    assert_eq!(products(&shop).await, before);
    let changes = "select count(*) from stock_adjustments where reason = 'import' and delta = 3";
    assert_eq!(shop.count(changes).await, 1);
    let events = "select count(*) from outbox_events e join stock_adjustments a
        on (e.payload->>'adjustment_id')::bigint = a.id and (e.payload->>'stock')::integer = 6
        where e.event_type = 'StockAdjusted' and (e.payload->>'total')::integer = 8";
    assert_eq!(shop.count(events).await, 1);

    // Absent fields stay, and null removes a rule.
    let bare = Row {
        name: None,
        stock: None,
        policy: Policy {
            hold_seconds: Some(None),
            ..Policy::default()
        },
        ..row("A", "x", 0)
    };
    let changed = import(&shop, &[bare], Mode::Write).await;
    assert_eq!(
        changed,
        [Imported::Changed(mug, vec!["hold_seconds".to_owned()])]
    );
    let mug = products(&shop).await.remove(1);
    assert_eq!(
        (mug.name.as_str(), mug.total, mug.hold_seconds),
        ("large mug", 8, None)
    );
    assert!(mug.max_per_user.is_some() && mug.sale_ends_at.is_some());
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_row_that_cannot_be_is_refused_and_the_others_are_not(pool: PgPool) {
    let shop = Shop::new(pool);
    import(
        &shop,
        &[row("A", "mug", 3), row("B", "cup", 1)],
        Mode::Write,
    )
    .await;
    let mug = products(&shop).await[0].id;
    shop.hold(mug, 1).await;
    shop.hold(mug, 2).await;
    let time = |seconds| Some(Some(OffsetDateTime::from_unix_timestamp(seconds).unwrap()));
    let ends_early = Policy {
        sale_starts_at: time(2_000),
        sale_ends_at: time(1_000),
        ..Policy::default()
    };
    let rows = [
        row("A", "mug", 1),
        Row {
            name: None,
            ..row("C", "x", 1)
        },
        Row {
            stock: None,
            ..row("D", "x", 1)
        },
        Row {
            policy: ends_early,
            ..row("B", "cup", 1)
        },
        row("E", "fork", 1),
    ];
    let before = products(&shop).await;
    for mode in [Mode::Check, Mode::Write] {
        let imported = import(&shop, &rows, mode).await;
        assert_eq!(kinds(&imported)[4], "created");
        let refused: Vec<_> = imported[..4]
            .iter()
            .map(|refused| match refused {
                Imported::Refused(why) => why.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            refused,
            [
                RefusedRow::InsufficientStock { free: 1 },
                RefusedRow::Incomplete,
                RefusedRow::Incomplete,
                RefusedRow::Window,
            ]
        );
        let now = products(&shop).await;
        assert_eq!(now[..2], before);
        assert_eq!(now.len(), if mode == Mode::Write { 3 } else { 2 });
    }
    // The units that are free can go, and no others.
    let fewer = import(&shop, &[row("A", "mug", 2)], Mode::Write).await;
    assert_eq!(kinds(&fewer), ["changed"]);
    assert_eq!(shop.counters(mug).await, (0, 2, 0));
    shop.assert_sound().await;
}
