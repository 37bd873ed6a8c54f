//! SKUs: the shop's own keys of products, in place of their ids.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, System, id};

async fn create(system: &System, sku: &str, stock: i64) -> Answer {
    let body = json!({"name": "mug", "stock": stock, "sku": sku});
    system.post_json("/products", &body).await
}

async fn found(system: &System, sku: &str) -> Vec<Value> {
    let found = system
        .get(&format!("/products?sku={sku}"))
        .await
        .expect(200);
    found.as_array().unwrap().clone()
}

#[tokio::test]
async fn a_product_is_found_by_its_sku() {
    let system = System::start().await;
    let mug = create(&system, "MUG/1&x=%", 5).await.expect(201);
    assert_eq!(mug["sku"], "MUG/1&x=%");
    assert_eq!(system.product(id(&mug)).await, mug);
    for _ in 0..2 {
        assert_eq!(
            found(&system, "MUG/1%26x=%25").await,
            std::slice::from_ref(&mug)
        );
    }
    assert_eq!(found(&system, "mug/1%26x=%25").await, [] as [Value; 0]);
    for query in [
        "sku=",
        "sku=a%20b",
        "sku=%C3%A9",
        "sku=a&limit=1",
        "sku=a&after_id=1",
        "sku=a&sku=b",
    ] {
        let refused = system.get(&format!("/products?{query}")).await;
        refused.expect_problem(400, "invalid_query");
    }
}

#[tokio::test]
async fn a_sku_is_unique_and_never_changes() {
    let system = System::start().await;
    let mug = create(&system, "A", 5).await.expect(201);
    create(&system, "A", 5)
        .await
        .expect_problem(409, "sku_taken");
    let other = system.create_product(1).await;
    let give = async |product: i64, sku: &str| {
        let path = format!("/products/{product}");
        system
            .admin_json(Method::PATCH, &path, &json!({"sku": sku}))
            .await
    };
    give(other, "A").await.expect_problem(409, "sku_taken");
    let given = give(other, "B").await.expect(200);
    assert_eq!(given["sku"], "B");
    assert_eq!(give(other, "B").await.expect(200), given);
    give(other, "C").await.expect_problem(409, "sku_fixed");
    give(id(&mug), "B").await.expect_problem(409, "sku_fixed");
    give(999, "C")
        .await
        .expect_problem(404, "product_not_found");
    for wrong in ["", "a b", "é", &"x".repeat(65)] {
        create(&system, wrong, 1)
            .await
            .expect_problem(422, "invalid_product");
        give(other, wrong)
            .await
            .expect_problem(422, "invalid_product");
    }
    let null = system
        .post_json("/products", &json!({"name": "x", "stock": 1, "sku": null}))
        .await;
    null.expect_problem(422, "invalid_request");
    // With a key, the refusal is kept.
    let ask = || {
        let body = json!({"name": "x", "stock": 1, "sku": "A"});
        system
            .request(Method::POST, "/products")
            .json(&body)
            .header("idempotency-key", "k")
    };
    Answer::to(ask()).await.expect_problem(409, "sku_taken");
    let again = Answer::to(ask()).await;
    again.expect_problem(409, "sku_taken");
    assert_eq!(again.header("idempotency-replayed"), "true");
}

#[tokio::test]
async fn a_reserve_names_its_product_by_sku() {
    let system = System::start().await;
    let mug = id(&create(&system, "MUG", 5).await.expect(201));
    let cup = id(&create(&system, "CUP", 5).await.expect(201));
    for user in 1..3 {
        let body = json!({"sku": "MUG", "user_id": user});
        let hold = system.post_json("/reservations", &body).await.expect(201);
        assert_eq!(hold["product_id"], mug);
    }
    let body = json!({"user_id": 9, "items": [{"sku": "CUP", "quantity": 2}, {"product_id": mug}]});
    let holds = system
        .post_json("/reservations/batch", &body)
        .await
        .expect(201);
    assert_eq!(
        (&holds[0]["product_id"], &holds[1]["product_id"]),
        (&json!(cup), &json!(mug))
    );

    for (body, pointer) in [
        (json!({"user_id": 1}), "/product_id"),
        (
            json!({"sku": "MUG", "product_id": mug, "user_id": 1}),
            "/sku",
        ),
        (json!({"sku": null, "user_id": 1}), "/sku"),
        (json!({"product_id": null, "user_id": 1}), "/product_id"),
        (json!({"sku": "a b", "user_id": 1}), "/sku"),
    ] {
        let problem = system.post_json("/reservations", &body).await;
        let problem = problem.expect_problem(422, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    for (items, pointer) in [
        (json!([{"product_id": cup}, {}]), "/items/1/product_id"),
        (json!([{"product_id": cup, "sku": "CUP"}]), "/items/0/sku"),
        (json!([{"product_id": cup}, {"sku": "CUP"}]), "/items/1/sku"),
        (
            json!([{"sku": "CUP"}, {"product_id": cup}]),
            "/items/1/product_id",
        ),
    ] {
        let body = json!({"user_id": 7, "items": items});
        let problem = system.post_json("/reservations/batch", &body).await;
        let problem = problem.expect_problem(422, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    let body = json!({"sku": "FORK", "user_id": 1});
    let unknown = system.post_json("/reservations", &body).await;
    unknown.expect_problem(404, "product_not_found");
    let body = json!({"user_id": 7, "items": [{"product_id": cup}, {"sku": "FORK"}]});
    let unknown = system.post_json("/reservations/batch", &body).await;
    let problem = unknown.expect_problem_with(404, "product_not_found", &["sku"]);
    assert_eq!(problem["sku"], "FORK");
    // It may be created later.
    let fork = id(&create(&system, "FORK", 5).await.expect(201));
    let body = json!({"sku": "FORK", "user_id": 1});
    let hold = system.post_json("/reservations", &body).await.expect(201);
    assert_eq!(hold["product_id"], fork);
    system.assert_clean_audit().await;
}

/// For example after a restore of an earlier state.
#[tokio::test]
async fn a_sku_whose_product_has_vanished_is_looked_for_again() {
    let system = System::start().await;
    for (verb, key) in [
        ("reserve", None),
        ("reserve", Some("k")),
        ("batch", None),
        ("waitlist", None),
        ("waitlist", Some("l")),
        ("list", None),
    ] {
        let ask = async || {
            let (path, body) = match verb {
                "batch" => (
                    "/reservations/batch",
                    json!({"user_id": 1, "items": [{"sku": "MUG"}]}),
                ),
                "waitlist" => ("/waitlist", json!({"sku": "MUG", "user_id": 1})),
                _ => ("/reservations", json!({"sku": "MUG", "user_id": 1})),
            };
            let request = system.request(Method::POST, path).json(&body);
            Answer::to(match key {
                Some(key) => request.header("idempotency-key", key),
                None => request,
            })
            .await
        };
        create(&system, "MUG", 5).await.expect(201);
        assert_eq!(found(&system, "MUG").await.len(), 1);
        system.database.execute("delete from products").await;
        if verb == "list" {
            assert_eq!(found(&system, "MUG").await, [] as [Value; 0]);
        } else {
            assert_eq!(ask().await.status, 404);
        }
        let again = id(&create(&system, "MUG", 5).await.expect(201));
        let body = json!({"sku": "MUG", "user_id": 2});
        let hold = system.post_json("/reservations", &body).await.expect(201);
        assert_eq!(hold["product_id"], again, "{verb}");
        let all = "delete from reservations; delete from products";
        system.database.execute(all).await;
        let gone = system.post_json("/reservations", &body).await;
        gone.expect_problem(404, "product_not_found");
    }
}
