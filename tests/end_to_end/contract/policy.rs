//! The rules of a sale: quantities, several products, limits, sale times and stock adjustments.

use reqwest::Method;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::support::{Answer, System, assert_fields, assert_utc, id};

async fn create(system: &System, body: &Value) -> Answer {
    system.admin_json(Method::POST, "/products", body).await
}

async fn change(system: &System, product: i64, body: &Value) -> Answer {
    let path = format!("/products/{product}");
    system.admin_json(Method::PATCH, &path, body).await
}

async fn adjust(system: &System, product: i64, body: &Value) -> Answer {
    let path = format!("/products/{product}/stock");
    system.admin_json(Method::POST, &path, body).await
}

async fn reserve(system: &System, product: i64, user: i64, quantity: i64) -> Answer {
    let body = json!({"product_id": product, "user_id": user, "quantity": quantity});
    system.post_json("/reservations", &body).await
}

fn hours(from_now: i64) -> String {
    let time = OffsetDateTime::now_utc() + Duration::hours(from_now);
    time.format(&Rfc3339).unwrap()
}

#[tokio::test]
async fn several_units_are_had_whole_or_not_at_all() {
    let system = System::start().await;
    let product = system.create_product(5).await;
    let hold = reserve(&system, product, 1, 3).await.expect(201);
    assert_eq!(hold["quantity"], 3);
    let refusal = reserve(&system, product, 2, 3).await;
    assert_eq!(refusal.expect_problem(409, "sold_out")["stock"], 2);
    let refusal = reserve(&system, product, 2, 2_147_483_647).await;
    assert_eq!(refusal.expect_problem(409, "sold_out")["stock"], 2);
    let refusal = reserve(&system, product, 2, 2_147_483_648).await;
    refusal.expect_problem(422, "invalid_request");
    reserve(&system, product, 2, 2).await.expect(201);
    let refusal = system.try_reserve(product, 3).await;
    assert_eq!(refusal.expect_problem(409, "sold_out")["stock"], 0);
    system.confirm(&hold).await;
    let seen = system.product(product).await;
    assert_eq!((&seen["held"], &seen["sold"]), (&json!(2), &json!(3)));
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn several_products_are_had_together_or_not_at_all() {
    let system = System::start().await;
    let [first, second] = [
        system.create_product(5).await,
        system.create_product(1).await,
    ];
    let batch = async |items: Value| {
        let body = json!({"user_id": 7, "items": items, "reference": "cart 7"});
        system.post_json("/reservations/batch", &body).await
    };
    let wanted = json!([{"product_id": second}, {"product_id": first, "quantity": 2}]);
    let holds = batch(wanted.clone()).await.expect(201);
    let holds = holds.as_array().unwrap();
    assert_eq!(holds.len(), 2);
    for (hold, (product, quantity)) in holds.iter().zip([(second, 1), (first, 2)]) {
        assert_eq!(
            (&hold["product_id"], &hold["quantity"]),
            (&json!(product), &json!(quantity))
        );
        assert_eq!(hold["reference"], "cart 7");
        assert_eq!(&system.look_up(hold).await, hold);
    }
    let again = batch(wanted).await;
    let again = again.expect_problem_with(409, "already_reserved", &["product_id"]);
    assert_eq!(
        (&again["product_id"], &again["reservation_id"]),
        (&json!(second), &holds[0]["id"])
    );
    for hold in holds {
        system.cancel(hold).await;
    }
    let refusal =
        batch(json!([{"product_id": first}, {"product_id": second, "quantity": 2}])).await;
    let refusal = refusal.expect_problem_with(409, "sold_out", &["product_id"]);
    assert_eq!(
        (&refusal["product_id"], &refusal["stock"]),
        (&json!(second), &json!(1))
    );
    let refusal = batch(json!([{"product_id": first}, {"product_id": 999}])).await;
    refusal.expect_problem_with(404, "product_not_found", &["product_id"]);
    assert_eq!(system.stock(first).await, 5);

    let many: Vec<Value> = (1..=101)
        .map(|product| json!({"product_id": product}))
        .collect();
    for items in [
        json!([]),
        json!([{"product_id": first}, {"product_id": first}]),
        json!([{"product_id": first, "quantity": 0}]),
        json!([{"product_id": first, "user_id": 1}]),
        json!({}),
        Value::from(many.clone()),
    ] {
        batch(items).await.expect_problem(422, "invalid_request");
    }
    let most = batch(many[..100].into()).await;
    most.expect_problem_with(404, "product_not_found", &["product_id"]);
    let created = system.metric("flashsale_reservations_created_total").await;
    assert_eq!(created, 2.0);
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn a_policy_is_shown_where_it_is_set_and_can_be_taken_away() {
    let system = System::start().await;
    let (starts, ends) = (hours(-1), hours(1));
    let policy = json!({
        "hold_seconds": 7, "max_hold_seconds": 9, "max_per_user": 2,
        "sale_starts_at": starts, "sale_ends_at": ends,
    });
    let mut body = policy.clone();
    body["name"] = json!("x");
    body["stock"] = json!(5);
    let created = create(&system, &body).await.expect(201);
    let product = id(&created);
    for field in ["hold_seconds", "max_hold_seconds", "max_per_user"] {
        assert_eq!(created[field], policy[field], "{field}");
    }
    for (field, time) in [("sale_starts_at", &starts), ("sale_ends_at", &ends)] {
        let given = OffsetDateTime::parse(time, &Rfc3339).unwrap();
        let lost = assert_utc(&created[field]) - given;
        assert!(lost.abs() < Duration::milliseconds(1), "{field}: {created}");
    }
    assert_eq!(system.product(product).await, created);
    let hold = system.reserve(product, 1).await;
    let lasts = assert_utc(&hold["expires_at"]) - assert_utc(&hold["created_at"]);
    assert_eq!(lasts, Duration::seconds(7));

    assert_eq!(
        change(&system, product, &json!({})).await.expect(200),
        system.product(product).await
    );
    let renamed = change(&system, product, &json!({"name": "y", "max_per_user": 3}))
        .await
        .expect(200);
    assert_eq!(
        (&renamed["name"], &renamed["max_per_user"]),
        (&json!("y"), &json!(3))
    );
    assert_eq!(renamed["hold_seconds"], 7);
    let none = json!({
        "hold_seconds": null, "max_hold_seconds": null, "max_per_user": null,
        "sale_starts_at": null, "sale_ends_at": null,
    });
    let bare = change(&system, product, &none).await.expect(200);
    assert_fields(
        &bare,
        &["id", "name", "stock", "held", "sold", "total", "created_at"],
    );
    let unknown = change(&system, 999, &none).await;
    unknown.expect_problem(404, "product_not_found");
}

#[tokio::test]
async fn a_policy_that_makes_no_sense_is_an_invalid_product() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    let before = system.product(product).await;
    let (sooner, later) = (hours(1), hours(2));
    for wrong in [
        json!({"hold_seconds": 0}),
        json!({"hold_seconds": 31_536_001}),
        json!({"hold_seconds": 1.5}),
        json!({"max_hold_seconds": -1}),
        json!({"max_hold_seconds": 18_446_744_073_709_551_615_u64}),
        json!({"max_per_user": 0}),
        json!({"max_per_user": 2_147_483_648_i64}),
        json!({"sale_starts_at": "tomorrow"}),
        json!({"sale_starts_at": "2026-02-30T00:00:00Z"}),
        json!({"sale_ends_at": "9999-12-31T23:59:59-01:00"}),
        json!({"sale_ends_at": "0000-01-01T00:00:00+01:00"}),
        json!({"sale_starts_at": later, "sale_ends_at": sooner}),
        json!({"sale_starts_at": later, "sale_ends_at": later}),
        json!({"name": ""}),
    ] {
        change(&system, product, &wrong)
            .await
            .expect_problem(422, "invalid_product");
        let mut body = json!({"name": "x", "stock": 1});
        for (field, value) in wrong.as_object().unwrap() {
            body[field] = value.clone();
        }
        create(&system, &body)
            .await
            .expect_problem(422, "invalid_product");
    }
    for wrong in [
        json!({"stock": 1}),
        json!({"name": null}),
        json!({"max_per_user": "2"}),
        json!({"sale_starts_at": 1}),
        json!({"sold": 1}),
    ] {
        change(&system, product, &wrong)
            .await
            .expect_problem(422, "invalid_request");
    }
    assert_eq!(system.product(product).await, before);
    // If only one end is given, the other end is the product's current one.
    change(&system, product, &json!({"sale_ends_at": sooner}))
        .await
        .expect(200);
    let empty = change(&system, product, &json!({"sale_starts_at": later})).await;
    empty.expect_problem(422, "invalid_product");
}

#[tokio::test]
async fn a_sale_has_its_time_and_a_user_their_share() {
    let system = System::start().await;
    let body = json!({"name": "x", "stock": 9, "max_per_user": 3, "sale_starts_at": hours(1)});
    let product = id(&create(&system, &body).await.expect(201));
    let refusal = system.try_reserve(product, 1).await;
    refusal.expect_problem(409, "sale_not_open");
    let over = json!({"sale_starts_at": null, "sale_ends_at": hours(-1)});
    change(&system, product, &over).await.expect(200);
    let refusal = system.try_reserve(product, 1).await;
    refusal.expect_problem(409, "sale_closed");
    change(&system, product, &json!({"sale_ends_at": hours(1)}))
        .await
        .expect(200);
    let hold = reserve(&system, product, 1, 2).await.expect(201);
    system.confirm(&hold).await;
    let refusal = reserve(&system, product, 1, 2).await;
    assert_eq!(
        refusal.expect_problem(409, "max_per_user_reached")["remaining"],
        1
    );
    reserve(&system, product, 1, 1).await.expect(201);
}

#[tokio::test]
async fn stock_is_adjusted_for_a_reason() {
    let system = System::start().await;
    let product = system.create_product(5).await;
    system.reserve(product, 1).await;
    let seen = adjust(&system, product, &json!({"delta": -3, "reason": "damaged"}))
        .await
        .expect(200);
    assert_eq!(
        (&seen["stock"], &seen["held"], &seen["total"]),
        (&json!(1), &json!(1), &json!(2))
    );
    assert_eq!(system.product(product).await, seen);
    let refusal = adjust(&system, product, &json!({"delta": -2, "reason": "x"})).await;
    assert_eq!(
        refusal.expect_problem(409, "insufficient_stock")["stock"],
        1
    );
    let found = json!({"delta": 4, "reason": "é".repeat(200)});
    assert_eq!(
        adjust(&system, product, &found).await.expect(200)["total"],
        6
    );
    for wrong in [
        json!({"delta": 0, "reason": "x"}),
        json!({"delta": 1, "reason": ""}),
        json!({"delta": 1, "reason": "x".repeat(201)}),
        json!({"delta": 1, "reason": "nul\0"}),
        json!({"delta": 1}),
        json!({"reason": "x"}),
        json!({"delta": 1.5, "reason": "x"}),
        json!({"delta": 2_147_483_642, "reason": "x"}),
        json!({"delta": 2_147_483_648_i64, "reason": "x"}),
    ] {
        adjust(&system, product, &wrong)
            .await
            .expect_problem(422, "invalid_request");
    }
    let unknown = adjust(&system, 999, &json!({"delta": 1, "reason": "x"})).await;
    unknown.expect_problem(404, "product_not_found");
    system.assert_clean_audit().await;
    // The audit checks stock_adjustments.
    sqlx::query("update stock_adjustments set delta = 5 where delta = 4")
        .execute(&system.database.pool)
        .await
        .unwrap();
    let audit = system.get("/admin/audit").await.expect(200);
    let wanted = json!([{"product_id": product, "counter": "total", "counted": 6, "expected": 7}]);
    assert_eq!(audit["differences"], wanted);
}
