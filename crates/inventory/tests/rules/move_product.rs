//! What a product that moves to another cell leaves, and the ranges of ids of the cells. The whole move, with two
//! databases, is in `tests/end_to_end/cells`.

use inventory::{
    ProductId, ReservationId, audit, cell,
    confirm_batch::{self, Reacquire},
    moved::{Subject, Whereabouts, moved},
    outbox::UNCONFIRMED,
    reacquire,
    reservation::{Refusal, Status},
};
use sqlx::{AssertSqlSafe, PgPool};
use trace::Span;

use crate::support::{ALL_EVENTS, Shop, one, only, outcomes, reservation_id};

/// The first ids of the cells are this far apart.
const IDS: i64 = 10_000_000_000_000;

mod answers;
mod skus;

/// The product departs to cell 7. Returns the parcel.
async fn depart(shop: &Shop, product: ProductId) -> String {
    depart_to(7, shop, product).await
}

async fn depart_to(cell: i32, shop: &Shop, product: ProductId) -> String {
    sqlx::query_scalar("select depart_v1($1, gen_random_uuid(), $2)::text")
        .bind(product)
        .bind(cell)
        .fetch_one(&shop.pool)
        .await
        .unwrap()
}

async fn arrives(shop: &Shop, parcel: &str) {
    sqlx::query("select arrive_v1($1::jsonb)")
        .bind(parcel)
        .execute(&shop.pool)
        .await
        .unwrap();
}

/// How a move of the product to this cell ends.
async fn settle(shop: &Shop, product: ProductId, wanted: &str) {
    sqlx::query("select settle_move_v1(gen_random_uuid(), $1, 0, $2)")
        .bind(product)
        .bind(wanted)
        .execute(&shop.pool)
        .await
        .unwrap();
}

/// As `undo` does.
async fn come_back(shop: &Shop, parcel: &str) {
    arrives(shop, parcel).await;
    execute(
        shop,
        "update product_moves set status = 'UNDONE', parcel = null where status = 'DEPARTED'",
    )
    .await;
}

/// As the end of a move, in the cell that the product has left.
async fn finish(shop: &Shop) {
    execute(
        shop,
        "update product_moves set status = 'FINISHED', parcel = null where status = 'DEPARTED'",
    )
    .await;
}

async fn execute(shop: &Shop, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(&shop.pool)
        .await
        .unwrap();
}

async fn whereabouts(shop: &Shop, subject: Subject) -> Option<Whereabouts> {
    moved(&shop.pool, &[subject]).await.unwrap()[0]
}

async fn rows(shop: &Shop) -> String {
    sqlx::query_scalar(
        "select concat_ws(e'\\n', (select jsonb_agg(to_jsonb(p)) from products p),
            (select jsonb_agg(to_jsonb(r) order by r.id) from reservations r))",
    )
    .fetch_one(&shop.pool)
    .await
    .unwrap()
}

async fn forget(shop: &Shop, product: ProductId) -> i64 {
    sqlx::query_scalar("select forget_moved_v1($1, 1)")
        .bind(product)
        .fetch_one(&shop.pool)
        .await
        .unwrap()
}

struct Left {
    product: ProductId,
    active: ReservationId,
    sold: ReservationId,
    expired: ReservationId,
}

