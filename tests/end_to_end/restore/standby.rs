//! The restored configuration names a standby that does not exist.

use super::stage::{GAP, restored, said};
use crate::support::{Database, Server, Service, System, eventually, id};

#[tokio::test]
async fn a_standby_that_does_not_exist_is_named_and_ids_are_advanced_without_it() {
    let superuser = [("FLASHSALE_LOCAL_POSTGRES_ROLE", "superuser")];
    let server = Server::start_with(Service::Postgres, &superuser);
    let database = Database::create_on(&server.url).await;
    database
        .execute("select advance_ids_v1(); update id_epoch set timeline = 0")
        .await;
    database
        .configure("synchronous_standby_names", "machine2")
        .await;
    let mut system = System::spawn_on(database, &[]).await;
    system
        .child()
        .logs("synchronous_standby_names is 'machine2'")
        .await;
    // Also while nobody writes.
    let warnings = eventually("the warning", async || {
        let ready = system.get("/readyz").await.json();
        let warnings = ready["warnings"].to_string();
        warnings
            .contains("commits wait for a standby")
            .then_some(warnings)
    })
    .await;
    assert!(warnings.contains("synchronous_standby_names"), "{warnings}");
    system.child().logs("commits wait for a standby").await;

    let body = serde_json::json!({"name": "iPhone 15", "stock": 1});
    let made = system.post_json("/products", &body).await;
    made.expect_problem(503, "outcome_unknown");
    let ready = system.get("/readyz").await;
    assert_eq!(ready.status, 503, "{ready:?}");

    let report = restored(&system, &[]);
    assert!(!report.status.success(), "{report:?}");
    let said = said(&report);
    assert!(
        said.contains("synchronous_standby_names is 'machine2'"),
        "{said}"
    );
    assert!(said.contains("ids: advanced"), "{said}");

    system
        .database
        .configure("synchronous_standby_names", "")
        .await;
    let product = eventually("a product", async || {
        let made = system.post_json("/products", &body).await;
        (made.status == 201).then(|| id(&made.json()))
    })
    .await;
    assert!(product > 2 * GAP, "{product}");
    system.child().logs("this is over: commits wait").await;
}
