//! A database whose default isolation level is not the one that the rules need.

use futures_util::future::join_all;

use super::stage::{Processes, becomes_ready, migrated};
use crate::support::{Client, NO_RABBITMQ, Peer};

const USERS: i64 = 60;
const STOCK: i32 = 40;

/// A user's result: reserved and confirmed, or sold out.
async fn buys(client: Client, product: i64, user: i64) -> bool {
    let reserved = client.try_reserve(product, user).await;
    if reserved.status != 201 {
        reserved.expect_problem(409, "sold_out");
        return false;
    }
    let sold = client.confirm(&reserved.expect(201)).await;
    assert_eq!(sold["status"], "CONFIRMED");
    true
}

async fn sells_at(level: &str) {
    let database = migrated().await;
    let set = format!(
        "do $$ begin
          execute format('alter database %I set default_transaction_isolation = %L', current_database(), '{level}');
        end $$"
    );
    database.execute(&set).await;
    let processes = Processes::start(database, NO_RABBITMQ.1).await;
    processes.become_ready().await;
    let system = &processes.system;
    // Two copies, so that calls of one wait for the other's.
    let copy = Peer::api(system, &[]).await;
    becomes_ready("the copy", &copy).await;

    let product = system.create_product(STOCK).await;
    let buyers = (1..=USERS).map(|user| {
        let client = [system.client(), copy.clone()][user as usize % 2].clone();
        tokio::spawn(buys(client, product, user))
    });
    let bought = join_all(buyers).await;
    let bought = bought
        .into_iter()
        .filter(|bought| *bought.as_ref().unwrap());
    assert_eq!(bought.count(), STOCK as usize);
    let shown = system.product(product).await;
    assert_eq!(
        [&shown["stock"], &shown["held"], &shown["sold"]],
        [0, 0, STOCK]
    );
    system.assert_clean_audit().await;
    processes.stop().await;
}

#[tokio::test]
async fn under_repeatable_read_all_works_as_ever() {
    sells_at("repeatable read").await;
}

#[tokio::test]
async fn under_serializable_all_works_as_ever() {
    sells_at("serializable").await;
}
