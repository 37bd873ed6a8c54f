//! What the old cell answers while a product is on its way, and afterwards.

use std::{future::Future, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::stage::{Cells, said};
use crate::support::{Answer, Folder, System, eventually, id, output};

async fn keyed(system: &System, path: &str, body: &Value) -> Answer {
    let request = system.request(Method::POST, path).json(body);
    let key = format!("{path}{body}");
    system
        .as_admin(request.header("idempotency-key", key))
        .await
}

/// An import of a product with this SKU, and of another one. Returns what it said.
async fn import(system: &System, sku: &str) -> String {
    let folder = Folder::new();
    let file = folder.path().join("products.csv");
    let rows = format!("sku,name,stock\n{sku},iPhone 15,9\nOTHER,case,1\n");
    std::fs::write(&file, rows).unwrap();
    let url = system.database.url.clone();
    let imported = tokio::task::spawn_blocking(move || {
        let arguments = ["import", file.to_str().unwrap()];
        output("flashsale-api", &arguments, &[("DATABASE_URL", &url)])
    });
    said(&imported.await.unwrap())
}

/// Nothing in the old cell gets the SKU, neither in the pause nor when the product has arrived.
async fn assert_the_sku_is_taken(cells: &Cells, other: i64) {
    let old = &cells.old;
    let new = json!({"name": "mug", "stock": 9, "sku": "IPH-15"});
    let change = json!({"sku": "IPH-15"});
    for answer in [
        old.post_json("/products", &new).await,
        keyed(old, "/products", &new).await,
        old.admin_json(Method::PATCH, &format!("/products/{other}"), &change)
            .await,
    ] {
        let problem = answer.expect_problem_with(409, "sku_taken", &["cell"]);
        assert_eq!(problem["cell"], 1);
    }
    let imported = import(old, "IPH-15").await;
    assert!(
        imported.contains("IPH-15: the product has moved to cell 1"),
        "{imported}"
    );
}

/// The shop tries the same again until it has an answer. What was refused in the pause is done when the product stays.
#[tokio::test]
async fn a_pause_that_ends_with_undo_loses_no_order() {
    let cells = Cells::start(&[]).await;
    let old = &cells.old;
    let product = old.create_product(9).await;
    let other = old.create_product(9).await;
    old.database
        .execute("update products set sku = 'IPH-15' where id = 1")
        .await;
    let [paid, order, canceled] = [
        old.reserve(product, 1).await,
        old.reserve(product, 2).await,
        old.reserve(product, 3).await,
    ];
    let requests = [
        (
            "/reservations".to_owned(),
            json!({"product_id": product, "user_id": 11}),
        ),
        (
            "/reservations".to_owned(),
            json!({"sku": "IPH-15", "user_id": 12}),
        ),
        (
            "/reservations/batch".to_owned(),
            json!({"user_id": 13, "items": [{"product_id": product}]}),
        ),
        (format!("/reservations/{}/confirm", id(&paid)), json!({})),
        (
            "/reservations/batch/confirm".to_owned(),
            json!({"ids": [id(&order)]}),
        ),
        (format!("/reservations/{}/cancel", id(&canceled)), json!({})),
    ];
    // As a command that was killed between its commits.
    old.database
        .execute("select depart_v1(1, gen_random_uuid(), 1)")
        .await;
    for (path, body) in requests.iter().chain(&requests) {
        keyed(old, path, body)
            .await
            .expect_problem(503, "overloaded");
    }
    assert_the_sku_is_taken(&cells, other).await;
    let undone = cells.run(product, &["--undo"]).await;
    assert!(undone.status.success(), "{undone:?}");
    for (path, body) in &requests {
        let done = keyed(old, path, body).await;
        assert!(done.status.is_success(), "{path}: {done:?}");
    }
    assert_eq!(old.look_up(&paid).await["status"], "CONFIRMED");
    assert_eq!(old.product(product).await["held"], 3);
    // It leaves once more, and comes back.
    cells.moves(product).await;
    assert_the_sku_is_taken(&cells, other).await;
    let back = cells.run_back(product).await;
    assert!(back.status.success(), "{back:?}");
    cells.assert_clean_audits().await;
}

/// Requests for unknown ids take neither the time nor the connections of others.
#[tokio::test]
async fn many_unknown_ids_are_asked_for_together() {
    const REQUESTS: i64 = 60;
    let patient = Duration::from_secs(60).as_millis().to_string();
    let system = System::with(&[
        ("DATABASE_MAX_CONNECTIONS", "4"),
        ("LANE_WAIT_MILLISECONDS", &patient),
    ])
    .await;
    system.create_product(1).await;
    let lock = system.database.lock_table("product_moves").await;
    let asking = join_all((0..REQUESTS).map(|n| {
        let client = system.client();
        tokio::spawn(async move { client.get(&format!("/products/{}", 100 + n)).await })
    }));
    let asking = tokio::spawn(asking);
    all_are_asked(&system, REQUESTS).await;
    for _ in 0..3 {
        system.get("/products?limit=1").await.expect(200);
    }
    lock.rollback().await.unwrap();
    for answer in asking.await.unwrap() {
        answer.unwrap().expect_problem(404, "product_not_found");
    }
    let calls = system
        .metric(r#"flashsale_batch_requests_count{verb="moved"}"#)
        .await;
    let asked = system
        .metric(r#"flashsale_batch_requests_sum{verb="moved"}"#)
        .await;
    assert_eq!(asked, REQUESTS as f64);
    assert!(calls < asked / 2.0, "{calls} calls");
}

/// Waits until so many reads of products have been answered, and the question where these are waits for the table.
fn all_are_asked(system: &System, requests: i64) -> impl Future<Output = ()> {
    eventually("the reads of products", async move || {
        let read = system
            .metric(r#"flashsale_batch_requests_sum{verb="get_product"}"#)
            .await;
        (read == requests as f64).then_some(())
    })
}
