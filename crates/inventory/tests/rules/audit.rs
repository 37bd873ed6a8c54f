//! audit: finds every difference between counters and reservations, and raises no false alarm.

use futures_util::future::join_all;
use inventory::audit::{Difference, audit};
use sqlx::{PgPool, postgres::PgConnectOptions, postgres::PgPoolOptions};

use crate::support::{Shop, one, units};

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_shop_where_everything_happened_is_clean(pool: PgPool) {
    let shop = Shop::new(pool);
    let [product, untouched] = [shop.product(10).await, shop.product(3).await];
    let batch = shop
        .reserve(&[units(product, 1, 2), units(product, 2, 3), one(product, 3)])
        .await;
    let ids: Vec<_> = batch
        .answers
        .iter()
        .map(|a| a.as_ref().unwrap().id)
        .collect();
    shop.confirm(&[ids[0]]).await;
    shop.cancel(&[ids[2]]).await;
    shop.backdate(ids[1], 60).await;

    let audit = audit(&shop.pool).await.unwrap();

    assert!(audit.clean, "{:?}", audit.differences);
    let [first, second] = &audit.products[..] else {
        panic!("{:?}", audit.products)
    };
    // A hold past its deadline counts as held until it is reclaimed.
    assert_eq!(
        (
            first.product_id,
            first.stock,
            first.held,
            first.sold,
            first.total
        ),
        (product, 5, 3, 2, 10)
    );
    assert_eq!((first.reservations_held, first.reservations_sold), (3, 2));
    assert_eq!((second.product_id, second.stock), (untouched, 3));
    assert_eq!((second.reservations_held, second.reservations_sold), (0, 0));
}

/// Counters that are wrong: name, stored value, expected value.
type Wrong = &'static [(&'static str, i64, i64)];

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn every_kind_of_difference_is_found_and_named(pool: PgPool) {
    let shop = Shop::new(pool);
    let [product, sound] = [shop.product(10).await, shop.product(10).await];
    let [hold, sale] = [
        shop.hold(product, 1).await.id,
        shop.hold(product, 2).await.id,
    ];
    shop.hold(sound, 1).await;
    shop.confirm(&[sale]).await;
    sqlx::raw_sql(
        "alter table products drop constraint products_conserved;
        alter table reservations_active drop constraint reservations_active_not_ended;
        alter table reservations_ended drop constraint reservations_ended_once",
    )
    .execute(&shop.pool)
    .await
    .unwrap();

    // Manual changes of the tables, and the counters that they make wrong.
    let tampering: [(&'static str, Wrong); 7] = [
        (
            "update products set stock = stock + 1 where id = 1",
            &[("stock", 9, 8)],
        ),
        (
            "update products set stock = stock + 1, held = held - 1 where id = 1",
            &[("stock", 9, 8), ("held", 0, 1)],
        ),
        (
            "update products set sold = sold + 1, held = held - 1 where id = 1",
            &[("held", 0, 1), ("sold", 2, 1)],
        ),
        (
            "update products set total = total + 1 where id = 1",
            &[("stock", 8, 9), ("total", 11, 10)],
        ),
        (
            "delete from reservations where status = 'ACTIVE' and product_id = 1",
            &[("stock", 8, 9), ("held", 1, 0)],
        ),
        (
            "update reservations set status = 'CANCELED' where status = 'CONFIRMED'",
            &[("stock", 8, 9), ("sold", 1, 0)],
        ),
        (
            "update reservations set quantity = 2 where status = 'CONFIRMED'",
            &[("stock", 8, 7), ("sold", 1, 2)],
        ),
    ];
    assert_eq!(
        (product.get(), shop.get(hold).await.product_id),
        (1, product)
    );
    for (tamper, found) in tampering {
        // Each change starts from the same state.
        sqlx::raw_sql("create table p as table products; create table r as table reservations")
            .execute(&shop.pool)
            .await
            .unwrap();
        sqlx::query(tamper).execute(&shop.pool).await.unwrap();

        let audit = audit(&shop.pool).await.unwrap();

        let expected: Vec<_> = found
            .iter()
            .map(|(counter, counted, expected)| Difference {
                product_id: product,
                counter: (*counter).into(),
                counted: *counted,
                expected: *expected,
            })
            .collect();
        assert_eq!(
            (audit.differences, audit.clean),
            (expected, false),
            "{tamper}"
        );
        sqlx::raw_sql(
            "delete from reservations; delete from products;
            insert into products overriding system value table p;
            insert into reservations overriding system value table r;
            drop table p, r",
        )
        .execute(&shop.pool)
        .await
        .unwrap();
    }
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn while_the_sale_goes_on_there_is_no_false_alarm(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let shop = Shop::with_connections(16, options).await;
    let product = shop.product(100).await;

    let customers = join_all((1..=100).map(|user| {
        let shop = shop.clone();
        async move {
            let hold = shop.hold(product, user).await.id;
            match user % 3 {
                0 => shop.confirm(&[hold]).await,
                1 => shop.cancel(&[hold]).await,
                _ => shop.reserve(&[one(product, user)]).await,
            };
        }
    }));
    let audits = join_all((0..50).map(|_| async {
        let audit = audit(&shop.pool).await.unwrap();
        assert!(audit.clean, "{:?}", audit.differences);
    }));
    futures_util::future::join(customers, audits).await;
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn reservations_of_a_product_that_is_gone_are_found(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(10).await;
    shop.hold(product, 1).await;
    let tamper = "alter table products disable trigger products_keep; delete from products";
    sqlx::raw_sql(tamper).execute(&shop.pool).await.unwrap();

    let audit = audit(&shop.pool).await.unwrap();

    assert!(!audit.clean);
    let held = audit
        .differences
        .iter()
        .find(|found| found.counter == "held");
    let held = held.expect("a difference of held units");
    assert_eq!(
        (held.product_id, held.counted, held.expected),
        (product, 0, 1)
    );
}
