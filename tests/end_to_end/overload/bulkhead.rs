//! Calls without a lane: how many of them wait for PostgreSQL at once, and what they leave to the others.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{System, id};

#[tokio::test(flavor = "multi_thread")]
async fn with_every_connection_busy_further_calls_are_refused_and_later_served() {
    let settings = [
        ("DATABASE_MAX_CONNECTIONS", "1"),
        ("DATABASE_ACQUIRE_MILLISECONDS", "1500"),
    ];
    let system = System::with(&settings).await;
    let product = system.create_product(1).await;
    let lock = system.database.lock_product(product).await;
    let change = {
        let (client, path) = (system.client(), format!("/products/{product}"));
        let name = json!({"name": "new"});
        tokio::spawn(async move { client.admin_json(Method::PATCH, &path, &name).await })
    };
    system.database.calls_wait_for_locks(1).await;
    // In parallel: in sequence, their waits would exceed the time limit of the blocked call.
    let paths = [
        "/products",
        "/products/1",
        "/reservations",
        "/reservations/1",
    ];
    for answer in join_all(paths.map(|path| system.get(path))).await {
        answer.expect_problem(503, "overloaded");
    }
    // PostgreSQL is up. If this copy became unready, its load would move to the others.
    system.get("/readyz").await.expect(200);
    system.get("/livez").await.expect(200);
    lock.rollback().await.unwrap();
    change.await.unwrap().expect(200);
    system.get("/products").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_lane_leave_connections_to_the_lanes() {
    let settings = [
        ("DATABASE_MAX_CONNECTIONS", "2"),
        // Long enough to open a connection on a busy machine.
        ("DATABASE_ACQUIRE_MILLISECONDS", "2000"),
    ];
    let system = System::with(&settings).await;
    system.database.be_patient().await;
    let (locked, other) = (
        system.create_product(1).await,
        system.create_product(1).await,
    );
    let lock = system.database.lock_product(locked).await;
    let mut changes = JoinSet::new();
    for _ in 0..3 {
        let (client, path) = (system.client(), format!("/products/{locked}"));
        let name = json!({"name": "new"});
        changes.spawn(async move { client.admin_json(Method::PATCH, &path, &name).await });
    }
    for _ in 0..2 {
        let refused = changes.join_next().await.unwrap().unwrap();
        refused.expect_problem(503, "overloaded");
    }
    // The third waits for the product, on one of the two connections.
    system.database.calls_wait_for_locks(1).await;
    system.reserve(other, 1).await;
    lock.rollback().await.unwrap();
    changes.join_next().await.unwrap().unwrap().expect(200);
}

/// Calls without a lane wait for the product with at most four of six permits: two for the product, and two for calls that
/// do not name their product.
#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_locked_product_leave_permits_to_the_others() {
    let settings = [("DATABASE_ACQUIRE_MILLISECONDS", "600000")];
    let system = System::with(&settings).await;
    let (locked, quiet) = (
        system.create_product(9).await,
        system.create_product(9).await,
    );
    let sold = async |product, user| {
        let hold = system.reserve(product, user).await;
        system.confirm(&hold).await
    };
    let mut returns = Vec::new();
    for user in 1..=6 {
        returns.push(format!(
            "/reservations/{}/return",
            id(&sold(locked, user).await)
        ));
    }
    let other = format!("/reservations/{}/return", id(&sold(quiet, 1).await));
    let order = json!({"ids": [system.reserve(quiet, 2).await["id"]]});
    let add = |product| {
        let path = format!("/products/{product}/stock");
        let body = json!({"delta": 1, "reason": "delivery"});
        let client = system.client();
        async move { client.admin_json(Method::POST, &path, &body).await }
    };
    let lock = system.database.lock_product(locked).await;
    let mut waiting = JoinSet::new();
    for _ in 0..6 {
        waiting.spawn(add(locked));
    }
    system.database.calls_wait_for_locks(2).await;
    for path in returns {
        let client = system.client();
        waiting.spawn(async move { client.post(&path).await });
    }
    system.database.calls_wait_for_locks(4).await;
    add(quiet).await.expect(200);
    system.post(&other).await.expect(200);
    let confirmed = system.post_json("/reservations/batch/confirm", &order);
    confirmed.await.expect(200);
    system.get("/products").await.expect(200);
    lock.rollback().await.unwrap();
    waiting.join_all().await;
    system.assert_clean_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_takes_too_long_is_given_up() {
    let system = System::start().await;
    let lock = system.database.lock_table("reservations").await;
    let listed = system.get("/reservations?product_id=1").await;
    listed.expect_problem(503, "overloaded");
    // PostgreSQL continues calls that were only given up here: each repeat would use one more of its connections.
    system.database.calls_wait_for_locks(0).await;
    lock.rollback().await.unwrap();
    assert!(system.list("product_id=1").await.is_empty());
}