/// A product with a reservation of each kind.
async fn stocked(shop: &Shop) -> Left {
    let product = shop.product(9).await;
    let [active, sold] = [
        shop.hold(product, 1).await.id,
        shop.hold(product, 2).await.id,
    ];
    shop.confirm(&[sold]).await;
    let expired = shop.stale_hold(product, 3, 5).await;
    assert_eq!(shop.expire(product, 10).await, 1);
    Left {
        product,
        active,
        sold,
        expired,
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn without_its_product_nothing_changes_a_reservation(pool: PgPool) {
    let mut shop = Shop::new(pool);
    shop.events = ALL_EVENTS.parse().unwrap();
    let Left {
        product,
        active,
        sold,
        expired,
    } = stocked(&shop).await;
    // Its total is not what it began with.
    execute(
        &shop,
        "update products set stock = stock + 2, total = total + 2;
        insert into stock_adjustments (product_id, delta, reason) values (1, 2, 'found')",
    )
    .await;
    let before = rows(&shop).await;
    let events = shop.count("select count(*) from outbox_events").await;
    // The old cell's relay has sent it, and waits for the confirm.
    let sent = sqlx::query(
        "update outbox_events set last_error = $1 where id = (select min(id) from outbox_events)",
    );
    sent.bind(UNCONFIRMED).execute(&shop.pool).await.unwrap();
    let parcel = depart(&shop, product).await;
    assert_eq!(shop.count("select count(*) from outbox_events").await, 1);
    let gone = rows(&shop).await;

    assert_eq!(
        outcomes(&shop.reserve(&[one(product, 4)]).await),
        [Err(Refusal::ProductNotFound)]
    );
    for batch in [
        shop.return_sold(&[sold]).await,
        shop.confirm(&[active]).await,
        shop.cancel(&[active]).await,
        reacquire::reacquire(&shop.pool, expired, &Span::current(), &shop.events)
            .await
            .unwrap(),
    ] {
        assert_eq!(outcomes(&batch), [Err(Refusal::ReservationNotFound)]);
    }
    // A late payment for an order, of which another product is still here.
    let other = shop.hold(shop.product(1).await, 3).await.id;
    let order = confirm_batch::confirm_batch(
        &shop.pool,
        &[other, expired],
        Reacquire::Expired,
        &shop.events,
    )
    .await
    .unwrap();
    assert_eq!(
        order.answer.unwrap_err(),
        (expired, Refusal::ReservationNotFound)
    );
    assert_eq!(shop.get(other).await.status, Status::Active);
    shop.cancel(&[other]).await;
    execute(&shop, "delete from reservations where product_id = 2").await;
    execute(&shop, "delete from products where id = 2").await;
    // What it says was true when the product departed.
    assert_eq!(
        only(shop.confirm(&[sold]).await).unwrap().status,
        Status::Confirmed
    );
    assert_eq!(rows(&shop).await, gone);
    let audit = audit::audit(&shop.pool).await.unwrap();
    assert!(audit.clean && audit.products.is_empty(), "{audit:?}");

    come_back(&shop, &parcel).await;
    assert_eq!(rows(&shop).await, before);
    let of_product = "select count(*) from outbox_events where payload->>'product_id' = '1'";
    assert_eq!(shop.count(of_product).await, events);
    only(shop.return_sold(&[sold]).await).unwrap();
    only(shop.confirm(&[active]).await).unwrap();
    let audit = audit::audit(&shop.pool).await.unwrap();
    assert!(audit.clean, "{audit:?}");
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_hold_without_its_product_is_still_a_difference(pool: PgPool) {
    let shop = Shop::new(pool);
    let left = stocked(&shop).await;
    depart(&shop, left.product).await;
    execute(
        &shop,
        "insert into reservations (product_id, user_id, expires_at) values (1, 9, 'tomorrow')",
    )
    .await;
    assert!(!audit::audit(&shop.pool).await.unwrap().clean);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn reservations_are_forgotten_only_once_their_product_has_arrived(pool: PgPool) {
    let shop = Shop::new(pool);
    let Left {
        product,
        active,
        sold,
        expired,
    } = stocked(&shop).await;
    assert_eq!(forget(&shop, product).await, 0);
    let all = [
        Subject::Product(product),
        Subject::Reservation(active),
        Subject::Reservation(sold),
        Subject::Reservation(expired),
    ];
    for subject in all.clone() {
        assert_eq!(whereabouts(&shop, subject).await, None);
    }
    let parcel = depart(&shop, product).await;
    assert_eq!(forget(&shop, product).await, 0);
    for subject in all.clone() {
        assert_eq!(
            whereabouts(&shop, subject).await,
            Some(Whereabouts::OnItsWay)
        );
    }
    finish(&shop).await;
    assert_eq!(forget(&shop, product).await, 1);
    for subject in all.clone() {
        assert_eq!(
            whereabouts(&shop, subject).await,
            Some(Whereabouts::Cell(7))
        );
    }
    // It came back meanwhile.
    come_back(&shop, &parcel).await;
    execute(&shop, "update product_moves set status = 'FINISHED'").await;
    assert_eq!(forget(&shop, product).await, 0);
    // A request that did not find it looks again.
    execute(&shop, "update product_moves set status = 'ARRIVED'").await;
    for subject in all {
        assert_eq!(
            whereabouts(&shop, subject).await,
            Some(Whereabouts::OnItsWay)
        );
    }
    let unknown = Subject::Reservation(reservation_id(99));
    assert_eq!(whereabouts(&shop, unknown).await, None);
    // Only a product that departs may be deleted.
    let delete = sqlx::query("delete from products")
        .execute(&shop.pool)
        .await;
    let refusal = delete.unwrap_err().into_database_error().unwrap();
    assert_eq!(refusal.constraint(), Some("products_keep"));
}

async fn assign(pool: &PgPool, cell: i32) -> Result<(), String> {
    let mut connection = pool.acquire().await.unwrap();
    let assigned = cell::assign(&mut connection, cell).await;
    assigned.map_err(|error| error.to_string())
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn each_cell_gives_out_ids_of_its_own(pool: PgPool) {
    let shop = Shop::new(pool);
    assert!(cell::of(&shop.pool).await.is_err());
    for number in [-1, 900] {
        assign(&shop.pool, number).await.expect_err("no such cell");
    }
    // Until an id is given out, the number may change.
    for number in [3, 899, 7, 7] {
        assign(&shop.pool, number).await.unwrap();
        assert_eq!(cell::of(&shop.pool).await.unwrap(), number);
    }
    let product = shop.product(9).await;
    assert_eq!(product.get(), 7 * IDS + 1);
    assert_eq!(shop.hold(product, 1).await.id.get(), 7 * IDS + 1);
    assign(&shop.pool, 7).await.unwrap();
    assert_eq!(shop.hold(product, 2).await.id.get(), 7 * IDS + 2);
    for other in [0, 6, 8] {
        let refusal = assign(&shop.pool, other).await.unwrap_err();
        assert!(refusal.contains("has given out the id"), "{refusal}");
    }
    // A restore skips ids of this cell only, also of sequences that were not used.
    execute(
        &shop,
        "update id_epoch set timeline = 7; select advance_ids_v1()",
    )
    .await;
    let gap = 10_000_000_000..110_000_000_000;
    let next = shop.hold(product, 3).await.id.get();
    assert!(gap.contains(&(next - (7 * IDS + 3))), "{next}");
    execute(
        &shop,
        "insert into stock_adjustments (product_id, delta, reason) select id, 1, 'x' from products",
    )
    .await;
    let first = shop.count("select id from stock_adjustments").await;
    assert!(gap.contains(&(first - (7 * IDS + 1))), "{first}");
    // The last id of a cell is not followed by the next cell's first.
    execute(
        &shop,
        &format!("select setval('reservations_id_seq', {})", 8 * IDS - 1),
    )
    .await;
    sqlx::query("select nextval('reservations_id_seq')")
        .execute(&shop.pool)
        .await
        .unwrap_err();
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_database_in_use_can_be_cell_0(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(9).await;
    shop.hold(product, 1).await;
    assign(&shop.pool, 1).await.unwrap_err();
    assign(&shop.pool, 0).await.unwrap();
    assert_eq!(cell::of(&shop.pool).await.unwrap(), 0);
    assert_eq!(shop.hold(product, 2).await.id.get(), 2);
}
