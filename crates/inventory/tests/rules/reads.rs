//! Reads: products, reservations with their effective status, and pages, newest first.

use std::time::Duration;

use inventory::{
    ReservationId,
    list::{Filter, Page, list},
    locked,
    product::{self, InvalidProduct, NewProduct, Policy},
    reservation::{self, Status},
};
use sqlx::PgPool;

use crate::support::{Shop, reservation_id, user};

async fn listed(shop: &Shop, filter: Filter, limit: i64, offset: i64) -> Vec<ReservationId> {
    let page = Page {
        limit,
        offset,
        after: None,
    };
    paged(shop, &filter, page).await
}

async fn paged(shop: &Shop, filter: &Filter, page: Page) -> Vec<ReservationId> {
    list(&shop.pool, filter, page)
        .await
        .unwrap()
        .into_iter()
        .map(|found| found.id)
        .collect()
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn products_are_read_one_by_one_and_listed_by_id(pool: PgPool) {
    let new = NewProduct::new("Élan 100 ☂".to_owned(), 7, Policy::default()).unwrap();
    let first = product::create(&pool, &new).await.unwrap().unwrap();
    assert_eq!((first.name.as_str(), first.total), ("Élan 100 ☂", 7));
    assert_eq!((first.stock, first.held, first.sold), (7, 0, 0));
    let shop = Shop::new(pool);
    let second = shop.product(0).await;
    let unknown = inventory::ProductId::try_from(i64::MAX).unwrap();
    // The row moves within the table, but keeps its place in the list.
    shop.hold(first.id, 1).await;

    let found = product::get(&shop.pool, &[second, unknown, first.id, second])
        .await
        .unwrap();
    let ids: Vec<_> = found
        .iter()
        .map(|found| found.as_ref().map(|p| p.id))
        .collect();
    assert_eq!(ids, [Some(second), None, Some(first.id), Some(second)]);
    let again = found[2].as_ref().unwrap();
    assert_eq!((again.stock, again.held, again.total), (6, 1, 7));
    assert_eq!(again.created_at, first.created_at);

    let all = product::list(&shop.pool).await.unwrap();
    let ids: Vec<_> = all.iter().map(|found| found.id).collect();
    assert_eq!(ids, [first.id, second]);
    for (after, limit, expected) in [
        (None, 1, vec![first.id]),
        (Some(first.id), 9, vec![second]),
        (Some(second), 9, vec![]),
    ] {
        let page = product::page(&shop.pool, after, limit).await.unwrap();
        let ids: Vec<_> = page.iter().map(|found| found.id).collect();
        assert_eq!(ids, expected);
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_limits_of_a_product_are_those_of_its_row(pool: PgPool) {
    // PostgreSQL counts characters in the same way.
    let longest = "é".repeat(200);
    for (name, stock) in [("x", 0), (longest.as_str(), i64::from(i32::MAX))] {
        let new = NewProduct::new(name.to_owned(), stock, Policy::default()).unwrap();
        let made = product::create(&pool, &new).await.unwrap().unwrap();
        assert_eq!((made.name.as_str(), i64::from(made.stock)), (name, stock));
    }
    for name in [String::new(), "é".repeat(201), "a\0b".to_owned()] {
        let refused = NewProduct::new(name, 1, Policy::default());
        assert!(matches!(refused, Err(InvalidProduct::Name)));
    }
    for stock in [-1, i64::from(i32::MAX) + 1, i64::MIN, i64::MAX] {
        let refused = NewProduct::new("x".to_owned(), stock, Policy::default());
        assert!(matches!(refused, Err(InvalidProduct::Stock)));
    }
}

/// An upgrade under load fails no request: on a slow machine, the change of a table takes longer than 300 ms.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_products_of_reservations_wait_for_the_change_of_a_table(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let held = shop.hold(product, 1).await.id;
    let mut change = shop.pool.begin().await.unwrap();
    sqlx::query("alter table reservations add column next_note text")
        .execute(&mut *change)
        .await
        .unwrap();

    let (ids, pool) = ([held], shop.pool.clone());
    let mut call = tokio::spawn(async move { locked::products_of(&pool, &ids).await });
    let early = tokio::time::timeout(Duration::from_secs(1), &mut call).await;
    assert!(early.is_err(), "{early:?}");
    change.rollback().await.unwrap();

    assert_eq!(call.await.unwrap().unwrap(), [Some(product)]);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_products_of_reservations_are_answered_in_order(pool: PgPool) {
    let shop = Shop::new(pool);
    let [first, second] = [shop.product(2).await, shop.product(2).await];
    let ended = shop.hold(first, 1).await.id;
    shop.cancel(&[ended]).await;
    let held = shop.hold(second, 1).await.id;
    let none = reservation_id(7_000);
    let products = locked::products_of(&shop.pool, &[held, none, ended, held]).await;
    assert_eq!(
        products.unwrap(),
        [Some(second), None, Some(first), Some(second)]
    );
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_hold_past_its_deadline_reads_as_expired_before_any_sweep(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(2).await;
    let due = shop.stale_hold(product, 1, 60).await;
    let live = shop.hold(product, 2).await.id;
    let unknown = reservation_id(i64::MAX);

    let found = reservation::get(&shop.pool, &[unknown, live, due, live])
        .await
        .unwrap();

    assert!(found[0].is_none());
    let [live_row, due_row] = [found[1].as_ref().unwrap(), found[2].as_ref().unwrap()];
    assert_eq!((live_row.id, live_row.status), (live, Status::Active));
    assert_eq!(live_row.expired_at, None);
    assert_eq!((due_row.id, due_row.status), (due, Status::Expired));
    assert_eq!(due_row.expired_at, Some(due_row.expires_at));
    assert_eq!(found[3].as_ref().unwrap().id, live);
    assert_eq!(shop.stored(due).await.status, "ACTIVE");

    // A list shows the same, and the sweep changes nothing that is read.
    let page = Page {
        limit: 10,
        offset: 0,
        after: None,
    };
    let all = list(&shop.pool, &Filter::default(), page).await;
    assert_eq!(format!("{:?}", all.unwrap()[1]), format!("{due_row:?}"));
    shop.expire(product, 10).await;
    assert_eq!(format!("{:?}", shop.get(due).await), format!("{due_row:?}"));
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn lists_filter_by_user_product_and_effective_status_newest_first(pool: PgPool) {
    let shop = Shop::new(pool);
    let [one, two] = [shop.product(50).await, shop.product(50).await];
    let swept = shop.stale_hold(one, 1, 60).await;
    shop.expire(one, 10).await;
    let confirmed = shop.hold(one, 1).await.id;
    shop.confirm(&[confirmed]).await;
    let canceled = shop.hold(one, 1).await.id;
    shop.cancel(&[canceled]).await;
    let due = shop.stale_hold(two, 1, 60).await;
    let active = shop.hold(one, 1).await.id;
    let strangers_due = shop.stale_hold(one, 2, 60).await;
    let strangers = shop.hold(two, 2).await.id;

    let all = [
        strangers,
        strangers_due,
        active,
        due,
        canceled,
        confirmed,
        swept,
    ];
    let by_status = [
        (None, all.to_vec()),
        (Some(Status::Active), vec![strangers, active]),
        (Some(Status::Confirmed), vec![confirmed]),
        (Some(Status::Canceled), vec![canceled]),
        (Some(Status::Expired), vec![strangers_due, due, swept]),
    ];
    let by_user = [
        (None, all.to_vec()),
        (Some(1), vec![active, due, canceled, confirmed, swept]),
        (Some(2), vec![strangers, strangers_due]),
        (Some(3), vec![]),
    ];
    let by_product = [
        (None, all.to_vec()),
        (
            Some(one),
            vec![strangers_due, active, canceled, confirmed, swept],
        ),
        (Some(two), vec![strangers, due]),
    ];
    // Every combination of filters lists the intersection.
    for (status, first) in &by_status {
        for (user_id, second) in &by_user {
            for (product_id, third) in &by_product {
                let filter = Filter {
                    user_id: user_id.map(user),
                    product_id: *product_id,
                    status: *status,
                    reference: None,
                };
                let mut expected = all.to_vec();
                expected.retain(|id| [first, second, third].iter().all(|list| list.contains(id)));
                let context = format!("{status:?} {user_id:?} {product_id:?}");
                assert_eq!(
                    listed(&shop, filter.clone(), 100, 0).await,
                    expected,
                    "{context}"
                );
                for offset in 0..=expected.len() {
                    let page = listed(&shop, filter.clone(), 2, offset as i64).await;
                    let end = expected.len().min(offset + 2);
                    assert_eq!(page, expected[offset..end], "{context} from {offset}");
                }
                for (position, id) in all.iter().enumerate() {
                    let page = Page {
                        limit: 2,
                        offset: 0,
                        after: Some(*id),
                    };
                    let mut behind = expected.clone();
                    behind.retain(|id| all[position + 1..].contains(id));
                    behind.truncate(2);
                    assert_eq!(
                        paged(&shop, &filter, page).await,
                        behind,
                        "{context} after {id}"
                    );
                }
            }
        }
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_page_far_beyond_the_end_is_empty(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    shop.hold(product, 1).await;
    for status in [None, Some(Status::Expired)] {
        let filter = Filter {
            status,
            ..Filter::default()
        };
        assert_eq!(listed(&shop, filter.clone(), 100, i64::MAX).await, []);
    }
}

/// More holds than are sorted, before the deadline, past it, or both.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn pages_are_whole_however_many_are_live_or_unswept(pool: PgPool) {
    let shop = Shop::new(pool);
    let (mut unswept, mut live) = (Vec::new(), Vec::new());
    for crowd in [1, 2_500] {
        for (side, seconds) in [(&mut unswept, -60), (&mut live, 3600)] {
            let product = shop.product(crowd.into()).await;
            shop.crowd(product, crowd, seconds).await;
            let made: Vec<ReservationId> =
                sqlx::query_scalar("select id from reservations where product_id = $1 order by id")
                    .bind(product)
                    .fetch_all(&shop.pool)
                    .await
                    .unwrap();
            side.extend(made);
        }
        for (status, expected) in [(Status::Active, &live), (Status::Expired, &unswept)] {
            let filter = Filter {
                status: Some(status),
                ..Filter::default()
            };
            let mut found = Vec::new();
            loop {
                let page = Page {
                    limit: 700,
                    offset: 0,
                    after: found.last().copied(),
                };
                let next = paged(&shop, &filter, page).await;
                if next.is_empty() {
                    break;
                }
                found.extend(next);
            }
            let mut newest_first = expected.clone();
            newest_first.reverse();
            assert_eq!(found, newest_first, "{status:?}, {crowd} at once");
        }
    }
}
