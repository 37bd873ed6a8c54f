//! A collector that cannot be reached, and one that is back.

use serde_json::Value;
use tokio::net::TcpListener;

use super::Collector;
use crate::support::{System, eventually};

#[tokio::test]
async fn a_collector_that_is_away_harms_nothing_and_is_told_of_once() {
    let address = {
        // Nothing listens on this port any more.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let endpoint = format!("http://{address}");
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret-header"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ("RUST_LOG", "trace"),
    ];
    let mut system = System::spawn(&settings).await;
    let product = system.create_product(1000).await;
    for user in 1..=100 {
        system.reserve(product, user).await;
    }
    system.child().logs("spans cannot be exported").await;
    let log = system.stop().await;
    let told = log
        .iter()
        .filter(|entry| entry["message"] == "spans cannot be exported, and are dropped");
    let levels: Vec<&Value> = told.map(|entry| &entry["level"]).collect();
    assert_eq!(levels, ["WARN"]);
    assert!(
        log.iter()
            .all(|entry| !entry.to_string().contains("secret")),
        "{log:?}"
    );
}

#[tokio::test]
async fn a_collector_that_hangs_holds_up_neither_answers_nor_the_end() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    // Longer than the test's patience: only the service's own limit can end the wait.
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"),
    ];
    let mut system = System::spawn(&settings).await;
    let product = system.create_product(9).await;
    system.reserve(product, 1).await;
    let child = system.child();
    child.terminate();
    assert!(child.ends().await.success());
    child.logs("the last spans could not be exported").await;
}

#[tokio::test]
async fn a_collector_that_comes_back_gets_spans_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
    ];
    let mut system = System::spawn(&settings).await;
    system.get("/livez").await.expect(200);
    system.child().logs("spans cannot be exported").await;
    let collector = Collector::on(endpoint.trim_start_matches("http://")).await;
    let client = system.client();
    eventually("spans", async || {
        client.get("/livez").await.expect(200);
        (!collector.spans().is_empty()).then_some(())
    })
    .await;
    system.child().logs("spans are exported again").await;
}
