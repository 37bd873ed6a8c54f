//! Where a cell says that a product is.

use inventory::{
    ProductId,
    moved::{Subject, Whereabouts, moved},
};
use sqlx::PgPool;

use super::{arrives, depart_to, execute, finish, forget, settle, stocked, whereabouts};
use crate::support::{Shop, reservation_id};

/// All that a request can name of a product.
async fn names(shop: &Shop, product: ProductId) -> [Subject; 2] {
    execute(shop, "update products set sku = 'X'").await;
    [
        Subject::Product(product),
        Subject::Sku("X".parse().unwrap()),
    ]
}

async fn assert_is_in(shop: &Shop, names: &[Subject], wanted: Whereabouts) {
    for name in names {
        let found = whereabouts(shop, name.clone()).await;
        assert_eq!(found, Some(wanted), "{name:?}");
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_last_move_counts_also_after_the_clock_was_set_back(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(9).await;
    let names = names(&shop, product).await;
    for cell in [7, 8, 9] {
        let parcel = depart_to(cell, &shop, product).await;
        assert_is_in(&shop, &names, Whereabouts::OnItsWay).await;
        finish(&shop).await;
        assert_is_in(&shop, &names, Whereabouts::Cell(cell)).await;
        // The next moves are earlier, by the clock.
        let ahead = "update product_moves set changed_at = changed_at + interval '1 hour'
            where status <> 'UNDONE'";
        execute(&shop, ahead).await;
        settle(&shop, product, "ARRIVED").await;
        arrives(&shop, &parcel).await;
        assert_is_in(&shop, &names, Whereabouts::OnItsWay).await;
        execute(&shop, ahead).await;
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_way_back_that_was_undone_hides_nothing(pool: PgPool) {
    let shop = Shop::new(pool);
    let left = stocked(&shop).await;
    let names = names(&shop, left.product).await;
    let parcel = depart_to(7, &shop, left.product).await;
    finish(&shop).await;
    settle(&shop, left.product, "UNDONE").await;
    assert_is_in(&shop, &names, Whereabouts::Cell(7)).await;
    assert_eq!(forget(&shop, left.product).await, 1);
    assert_is_in(
        &shop,
        &[Subject::Reservation(left.sold)],
        Whereabouts::Cell(7),
    )
    .await;
    // Nor does a departure that was undone, when the product is elsewhere later.
    settle(&shop, left.product, "ARRIVED").await;
    arrives(&shop, &parcel).await;
    depart_to(8, &shop, left.product).await;
    execute(
        &shop,
        "update product_moves set status = 'UNDONE', parcel = null where status = 'DEPARTED'",
    )
    .await;
    arrives(&shop, &parcel).await;
    assert_is_in(&shop, &names, Whereabouts::OnItsWay).await;
    // A product that only was to come is unknown.
    let unknown: ProductId = 99.try_into().unwrap();
    settle(&shop, unknown, "UNDONE").await;
    assert_eq!(whereabouts(&shop, Subject::Product(unknown)).await, None);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn many_questions_are_answered_in_their_order(pool: PgPool) {
    let shop = Shop::new(pool);
    let unknown = [
        Subject::Product(99.try_into().unwrap()),
        Subject::Reservation(reservation_id(99)),
        Subject::Sku("Y".parse().unwrap()),
    ];
    // In a cell without any move, and in one with moves.
    assert_eq!(moved(&shop.pool, &unknown).await.unwrap(), [None; 3]);
    assert_eq!(moved(&shop.pool, &[]).await.unwrap(), []);
    let left = stocked(&shop).await;
    let [by_id, by_sku] = names(&shop, left.product).await;
    depart_to(7, &shop, left.product).await;
    finish(&shop).await;
    let there = Some(Whereabouts::Cell(7));
    let [no_product, no_reservation, no_sku] = unknown;
    let asked = [
        by_sku,
        no_product,
        Subject::Reservation(left.active),
        no_sku,
        by_id.clone(),
        no_reservation,
        by_id,
    ];
    assert_eq!(
        moved(&shop.pool, &asked).await.unwrap(),
        [there, None, there, None, there, None, there]
    );
}
