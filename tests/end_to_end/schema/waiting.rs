//! A process that starts before `flashsale-api migrate`.

use super::stage::{Processes, empty, empty_reason, said_by_migrate};
use crate::{
    events::stage::Broker,
    support::{eventually, id},
};

#[tokio::test]
async fn on_an_empty_database_each_process_waits_until_migrate_has_run() {
    let broker = Broker::shared().await;
    let processes = Processes::start(empty().await, &broker.url).await;
    let system = &processes.system;
    for _ in 0..2 {
        processes.are_not_ready(&empty_reason()).await;
        processes.look_again().await;
    }
    processes.are_not_ready(&empty_reason()).await;
    // Metrics with alerts.
    for (process, series) in [
        ("flashsale-expirer", "flashsale_expiry_errors_total"),
        (
            "flashsale-relay",
            r#"flashsale_relay_errors_total{on="postgres"}"#,
        ),
    ] {
        assert!(processes.metric(process, series).await >= 2.0, "{series}");
    }

    let said = said_by_migrate(&system.database);
    assert!(
        said.starts_with("migration 1: applied\nfunctions: installed "),
        "{said}"
    );
    processes.become_ready().await;

    // The API reserves, the relay publishes, and the expirer expires.
    let product = system.create_product(2).await;
    let sold = system.reserve(product, 1).await;
    system.confirm(&sold).await;
    let events = broker.receive(1).await;
    assert_eq!(events[0].body["payload"]["reservation_id"], id(&sold));
    let due = system.reserve(product, 2).await;
    system.backdate(&due).await;
    eventually("the hold is expired", async || {
        let product = system.product(product).await;
        (product["held"] == 0 && product["stock"] == 1).then_some(())
    })
    .await;
    // The live page shows all three.
    eventually("the heartbeats", async || {
        let roles: Vec<String> = sqlx::query_scalar("select role from processes order by role")
            .fetch_all(&system.database.pool)
            .await
            .unwrap();
        (roles == ["api", "expirer", "relay"]).then_some(())
    })
    .await;
    system.assert_clean_audit().await;
    processes.stop_having_waited_for(&empty_reason()).await;
}
