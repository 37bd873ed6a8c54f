//! SKUs: the shop's own keys of products.

use futures_util::future::join_all;
use inventory::{
    ProductId,
    product::{self, NewProduct, Policy, Product, Rejected},
    reservation::Refusal,
    sku::{self, Sku},
};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::support::Shop;

fn sku(text: &str) -> Sku {
    text.parse().unwrap()
}

async fn create(pool: &PgPool, key: &str) -> Result<Product, Rejected> {
    let new = NewProduct::new("mug".to_owned(), 5, Policy::default()).unwrap();
    product::create(pool, &new.with_sku(Some(sku(key))))
        .await
        .unwrap()
}

async fn give(shop: &Shop, id: ProductId, key: &str) -> Result<Option<Product>, Rejected> {
    let changed = product::change(
        &shop.pool,
        id,
        None,
        Some(&sku(key)),
        &Policy::default(),
        &shop.events,
    )
    .await;
    changed.unwrap().answer
}

fn refused<T>(refusal: Refusal) -> Result<T, Rejected> {
    Err(Rejected::Refused(refusal))
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_product_is_found_by_its_sku(pool: PgPool) {
    let shop = Shop::new(pool);
    let without = shop.product(1).await;
    let [mug, cup] = [
        create(&shop.pool, "MUG-1").await,
        create(&shop.pool, "mug-1").await,
    ];
    let [mug, cup] = [mug.unwrap(), cup.unwrap()];
    assert_eq!(mug.sku, Some(sku("MUG-1")));
    let wanted = ["mug-1", "nothing", "MUG-1", "mug-1"].map(sku);
    let found = sku::products(&shop.pool, &wanted).await.unwrap();
    assert_eq!(found, [Some(cup.id), None, Some(mug.id), Some(cup.id)]);
    let read = product::get(&shop.pool, &[mug.id, without]).await.unwrap();
    assert_eq!(read[0].as_ref().unwrap(), &mug);
    assert_eq!(read[1].as_ref().unwrap().sku, None);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_sku_is_unique_and_given_once(pool: PgPool) {
    let shop = Shop::new(pool);
    let first = create(&shop.pool, "A").await.unwrap();
    assert_eq!(create(&shop.pool, "A").await, refused(Refusal::SkuTaken));
    let other = shop.product(1).await;
    assert_eq!(give(&shop, other, "A").await, refused(Refusal::SkuTaken));
    let given = give(&shop, other, "B").await.unwrap().unwrap();
    assert_eq!(given.sku, Some(sku("B")));
    for again in [other, first.id] {
        assert_eq!(give(&shop, again, "C").await, refused(Refusal::SkuFixed));
    }
    // The same again changes nothing.
    assert_eq!(give(&shop, other, "B").await, Ok(Some(given)));
    let unknown = ProductId::try_from(i64::MAX).unwrap();
    assert_eq!(give(&shop, unknown, "C").await, Ok(None));
    assert_eq!(shop.count("select count(*) from products").await, 2);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn of_many_at_once_one_gets_the_sku(_: PgPoolOptions, options: PgConnectOptions) {
    let shop = Shop::with_connections(8, options).await;
    let made = join_all((0..8).map(|_| create(&shop.pool, "A"))).await;
    let made: Vec<_> = made.into_iter().filter(Result::is_ok).collect();
    assert_eq!(made.len(), 1);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_database_keeps_to_the_format(pool: PgPool) {
    let shop = Shop::new(pool);
    shop.product(1).await;
    let statement = "update products set sku = $1";
    for good in ["!", "~", "a/B-9", &"x".repeat(64)] {
        sqlx::query(statement)
            .bind(good)
            .execute(&shop.pool)
            .await
            .unwrap();
    }
    for wrong in ["", " ", "a b", "é", "a\n", "\u{7f}", &"x".repeat(65)] {
        let refused = sqlx::query(statement).bind(wrong).execute(&shop.pool).await;
        let refused = refused.unwrap_err().into_database_error().unwrap();
        assert_eq!(
            refused.constraint(),
            Some("product_sku_visible_ascii"),
            "{wrong:?}"
        );
    }
}
