//! Brokers that are down, refuse messages, or do not answer.

use lapin::types::AMQPValue;

use super::stage::{BROKER_ERRORS, Broker, comes_to, insert_events, rows, sell};
use crate::support::{Peer, Proxy, Server, Service, System, Traffic, eventually};

const OLDEST: &str = "flashsale_outbox_oldest_age_seconds";
const POSTGRES_ERRORS: &str = r#"flashsale_relay_errors_total{on="postgres"}"#;

const UNTOUCHED: &str = "published_at is null and attempts = 0 and dead_at is null";

/// Another transaction can lock all these rows: no relay holds a lock.
async fn are_free(system: &System, wanted: usize) {
    eventually(
        &format!("{wanted} rows that no relay has locked"),
        async || {
            let mut transaction = system.database.pool.begin().await.unwrap();
            let free = sqlx::query(
                "select from outbox_events where published_at is null for update skip locked",
            )
            .fetch_all(&mut *transaction)
            .await
            .unwrap();
            transaction.rollback().await.unwrap();
            (free.len() == wanted).then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn a_broker_may_be_away_at_the_start_and_crash_later() {
    let server = Server::start_new(Service::Rabbitmq);
    server.stop();
    let system = System::start().await;
    let product = system.create_product(9).await;
    // The strictest limit: a single counted attempt would be the last.
    let mut relay = Peer::relay(&system, &server.url, &[("RELAY_MAX_ATTEMPTS", "1")]).await;
    sell(&system, product, 1).await;
    relay.sees_rabbitmq("down").await;
    relay.counts(BROKER_ERRORS, 3.0).await;
    // It was not even claimed: a lock would set xmax.
    assert_eq!(rows(&system, &format!("{UNTOUCHED} and xmax = 0")).await, 1);

    server.start();
    relay.sees_rabbitmq("up").await;
    let broker = Broker::on(&server).await;
    broker.receive(1).await;
    comes_to(&system, 1, "published_at is not null and attempts = 0").await;

    // An orderly restart makes the queue permanent before the crash. At least RabbitMQ 3.10 can lose a new queue with
    // all its confirmed messages.
    server.stop();
    relay.sees_rabbitmq("down").await;
    server.start();
    relay.sees_rabbitmq("up").await;
    insert_events(&system, 5000).await;
    eventually("some of them are published", async || {
        (rows(&system, "published_at is not null").await > 1).then_some(())
    })
    .await;
    server.kill();
    relay.sees_rabbitmq("down").await;
    insert_events(&system, 10).await;
    relay.counts(BROKER_ERRORS, 6.0).await;
    assert!(rows(&system, UNTOUCHED).await >= 10);
    server.start();
    Broker::on(&server).await.receive(5010).await;
    comes_to(&system, 5011, "published_at is not null and attempts = 0").await;
    assert!(relay.child.runs());
}

/// The number of waiting events is unknown then. The gauge must rise as if events were waiting.
#[tokio::test]
async fn a_relay_that_cannot_use_postgresql_shows_errors_and_an_age_that_grows() {
    let broker = Broker::shared().await;
    let system = System::start().await;
    let (proxy, url) = system.database.behind_proxy().await;
    proxy.set(Traffic::Refuse);
    let relay = Peer::relay(&system, &broker.url, &[("DATABASE_URL", &url)]).await;
    for traffic in [Traffic::Refuse, Traffic::Blackhole] {
        proxy.set(traffic);
        let before = relay.metric(POSTGRES_ERRORS).await;
        relay.counts(OLDEST, 3.0).await;
        relay.counts(POSTGRES_ERRORS, before + 4.0).await;
        proxy.set(Traffic::Pass);
        eventually("nothing waits", async || {
            (relay.metric(OLDEST).await == 0.0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_broker_that_is_out_of_memory_takes_nothing_and_holds_up_nothing() {
    let server = Server::start_new(Service::Rabbitmq);
    let broker = Broker::on(&server).await;
    let system = System::start().await;
    let settings = [("RELAY_MAX_ATTEMPTS", "1")];
    let mut relay = Peer::relay(&system, &server.url, &settings).await;
    relay.sees_rabbitmq("up").await;
    let watermark = |of| server.rabbitmqctl(&["set_vm_memory_high_watermark", of]);
    watermark("0.0001").unwrap();
    insert_events(&system, 100).await;
    relay.child.logs("the broker blocks publishers").await;
    relay.sees_rabbitmq("down").await;
    are_free(&system, 100).await;
    assert_eq!(rows(&system, UNTOUCHED).await, 100);
    watermark("0.25").unwrap();
    broker.receive(100).await;
    comes_to(&system, 100, "published_at is not null and attempts = 0").await;
    relay.sees_rabbitmq("up").await;
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_given_up_and_asked_again() {
    let broker = Broker::shared().await;
    let after_user = broker.url.rsplit(['@', '/']).nth(1).unwrap().to_owned();
    let proxy = Proxy::to(&after_user).await;
    let url = broker.url.replace(&after_user, &proxy.address);
    let system = System::start().await;
    let mut relay = Peer::relay(&system, &url, &[("RELAY_MAX_ATTEMPTS", "1")]).await;
    relay.sees_rabbitmq("up").await;

    proxy.set(Traffic::Blackhole);
    insert_events(&system, 50).await;
    relay.child.logs("confirms take longer than 5 s").await;
    relay.sees_rabbitmq("down").await;
    let mut late = Peer::relay(&system, &url, &[]).await;
    late.child.logs("no answer within 5 s").await;
    drop(late);
    are_free(&system, 50).await;
    assert_eq!(rows(&system, UNTOUCHED).await, 50);
    // The held-back data arrives now, at worst as repeated deliveries.
    proxy.set(Traffic::Pass);
    broker.receive(50).await;
    comes_to(&system, 50, "published_at is not null and attempts = 0").await;

    broker.take_all().await;

    // Again, but this time the old connections stay dead.
    proxy.set(Traffic::Blackhole);
    insert_events(&system, 50).await;
    are_free(&system, 50).await;
    relay.sees_rabbitmq("down").await;
    proxy.cut();
    proxy.set(Traffic::Pass);
    broker.receive(50).await;
    comes_to(&system, 100, "published_at is not null and attempts = 0").await;
}

#[tokio::test]
async fn connections_that_are_cut_lose_nothing() {
    let broker = Broker::shared().await;
    let quorum = AMQPValue::LongString("quorum".into());
    broker.make_queue(&[("x-queue-type", quorum)]).await;
    let after_user = broker.url.rsplit(['@', '/']).nth(1).unwrap().to_owned();
    let proxy = Proxy::to(&after_user).await;
    let url = broker.url.replace(&after_user, &proxy.address);
    let system = System::start().await;
    let settings = [("RELAY_MAX_ATTEMPTS", "1"), ("RELAY_BATCH_ROWS", "50")];
    let _relay = Peer::relay(&system, &url, &settings).await;
    let mut published = 0;
    for _ in 0..5 {
        insert_events(&system, 300).await;
        eventually("some progress", async || {
            let now = rows(&system, "published_at is not null").await;
            (now > published).then(|| published = now)
        })
        .await;
        proxy.cut();
    }
    broker.receive(1500).await;
    comes_to(&system, 1500, "published_at is not null and attempts = 0").await;
}
