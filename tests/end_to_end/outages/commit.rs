//! The connection to PostgreSQL is lost at the COMMIT of a request with a key. A repeat finds out the outcome.

use reqwest::Method;
use serde_json::json;
use sqlx::{Postgres, Transaction};
use tokio::task::JoinHandle;

use crate::support::{Answer, Client, Database, Proxy, System, Traffic, eventually};

/// A service whose commits of keys can be blocked by the test.
async fn gated() -> (System, Proxy) {
    let database = Database::create().await;
    sqlx::raw_sql(
        "create table gate ();
        create function wait_at_gate() returns trigger language plpgsql as
            $$ begin lock table gate in access share mode; return null; end $$;
        create constraint trigger gated after insert on idempotency_keys
            deferrable initially deferred for each row execute function wait_at_gate()",
    )
    .execute(&database.pool)
    .await
    .unwrap();
    let (proxy, url) = database.behind_proxy().await;
    let system = System::spawn_on(database, &[("DATABASE_URL", &url)]).await;
    (system, proxy)
}

async fn reserve(client: &Client, product: i64) -> Answer {
    let body = json!({"product_id": product, "user_id": 1});
    let request = client.request(Method::POST, "/reservations").json(&body);
    Answer::to(request.header("idempotency-key", "order-7")).await
}

/// Closes the gate, and sends a reserve whose commit waits there.
async fn waiting(
    system: &System,
    product: i64,
) -> (Transaction<'static, Postgres>, JoinHandle<Answer>) {
    let mut gate = system.database.pool.begin().await.unwrap();
    sqlx::query("lock table gate")
        .execute(&mut *gate)
        .await
        .unwrap();
    let client = system.client();
    let lost = tokio::spawn(async move { reserve(&client, product).await });
    system.database.calls_wait_for_locks(1).await;
    (gate, lost)
}

/// Repeats until the service has working connections. Then the answer must be 201.
async fn retry(system: &System, product: i64) -> Answer {
    let answer = eventually("a definite answer", async || {
        let answer = reserve(system, product).await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    answer.expect(201);
    assert_eq!(system.stock(product).await, 8);
    system.assert_clean_audit().await;
    answer
}

#[tokio::test]
async fn what_was_committed_is_found_by_a_repeat() {
    let (system, proxy) = gated().await;
    let product = system.create_product(9).await;
    let (gate, lost) = waiting(&system, product).await;
    proxy.set(Traffic::Mute);
    gate.rollback().await.unwrap();
    eventually("the commit", async || {
        let made: i64 = sqlx::query_scalar("select count(*) from idempotency_keys")
            .fetch_one(&system.database.pool)
            .await
            .unwrap();
        (made == 1).then_some(())
    })
    .await;
    proxy.cut();
    lost.await.unwrap().expect_problem(503, "outcome_unknown");
    proxy.set(Traffic::Pass);
    let found = retry(&system, product).await;
    assert_eq!(found.header("idempotency-replayed"), "true");
}

#[tokio::test]
async fn what_was_not_committed_is_done_by_a_repeat() {
    let (system, _proxy) = gated().await;
    let product = system.create_product(9).await;
    let (gate, lost) = waiting(&system, product).await;
    system.database.terminate_waiting_calls().await;
    lost.await.unwrap().expect_problem(503, "outcome_unknown");
    gate.rollback().await.unwrap();
    let done = retry(&system, product).await;
    assert_eq!(done.header("idempotency-replayed"), "");
}
