//! A schema that was created by hand with `psql`.

use std::{fs, path::Path, process::Command};

use reqwest::Method;
use serde_json::json;

use super::stage::{becomes_ready, migrate, needed, said_by_migrate};
use crate::support::{Database, Folder, Peer, System, id, test_server};

async fn reservation_db() -> Database {
    Database::create_empty_named("reservation_db", &test_server("TEST_DATABASE_URL")).await
}

/// Runs `psql reservation_db < migrations/000001_init.up.sql` at the root of the repository.
fn psql(database: &Database) {
    let folder = Folder::new();
    let settings = folder.path().join("psqlrc");
    // By default psql continues after an error, and exits with success.
    fs::write(&settings, "\\set ON_ERROR_STOP 1\n").unwrap();
    let typed = format!("psql {} < migrations/000001_init.up.sql", database.name());
    let ended = Command::new("sh")
        .args(["-c", &typed])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("PSQLRC", &settings)
        .envs(database.psql_environment())
        .output()
        .unwrap();
    // The shell's exit code for a missing program.
    assert_ne!(
        ended.status.code(),
        Some(127),
        "psql cannot be found. Run: deploy/local/install.sh psql"
    );
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && errors.is_empty(), "{errors}");
}

#[tokio::test]
async fn psql_and_a_start_of_the_api_are_enough_for_a_sale() {
    let database = reservation_db().await;
    psql(&database);
    let system = System::spawn_on(database, &[]).await;
    becomes_ready("flashsale-api", &system).await;

    let product = json!({"name": "iPhone 15", "stock": 10});
    let product = system.post_json("/products", &product).await.expect(201);
    assert_eq!(product["stock"], 10);
    let hold = json!({"product_id": id(&product), "user_id": 42});
    let hold = system.post_json("/reservations", &hold).await;
    let location = hold.header("location").to_owned();
    let hold = hold.expect(201);
    assert_eq!(location, format!("/reservations/{}", id(&hold)));
    assert_eq!(hold["status"], "ACTIVE");
    assert_eq!(hold["quantity"], 1);
    let sold = system
        .post(&format!("{location}/confirm"))
        .await
        .expect(200);
    assert_eq!(sold["status"], "CONFIRMED");
    let product = system.product(id(&product)).await;
    assert_eq!(
        [&product["stock"], &product["held"], &product["sold"]],
        [9, 0, 1]
    );
    system.assert_clean_audit().await;

    // Later, migrations are used after all.
    let said = said_by_migrate(&system.database);
    for line in said.lines() {
        assert!(
            line.ends_with(": found applied by hand, recorded"),
            "{said}"
        );
    }
    assert!(said.contains(&format!("migration {}:", needed())), "{said}");
    assert_eq!(
        said_by_migrate(&system.database),
        "the schema is up to date\n"
    );
    becomes_ready("flashsale-api", &system).await;
    assert_eq!(system.look_up(&sold).await, sold);
}

/// The other two processes wait for the functions, which the API installs.
#[tokio::test]
async fn the_other_processes_may_be_started_before_the_api() {
    let database = reservation_db().await;
    psql(&database);
    // An API that never reaches PostgreSQL. The test only needs its `beside`.
    let nowhere = ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing");
    let system = System::spawn_on(database, &[nowhere]).await;
    let here = ("DATABASE_URL", &*system.database.url);
    let expirer = Peer::expirer(&system, &[here]).await;
    let readiness = expirer.get("/readyz").await.expect(503);
    let reason = readiness["reason"].as_str().unwrap();
    assert_eq!(
        reason,
        format!(
            "schema is at 1, this program needs {}: run flashsale-api migrate",
            needed()
        )
    );

    let api = Peer::api(&system, &[here]).await;
    becomes_ready("flashsale-expirer", &expirer).await;
    becomes_ready("flashsale-api", &api).await;
    let product = api.create_product(1).await;
    let request = api.request(Method::GET, &format!("/products/{product}"));
    assert_eq!(request.send().await.unwrap().status(), 200);
}

/// For example with a role that owns nothing.
#[tokio::test]
async fn an_api_that_may_not_install_functions_waits_for_who_may() {
    let database = reservation_db().await;
    psql(&database);
    database
        .execute("revoke create on schema public from pg_database_owner, public")
        .await;
    let mut system = System::spawn_on(database, &[]).await;
    system.child().logs("cannot work").await;
    let readiness = system.get("/readyz").await.expect(503);
    let reason = readiness["reason"].as_str().unwrap().to_owned();
    assert!(reason.ends_with(": run flashsale-api migrate"), "{reason}");

    let grant = "grant create on schema public to pg_database_owner";
    system.database.execute(grant).await;
    becomes_ready("flashsale-api", &system).await;
    system.child().logs("PostgreSQL can be used now").await;
    let log = system.stop().await;
    let mut waited = log
        .iter()
        .filter(|entry| entry["level"] == "WARN" && entry.get("cause").is_some());
    let first = waited.next().unwrap();
    assert_eq!(first["message"], format!("cannot work: {reason}"));
    let cause = first["cause"].as_str().unwrap();
    assert!(
        cause.contains("cannot install what is missing") && cause.contains("permission denied"),
        "{cause}"
    );
    assert_eq!(waited.next(), None);
}

/// The refusal names changes made by hand, and leaves them.
#[tokio::test]
async fn a_schema_that_is_not_quite_the_files_is_refused_by_migrate() {
    let database = reservation_db().await;
    psql(&database);
    database
        .execute("alter table products add column colour text")
        .await;
    let refused = migrate(&database);
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("colour"), "{said}");
}
