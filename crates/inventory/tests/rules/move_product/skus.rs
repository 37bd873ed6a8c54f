//! The SKU of a product that has left: no other product gets it.

use inventory::{
    ProductId,
    import::{self, Imported, Mode, RefusedRow, Row},
    product::{self, NewProduct, Policy, Rejected},
    reservation::Refusal,
};
use sqlx::PgPool;

use super::{arrives, come_back, depart, depart_to, execute, finish, settle};
use crate::support::Shop;

/// A way to give the SKU "X" to another product than the one that has it.
#[derive(Clone, Copy, Debug)]
enum Way {
    Create,
    Change(ProductId),
    Import(Mode),
}

/// `None`: the product would get the SKU.
type Refused = Option<Refusal>;

impl Way {
    fn all(other: ProductId) -> [Self; 4] {
        [
            Self::Create,
            Self::Change(other),
            Self::Import(Mode::Check),
            Self::Import(Mode::Write),
        ]
    }

    async fn try_it(self, shop: &Shop) -> Refused {
        let (sku, policy) = ("X".parse().unwrap(), Policy::default());
        let rejected = match self {
            Self::Create => {
                let new = NewProduct::new("mug".to_owned(), 5, policy).unwrap();
                let created = product::create(&shop.pool, &new.with_sku(Some(sku))).await;
                created.unwrap().err()
            }
            Self::Change(id) => {
                let changed =
                    product::change(&shop.pool, id, None, Some(&sku), &policy, &shop.events).await;
                changed.unwrap().answer.err()
            }
            Self::Import(mode) => return import(shop, mode).await,
        };
        rejected.map(|rejected| match rejected {
            Rejected::Refused(refusal) => refusal,
            Rejected::Invalid(invalid) => panic!("{invalid}"),
        })
    }
}

/// Of several rows, only that of the SKU is refused.
async fn import(shop: &Shop, mode: Mode) -> Refused {
    let row = |sku: &str| Row {
        sku: sku.parse().unwrap(),
        name: Some("mug".to_owned().try_into().unwrap()),
        stock: Some(9),
        policy: Policy::default(),
    };
    let rows = [row("A"), row("X"), row("B")];
    let rows: Vec<_> = rows.iter().collect();
    let imported = import::import(&shop.pool, &rows, mode, &shop.events).await;
    let imported = imported.unwrap().rows;
    for other in [&imported[0], &imported[2]] {
        assert!(!matches!(other, Imported::Refused(_)), "{other:?}");
    }
    match imported[1] {
        Imported::Refused(RefusedRow::Moved { to_cell }) => Some(Refusal::SkuMoved { to_cell }),
        Imported::Created(_) => None,
        // The product is here.
        ref there => {
            assert!(!matches!(there, Imported::Refused(_)), "{there:?}");
            Some(Refusal::SkuTaken)
        }
    }
}

async fn with_sku(shop: &Shop) -> ProductId {
    let product = shop.product(9).await;
    execute(shop, "update products set sku = 'X'").await;
    product
}

async fn assert_all_are(shop: &Shop, other: ProductId, wanted: &Refusal) {
    for way in Way::all(other) {
        assert_eq!(way.try_it(shop).await.as_ref(), Some(wanted), "{way:?}");
    }
    let without_sku = "select count(*) from products where sku is null";
    assert_eq!(shop.count(without_sku).await, 1);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_sku_of_a_product_that_has_left_is_taken(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = with_sku(&shop).await;
    let other = shop.product(1).await;
    assert_all_are(&shop, other, &Refusal::SkuTaken).await;
    let parcel = depart(&shop, product).await;
    assert_all_are(&shop, other, &Refusal::SkuMoved { to_cell: 7 }).await;
    // It can stay after all, and leave again.
    come_back(&shop, &parcel).await;
    assert_all_are(&shop, other, &Refusal::SkuTaken).await;
    let parcel = depart_to(8, &shop, product).await;
    finish(&shop).await;
    assert_all_are(&shop, other, &Refusal::SkuMoved { to_cell: 8 }).await;
    // Its way back was undone.
    settle(&shop, product, "UNDONE").await;
    assert_all_are(&shop, other, &Refusal::SkuMoved { to_cell: 8 }).await;
    settle(&shop, product, "ARRIVED").await;
    arrives(&shop, &parcel).await;
    assert_all_are(&shop, other, &Refusal::SkuTaken).await;
    // Once the product does not exist any more, another one may have its SKU.
    execute(&shop, "delete from products where sku = 'X'").await;
    assert_eq!(Way::Create.try_it(&shop).await, None);
}

/// While the product departs, others wait for the end of that.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn whoever_waits_for_the_departure_sees_it(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = with_sku(&shop).await;
    let other = shop.product(1).await;
    // The dry run of an import waits for nothing.
    let mut parcel: Option<String> = None;
    for way in [Way::Create, Way::Change(other), Way::Import(Mode::Write)] {
        if let Some(parcel) = parcel {
            come_back(&shop, &parcel).await;
        }
        let mut transaction = shop.pool.begin().await.unwrap();
        let departs = sqlx::query_scalar("select depart_v1($1, gen_random_uuid(), 7)::text");
        let departs = departs.bind(product).fetch_one(&mut *transaction).await;
        parcel = Some(departs.unwrap());
        let waits = {
            let shop = shop.clone();
            tokio::spawn(async move { way.try_it(&shop).await })
        };
        shop.until_waiting(&[waits.abort_handle()]).await;
        transaction.commit().await.unwrap();
        let refused = waits.await.unwrap();
        assert_eq!(refused, Some(Refusal::SkuMoved { to_cell: 7 }), "{way:?}");
    }
}
