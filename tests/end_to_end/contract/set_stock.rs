//! `PUT /products/{id}/stock`: a number of free units, compared with what there was.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, System, assert_fields, assert_utc};

async fn set(system: &System, product: i64, body: &Value) -> Answer {
    let path = format!("/products/{product}/stock");
    system.admin_json(Method::PUT, &path, body).await
}

#[tokio::test]
async fn the_free_units_are_set() {
    let system = System::with(&[("OUTBOX_EVENTS", "StockAdjusted")]).await;
    let product = system.create_product(80).await;
    let body = json!({"stock": 100, "expected": 80, "reason": "count"});
    let seen = set(&system, product, &body).await.expect(200);
    assert_eq!((&seen["stock"], &seen["total"]), (&json!(100), &json!(100)));
    assert_eq!(system.product(product).await, seen);
    let changed = set(&system, product, &body).await;
    assert_eq!(changed.expect_problem(409, "stock_changed")["stock"], 100);
    system.reserve(product, 1).await;
    let seen = set(
        &system,
        product,
        &json!({"stock": 0, "reason": "sold elsewhere"}),
    )
    .await;
    let seen = seen.expect(200);
    assert_eq!(
        (&seen["stock"], &seen["held"], &seen["total"]),
        (&json!(0), &json!(1), &json!(1))
    );
    for (wrong, pointer) in [
        (json!({"stock": -1, "reason": "x"}), "/stock"),
        (json!({"stock": 2_147_483_648_i64, "reason": "x"}), "/stock"),
        (json!({"stock": i32::MAX, "reason": "x"}), "/stock"),
        (json!({"stock": null, "reason": "x"}), "/stock"),
        (
            json!({"stock": 1, "expected": null, "reason": "x"}),
            "/expected",
        ),
        (
            json!({"stock": 1, "expected": -1, "reason": "x"}),
            "/expected",
        ),
        (json!({"stock": 1, "reason": ""}), "/reason"),
        (json!({"stock": 1}), "/reason"),
        (json!({"reason": "x"}), "/stock"),
        (json!({"stock": 1, "delta": 1, "reason": "x"}), "/delta"),
    ] {
        let problem = set(&system, product, &wrong).await;
        let problem = problem.expect_problem(422, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{wrong}");
    }
    let unknown = set(&system, 999, &json!({"stock": 1, "reason": "x"})).await;
    unknown.expect_problem(404, "product_not_found");
    let told: Vec<(i32, String)> = sqlx::query_as(
        "select (payload->>'delta')::integer, payload->>'reason' from outbox_events order by id",
    )
    .fetch_all(&system.database.pool)
    .await
    .unwrap();
    let wanted = [(20, "count".to_owned()), (-99, "sold elsewhere".to_owned())];
    assert_eq!(told, wanted);
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn a_key_makes_a_repeat_safe() {
    let system = System::start().await;
    let product = system.create_product(5).await;
    let path = format!("/products/{product}/stock");
    for (key, body, status) in [
        (
            "a",
            json!({"stock": 7, "expected": 5, "reason": "count"}),
            200,
        ),
        (
            "b",
            json!({"stock": 9, "expected": 5, "reason": "count"}),
            409,
        ),
    ] {
        let ask = || {
            system
                .request(Method::PUT, &path)
                .json(&body)
                .header("idempotency-key", key)
        };
        let first = Answer::to(ask()).await;
        let again = Answer::to(ask()).await;
        assert_eq!((first.status.as_u16(), &first.text), (status, &again.text));
        assert_eq!(again.header("idempotency-replayed"), "true");
    }
    assert_eq!(system.stock(product).await, 7);
}

#[tokio::test]
async fn the_ledger_has_each_change_with_its_reason() {
    let system = System::start().await;
    let product = system.create_product(10).await;
    let other = system.create_product(10).await;
    let path = |product: i64| format!("/products/{product}/stock");
    let listed = async |path: &str| {
        let request = system.request(Method::GET, path);
        system.as_admin(request).await
    };
    assert_eq!(listed(&path(product)).await.expect(200), json!([]));
    let add = json!({"delta": 5, "reason": "delivery 12"});
    for product in [product, other] {
        let added = system.admin_json(Method::POST, &path(product), &add).await;
        added.expect(200);
    }
    let body = json!({"stock": 3, "reason": "count"});
    set(&system, product, &body).await.expect(200);
    let changes = listed(&path(product)).await.expect(200);
    let changes: Vec<_> = changes.as_array().unwrap().iter().collect();
    let told = |change: &Value| (change["delta"].clone(), change["reason"].clone());
    assert_eq!(changes.len(), 2);
    assert_eq!(told(changes[0]), (json!(-12), json!("count")));
    assert_eq!(told(changes[1]), (json!(5), json!("delivery 12")));
    assert_fields(changes[0], &["id", "delta", "reason", "created_at"]);
    assert_utc(&changes[0]["created_at"]);

    let page = listed(&format!("{}?limit=1", path(product))).await;
    let next = format!(
        "/products/{product}/stock?limit=1&after_id={}",
        changes[0]["id"]
    );
    assert_eq!(page.header("link"), format!("<{next}>; rel=\"next\""));
    assert_eq!(page.expect(200), json!([changes[0]]));
    assert_eq!(listed(&next).await.expect(200), json!([changes[1]]));
    let wrong = listed(&format!("{}?limit=0", path(product))).await;
    wrong.expect_problem(400, "invalid_query");
    let wrong = listed(&format!("{}?offset=1", path(product))).await;
    wrong.expect_problem(400, "invalid_query");
    let missing = listed(&path(999)).await;
    missing.expect_problem(404, "product_not_found");
}
