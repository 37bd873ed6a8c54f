//! Health and metrics.

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, System, eventually};

#[tokio::test]
async fn health_tells_of_each_dependency() {
    let system = System::start().await;
    assert_eq!(
        system.get("/livez").await.expect(200),
        json!({"status": "alive"})
    );
    let wanted = json!({"status": "ready", "dependencies": {"postgres": "up", "redis": "up"}});
    for path in ["/readyz", "/health"] {
        // The connection to Redis is made in the background.
        eventually("both are up", async || {
            let mut told = system.get(path).await.expect(200);
            // The test's server may run without fsync.
            told.as_object_mut().unwrap().remove("warnings");
            (told == wanted).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let system = System::start().await;
    let product = system.create_product(9).await;
    let first = system.reserve(product, 1).await;
    let second = system.reserve(product, 2).await;
    let third = system.reserve(product, 3).await;
    system.confirm(&first).await;
    system.confirm(&first).await;
    system.cancel(&second).await;
    system.cancel(&second).await;
    system.backdate(&third).await;
    system.post("/admin/reservations/sync-expired").await;
    system.try_confirm(&second).await;
    for _ in 0..2 {
        // The second answer is the stored one of the first.
        let confirm = system.request(Method::POST, "/reservations/999/confirm");
        Answer::to(confirm.header("idempotency-key", "once")).await;
    }

    let answer = system.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4"),
        "{answer:?}"
    );
    for (series, wanted) in [
        ("flashsale_reservations_created_total", 3.0),
        ("flashsale_reservations_confirmed_total", 1.0),
        ("flashsale_reservations_canceled_total", 1.0),
        ("flashsale_reservations_expired_total", 1.0),
        (
            r#"http_requests_total{method="POST",route="/reservations",status="201"}"#,
            3.0,
        ),
        (
            r#"http_request_duration_seconds_count{method="POST",route="/reservations"}"#,
            3.0,
        ),
        (r#"flashsale_batch_requests_sum{verb="reserve"}"#, 3.0),
        (r#"flashsale_batch_requests_sum{verb="confirm"}"#, 5.0),
        (
            r#"flashsale_problems_total{code="reservation_canceled"}"#,
            1.0,
        ),
        (
            r#"flashsale_problems_total{code="reservation_not_found"}"#,
            2.0,
        ),
        (r#"flashsale_problems_total{code="internal"}"#, 0.0),
        (
            r#"flashsale_batch_duration_seconds_count{verb="cancel"}"#,
            2.0,
        ),
    ] {
        assert_eq!(system.metric(series).await, wanted, "{series}");
    }
}

#[tokio::test]
async fn no_client_can_make_series() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    system.product(product).await;
    system.get("/reservations/1").await;
    let series = async || {
        let metrics = system.get("/metrics").await.text;
        // Each route and status is counted from its first request on.
        let lines = metrics.lines().filter(|line| line.starts_with("http_"));
        lines.filter(|line| !line.contains("/metrics")).count()
    };
    let get = async |path: String| system.get(&path).await;
    get("/unknown".to_owned()).await;
    get("/products/999".to_owned()).await;
    let method = |name: String| Method::from_bytes(name.as_bytes()).unwrap();
    let send = async |name: String| {
        let request = system.request(method(name), "/products");
        Answer::to(request).await
    };
    send("BREW0".to_owned()).await;
    let before = series().await;
    for number in 1000..1020 {
        get(format!("/products/{number}")).await;
        get(format!("/reservations/{number}")).await;
        get(format!("/unknown/{number}")).await;
        send(format!("BREW{number}")).await;
    }
    assert_eq!(series().await, before);
    assert!(!system.get("/metrics").await.text.contains("BREW"));
}
