//! Relays that crash or freeze with claimed events.

use super::stage::{Broker, Event, comes_to, ids, insert_events, rows};
use crate::support::{Peer, Proxy, System, Traffic, eventually, id};

const BATCHES_OF_TEN: [(&str, &str); 1] = [("RELAY_BATCH_ROWS", "10")];

#[tokio::test]
async fn what_was_sold_is_told_however_often_the_relay_dies() {
    let broker = Broker::shared().await;
    let system = System::start().await;
    let product = system.create_product(400).await;
    let sales = {
        let client = system.client();
        tokio::spawn(async move {
            let mut sold = Vec::new();
            for user in 1..=400 {
                let hold = client.reserve(product, user).await;
                sold.push(id(&client.confirm(&hold).await));
            }
            sold
        })
    };
    let mut relay = Peer::relay(&system, &broker.url, &BATCHES_OF_TEN).await;
    for published in [20, 60, 100, 200, 300] {
        eventually(&format!("{published} events"), async || {
            (rows(&system, "published_at is not null").await >= published).then_some(())
        })
        .await;
        relay.child.kill();
        relay = Peer::relay(&system, &broker.url, &BATCHES_OF_TEN).await;
    }
    let sold = sales.await.unwrap();
    let events = broker.receive(400).await;
    let told = |reservation: &i64| {
        let of = |event: &Event| event.body["payload"]["reservation_id"] == *reservation;
        events.iter().any(of)
    };
    assert!(sold.iter().all(told));
    comes_to(&system, 400, "published_at is not null and attempts = 0").await;
}

/// Whether a relay has claimed rows and waits for the broker.
async fn holds_a_claim(system: &System) -> bool {
    let claim = "select exists (
        select from pg_locks l join pg_stat_activity a using (pid)
        where a.datname = current_database() and a.application_name = 'flashsale-relay'
            and a.state = 'idle in transaction'
            and l.relation = 'outbox_events'::regclass and l.mode = 'RowShareLock')";
    sqlx::query_scalar(claim)
        .fetch_one(&system.database.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_frozen_relay_lets_go_of_its_events() {
    let broker = Broker::shared().await;
    let address = broker.url.rsplit(['@', '/']).nth(1).unwrap().to_owned();
    let proxy = Proxy::to(&address).await;
    let url = broker.url.replace(&address, &proxy.address);
    let system = System::start().await;
    let frozen = Peer::relay(&system, &url, &[]).await;
    frozen.sees_rabbitmq("up").await;
    // The confirms are blocked, so the relay keeps its claim for a second. A slow machine may need several attempts
    // to observe the claim.
    let mut inserted = 0;
    loop {
        proxy.set(Traffic::Blackhole);
        insert_events(&system, 20).await;
        inserted += 20;
        eventually("a claim", async || {
            holds_a_claim(&system).await.then_some(())
        })
        .await;
        frozen.child.freeze();
        if holds_a_claim(&system).await {
            break;
        }
        frozen.child.thaw();
        frozen.sees_rabbitmq("down").await;
        proxy.set(Traffic::Pass);
        frozen.sees_rabbitmq("up").await;
    }
    let other = Peer::relay(&system, &broker.url, &[]).await;
    let all = usize::try_from(inserted).unwrap();
    let mut events = broker.receive(all).await;
    let done = "published_at is not null and attempts = 0";
    comes_to(&system, inserted.into(), done).await;

    // After the thaw its transaction is gone and its rows are published. It continues with other rows.
    drop(other);
    frozen.child.thaw();
    proxy.set(Traffic::Pass);
    insert_events(&system, 20).await;
    eventually("twenty events more", async || {
        events.extend(broker.take_all().await);
        (ids(&events).len() == all + 20).then_some(())
    })
    .await;
    comes_to(&system, (inserted + 20).into(), done).await;
}
