//! Brokers that are healthy, and slow to confirm.

use std::time::Duration;

use super::stage::{Broker, comes_to, ids, insert_events, rows};
use crate::support::{Peer, Proxy, Server, Service, System, Traffic, eventually};

const DONE: &str = "published_at is not null and attempts = 0 and last_error is null";
const WAITING: &str = "published_at is null and last_error = 'sent, but not confirmed'";

/// A proxy in front of a broker, and the broker's URL by way of it.
pub(super) async fn behind_proxy(broker: &Broker) -> (Proxy, String) {
    let address = broker.url.rsplit(['@', '/']).nth(1).unwrap();
    let proxy = Proxy::to_broker(address).await;
    let url = broker.url.replace(address, &proxy.address);
    (proxy, url)
}

/// Events that come one after the other, so that they are sent in several batches. All arrive, and are marked. Returns
/// the number of deliveries.
async fn deliveries_with_confirms_late_by(broker: &Broker, delay: Duration) -> usize {
    let (proxy, url) = behind_proxy(broker).await;
    let system = System::start().await;
    let relay = Peer::relay(&system, &url, &[]).await;
    relay.sees_rabbitmq("up").await;
    proxy.set(Traffic::LateConfirms(delay));
    let mut events = Vec::new();
    for event in 1..=25 {
        insert_events(&system, 1).await;
        // Nothing waits for the confirms of earlier events.
        eventually("the next event", async || {
            events.extend(broker.take_all().await);
            (ids(&events).len() == event).then_some(())
        })
        .await;
    }
    no_transaction_waits(&system).await;
    comes_to(&system, 25, DONE).await;
    relay.sees_rabbitmq("up").await;
    events.extend(broker.take_all().await);
    assert_eq!(ids(&events).len(), 25);
    events.len()
}

