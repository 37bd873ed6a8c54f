//! Several processes that expire the same holds at once.

use serde_json::json;

use crate::support::{Client, Peer, Redis, System, eventually, test_server};

const PRODUCTS: usize = 4;
const HOLDS_EACH: i64 = 250;

/// Expires due holds through the API. Returns the number that this call expired.
async fn sync_expired(client: &Client) -> i64 {
    let swept = client.post("/admin/reservations/sync-expired").await;
    swept.expect(200)["expired"].as_i64().unwrap()
}

#[tokio::test]
async fn each_unit_returns_once() {
    let system = System::start().await;
    let mut products = Vec::new();
    for _ in 0..PRODUCTS {
        let product = system.create_product(1000).await;
        sqlx::query("select reserve_v3(array_agg($1::bigint), array_agg(n), array_agg(1), '{}', 300, '{}') from generate_series(1, $2::bigint) n")
            .bind(product)
            .bind(HOLDS_EACH)
            .execute(&system.database.pool)
            .await
            .unwrap();
        assert_eq!(system.stock(product).await, 1000 - HOLDS_EACH);
        products.push(product);
    }
    // Small transactions, so that all processes take part.
    let small = [("EXPIRE_BATCH_ROWS", "7")];
    let one = Peer::expirer(&system, &small).await;
    let other = Peer::expirer(&system, &small).await;
    sqlx::query("update reservations set expires_at = clock_timestamp() - interval '1 s'")
        .execute(&system.database.pool)
        .await
        .unwrap();
    let mut synced = 0;
    eventually("all units", async || {
        let calls = tokio::join!(sync_expired(&system), sync_expired(&system));
        synced += calls.0 + calls.1;
        let left: i64 =
            sqlx::query_scalar("select count(*) from reservations where status = 'ACTIVE'")
                .fetch_one(&system.database.pool)
                .await
                .unwrap();
        (left == 0).then_some(())
    })
    .await;
    for product in products {
        let product = system.product(product).await;
        let counters = json!([product["stock"], product["held"], product["sold"]]);
        assert_eq!(counters, json!([1000, 0, 0]));
    }
    system.assert_clean_audit().await;

    // Each process counts its own work.
    let all = i64::try_from(PRODUCTS).unwrap() * HOLDS_EACH;
    eventually("the sum of all", async || {
        let series = "flashsale_reservations_expired_total";
        let swept = one.metric(series).await + other.metric(series).await;
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let wanted = (all - synced) as f64;
        (swept == wanted).then_some(())
    })
    .await;
    let mut redis = Redis::at(&test_server("TEST_REDIS_URL")).await;
    let key = format!("{}metrics:reservations:expired", system.redis_prefix());
    redis.answers(&format!("GET {key}"), Some(all)).await;
}
