//! Several addresses of one broker.

use super::stage::{BROKER_ERRORS, Broker, comes_to, insert_events};
use crate::support::{Peer, Proxy, System, Traffic};

const DONE: &str = "published_at is not null";

#[tokio::test]
async fn the_relay_goes_on_with_the_next_node_whatever_became_of_the_others() {
    let broker = Broker::shared().await;
    let address = broker.url.rsplit(['@', '/']).nth(1).unwrap();
    let [silent, first, second] = [
        Proxy::to(address).await,
        Proxy::to(address).await,
        Proxy::to(address).await,
    ];
    silent.set(Traffic::Blackhole);
    // Nobody listens on port 1.
    let nodes = [
        "127.0.0.1:1",
        &silent.address,
        &first.address,
        &second.address,
    ];
    let urls = nodes
        .map(|node| broker.url.replace(address, node))
        .join(",");
    let system = System::start().await;
    let relay = Peer::relay(&system, &urls, &[]).await;
    relay.sees_rabbitmq("up").await;
    insert_events(&system, 5).await;
    comes_to(&system, 5, DONE).await;
    for (lost, count) in [(&first, 10), (&second, 15), (&first, 20)] {
        // The node is gone. The one before works again.
        for node in [&first, &second] {
            node.set(Traffic::Pass);
        }
        lost.set(Traffic::Refuse);
        insert_events(&system, 5).await;
        comes_to(&system, count, DONE).await;
    }
    relay.sees_rabbitmq("up").await;
    broker.receive(20).await;
}

#[tokio::test]
async fn each_node_that_is_away_is_one_line_in_the_log() {
    let system = System::start().await;
    // Nobody listens on these ports.
    let urls = "amqp://guest:guest@127.0.0.1:1,amqp://guest:guest@127.0.0.1:3";
    let mut relay = Peer::relay(&system, urls, &[]).await;
    relay.counts(BROKER_ERRORS, 6.0).await;
    let said = relay.stop().await;
    for node in ["127.0.0.1:1: ", "127.0.0.1:3: "] {
        let told = said.matches(&format!("RabbitMQ: {node}")).count();
        assert_eq!(told, 1, "{said}");
    }
}