/// No relay has a transaction open: it would hold back vacuum.
async fn no_transaction_waits(system: &System) {
    let open = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'flashsale-relay' and xact_start is not null";
    eventually("no open transaction", async || {
        let open: i64 = sqlx::query_scalar(open)
            .fetch_one(&system.database.pool)
            .await
            .unwrap();
        (open == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn late_confirms_cost_no_copies_and_hold_up_nothing() {
    let broker = Broker::shared().await;
    for milliseconds in [700, 1_500, 6_000] {
        let delay = Duration::from_millis(milliseconds);
        let deliveries = deliveries_with_confirms_late_by(&broker, delay).await;
        // On a machine that was suspended for seconds, a lease may have ended.
        assert!(deliveries <= 50, "{delay:?}: {deliveries} deliveries");
    }
}

/// On a broker of its own, because it takes half a minute.
#[tokio::test]
async fn confirms_may_take_half_a_minute() {
    let server = Server::start_new(Service::Rabbitmq);
    let broker = Broker::on(&server).await;
    let deliveries = deliveries_with_confirms_late_by(&broker, Duration::from_secs(30)).await;
    assert!(deliveries <= 50, "{deliveries} deliveries");
}

#[tokio::test]
async fn what_was_confirmed_is_marked_although_the_rest_was_not() {
    let broker = Broker::shared().await;
    let (proxy, url) = behind_proxy(&broker).await;
    let system = System::start().await;
    let settings = [("RELAY_WORKERS", "1"), ("RELAY_MAX_ATTEMPTS", "1")];
    let mut relay = Peer::relay(&system, &url, &settings).await;
    relay.sees_rabbitmq("up").await;
    proxy.set(Traffic::SomeConfirms);
    let mut events = Vec::new();
    for batches in 1..=3 {
        insert_events(&system, 20).await;
        comes_to(&system, 10 * batches, DONE).await;
        comes_to(&system, 10 * batches, WAITING).await;
        events.extend(broker.take_all().await);
    }
    assert_eq!(ids(&events).len(), 60);
    // The relay finds out that the connection is alive, and waits.
    relay.child.logs("confirms take longer than 5 s").await;
    relay.sees_rabbitmq("down").await;
    insert_events(&system, 2).await;
    comes_to(&system, 31, DONE).await;
    relay.sees_rabbitmq("up").await;
    proxy.set(Traffic::Pass);
    comes_to(&system, 62, DONE).await;
    events.extend(broker.take_all().await);
    assert_eq!(ids(&events).len(), 62);
    assert!(events.len() <= 124, "{} deliveries", events.len());
}

/// Every answer is late, from the first one of the handshake.
#[tokio::test]
async fn a_network_may_be_slow() {
    let broker = Broker::shared().await;
    let (proxy, url) = behind_proxy(&broker).await;
    proxy.set(Traffic::Delay(Duration::from_millis(1_500)));
    let system = System::start().await;
    insert_events(&system, 25).await;
    let _relay = Peer::relay(&system, &url, &[]).await;
    let mut events = broker.receive(25).await;
    comes_to(&system, 25, DONE).await;
    events.extend(broker.take_all().await);
    assert!(events.len() <= 50, "{} deliveries", events.len());
}

#[tokio::test]
async fn a_relay_that_dies_while_it_waits_leaves_its_events_to_others() {
    let broker = Broker::shared().await;
    let (proxy, url) = behind_proxy(&broker).await;
    let system = System::start().await;
    let mut first = Peer::relay(&system, &url, &[]).await;
    first.sees_rabbitmq("up").await;
    proxy.set(Traffic::LateConfirms(Duration::from_secs(600)));
    insert_events(&system, 20).await;
    broker.receive(20).await;
    comes_to(&system, 20, WAITING).await;
    // Another relay leaves them alone while the first one lives and renews their lease.
    let _other = Peer::relay(&system, &broker.url, &[]).await;
    let renewed = "next_attempt_at > created_at + interval '12 s'";
    comes_to(&system, 20, renewed).await;
    assert_eq!(rows(&system, WAITING).await, 20);
    assert_eq!(broker.take_all().await.len(), 0);
    first.child.kill();
    comes_to(&system, 20, DONE).await;
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let broker = Broker::shared().await;
    let (proxy, url) = behind_proxy(&broker).await;
    let system = System::start().await;
    let settings = [("SHUTDOWN_SECONDS", "6"), ("RELAY_WORKERS", "1")];
    for (delay, published) in [(2, 20), (600, 0)] {
        proxy.set(Traffic::Pass);
        let mut relay = Peer::relay(&system, &url, &settings).await;
        relay.sees_rabbitmq("up").await;
        proxy.set(Traffic::LateConfirms(Duration::from_secs(delay)));
        insert_events(&system, 20).await;
        broker.receive(20).await;
        comes_to(&system, 20, WAITING).await;
        relay.child.terminate();
        assert!(relay.child.ends().await.success());
        // What is not confirmed is ready for other relays at once.
        let ready = "published_at is null and next_attempt_at <= now()";
        assert_eq!(rows(&system, ready).await, 20 - published);
    }
}

/// The machine of the broker vanished. Its connection cannot be told from one that is slow, until a new one works.
#[tokio::test]
async fn a_connection_that_is_dead_is_replaced_by_one_that_works() {
    let broker = Broker::shared().await;
    let (proxy, url) = behind_proxy(&broker).await;
    let system = System::start().await;
    let mut relay = Peer::relay(&system, &url, &[("RELAY_MAX_ATTEMPTS", "1")]).await;
    relay.sees_rabbitmq("up").await;
    insert_events(&system, 1).await;
    comes_to(&system, 1, DONE).await;
    proxy.lose();
    insert_events(&system, 50).await;
    relay.child.logs("the connection is dead").await;
    broker.receive(51).await;
    comes_to(&system, 51, DONE).await;
    relay.sees_rabbitmq("up").await;
}

/// One of the messages in flight may have been the cause, and would close the next channel at once.
#[tokio::test]
async fn what_waits_when_the_broker_closes_the_channel_is_not_sent_again_at_once() {
    let broker = Broker::shared().await;
    let (proxy, url) = behind_proxy(&broker).await;
    let system = System::start().await;
    let relay = Peer::relay(&system, &url, &[("RELAY_WORKERS", "1")]).await;
    relay.sees_rabbitmq("up").await;
    proxy.set(Traffic::LateConfirms(Duration::from_secs(600)));
    insert_events(&system, 5).await;
    comes_to(&system, 5, WAITING).await;
    // The older an event is, the longer it is delayed.
    system
        .database
        .execute("update outbox_events set created_at = created_at - interval '1 hour'")
        .await;
    broker.delete_exchange().await;
    insert_events(&system, 1).await;
    let delayed = "last_error = 'the broker closed the channel' and next_attempt_at > now() + interval '20 s'";
    comes_to(&system, 5, delayed).await;
    relay.sees_rabbitmq("up").await;
}
