//! A dump that is restored into another database.

use std::process::Command;

use super::stage::GAP;
use crate::support::{Database, Peer, System, id, test_server};

#[tokio::test]
async fn a_restored_dump_gives_out_no_id_of_the_original() {
    let system = System::spawn(&[]).await;
    let product = system.create_product(9).await;
    let before = system.reserve(product, 1).await;
    let copy = Database::create_empty_on(&test_server("TEST_DATABASE_URL")).await;
    // The extensions that the test's server gives each database belong to another role.
    let pipe = format!(
        "pg_dump --no-comments --schema=public {} | psql -qX -v ON_ERROR_STOP=1 {}",
        system.database.name(),
        copy.name()
    );
    copy.execute("drop schema public").await;
    let restored = Command::new("bash")
        .args(["-o", "pipefail", "-c", &pipe])
        .envs(copy.psql_environment())
        .output()
        .unwrap();
    assert!(restored.status.success(), "{restored:?}");
    // The original went on for a while.
    let lost = system.reserve(product, 2).await;

    let api = Peer::api(&system, &[("DATABASE_URL", &*copy.url)]).await;
    let new = api.reserve(product, 3).await;
    assert!(id(&new) > GAP, "{new} {lost}");
    api.try_confirm(&lost)
        .await
        .expect_problem(404, "reservation_not_found");
    api.confirm(&before).await;
    // The original is where it was.
    assert!(id(&system.reserve(product, 4).await) < GAP);
}
