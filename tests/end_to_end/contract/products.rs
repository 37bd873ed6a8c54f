//! `/products`

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, System, assert_fields, assert_utc, id};

const FIELDS: [&str; 7] = ["id", "name", "stock", "held", "sold", "total", "created_at"];

async fn create(system: &System, body: &Value) -> Answer {
    system.post_json("/products", body).await
}

#[tokio::test]
async fn a_new_product_is_all_stock_and_can_be_found() {
    let system = System::start().await;
    let answer = create(&system, &json!({"name": "iPhone 15", "stock": 10})).await;
    let created = answer.expect(201);
    assert_fields(&created, &FIELDS);
    assert_utc(&created["created_at"]);
    assert_eq!(created["name"], "iPhone 15");
    assert_eq!(created["stock"], 10);
    assert_eq!(created["held"], 0);
    assert_eq!(created["sold"], 0);
    assert_eq!(created["total"], 10);

    let product = id(&created);
    assert_eq!(answer.header("location"), format!("/products/{product}"));
    assert_eq!(system.product(product).await, created);
    assert_eq!(system.get("/products").await.expect(200), json!([created]));
}

#[tokio::test]
async fn products_are_listed_by_id() {
    let system = System::start().await;
    assert_eq!(system.get("/products").await.expect(200), json!([]));
    let mut created = Vec::new();
    for stock in [3, 1, 2] {
        created.push(system.create_product(stock).await);
    }
    // Updated last, so it is stored last.
    system.reserve(created[0], 1).await;
    let listed = system.get("/products").await.expect(200);
    let ids: Vec<i64> = listed.as_array().unwrap().iter().map(id).collect();
    assert_eq!(ids, created);
    assert!(ids.is_sorted());
}

#[tokio::test]
async fn counters_follow_a_unit_through_its_life() {
    let system = System::start().await;
    let product = system.create_product(5).await;
    let counters = async |stock, held, sold| {
        let seen = system.product(product).await;
        assert_fields(&seen, &FIELDS);
        assert_eq!(seen["stock"], stock, "{seen}");
        assert_eq!(seen["held"], held, "{seen}");
        assert_eq!(seen["sold"], sold, "{seen}");
        assert_eq!(seen["total"], 5, "{seen}");
    };
    counters(5, 0, 0).await;
    let sold = system.reserve(product, 1).await;
    let canceled = system.reserve(product, 2).await;
    let expired = system.reserve(product, 3).await;
    counters(2, 3, 0).await;
    system.confirm(&sold).await;
    counters(2, 2, 1).await;
    system.cancel(&canceled).await;
    counters(3, 1, 1).await;
    system.backdate(&expired).await;
    counters(3, 1, 1).await;
    assert_eq!(system.expire_once().await, 1);
    counters(4, 0, 1).await;
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn names_have_1_to_200_characters_of_any_script() {
    let system = System::start().await;
    let longest = "長".repeat(200);
    for name in ["x", &"x".repeat(200), &longest, "🙂", " ", "\u{1}", "'; --"] {
        let created = create(&system, &json!({"name": name, "stock": 1}))
            .await
            .expect(201);
        assert_eq!(created["name"], name);
    }
    for name in ["", &"x".repeat(201), &"長".repeat(201), "nul\0", "\0"] {
        create(&system, &json!({"name": name, "stock": 1}))
            .await
            .expect_problem(422, "invalid_product");
    }
}

#[tokio::test]
async fn stock_is_a_whole_number_that_postgresql_can_count_to() {
    let system = System::start().await;
    for stock in [0, 1, 2_147_483_647] {
        let created = create(&system, &json!({"name": "x", "stock": stock}))
            .await
            .expect(201);
        assert_eq!(created["total"], stock);
    }
    for (stock, total) in [("1.0", 1), ("1e3", 1000), ("-0", 0)] {
        let body = format!(r#"{{"name": "x", "stock": {stock}}}"#);
        let created = system.post_raw("/products", body).await.expect(201);
        assert_eq!(created["total"], total);
    }
    for stock in [
        "-1",
        "2147483648",
        "9223372036854775808",
        "-9223372036854775809",
        "1.5",
        "15e-1",
        "2147483648.0",
    ] {
        let body = format!(r#"{{"name": "x", "stock": {stock}}}"#);
        system
            .post_raw("/products", body)
            .await
            .expect_problem(422, "invalid_product");
    }
    let products = system.get("/products").await.expect(200);
    assert_eq!(products.as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn a_product_without_stock_is_sold_out_from_the_start() {
    let system = System::start().await;
    let product = system.create_product(0).await;
    system
        .try_reserve(product, 1)
        .await
        .expect_problem(409, "sold_out");
}

#[tokio::test]
async fn what_is_no_id_of_a_product_is_not_found() {
    let system = System::start().await;
    system.create_product(1).await;
    for no_id in super::routing::NO_IDS {
        let path = format!("/products/{no_id}");
        system
            .get(&path)
            .await
            .expect_problem(404, "product_not_found");
        let head = Answer::to(system.request(Method::HEAD, &path)).await;
        assert_eq!(head.status, 404, "{path}");
    }
}
