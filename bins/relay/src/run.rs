//! The connections of one worker, one after the other.

use timer::Wakeups;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    publish::{Dialing, Publisher},
    relay::Relay,
    worker::{Pace, Worker},
};

/// Relays until `shutdown`, through all outages. Starts when `usable` says that the database can be used. Several
/// workers, in one process or many, share the rows: each has its own connection, channel and transactions.
pub(crate) async fn run(
    relay: &Relay,
    wakeups: &Wakeups,
    usable: impl Future<Output = ()> + Clone,
    shutdown: &CancellationToken,
) {
    let mut pace = Pace::new(relay.settings.batch_rows);
    let mut dialing = Dialing::new(&relay.broker);
    let mut connected_before = false;
    while !shutdown.is_cancelled() {
        // Nothing is claimed without a connection to the broker.
        let Some(connected) = shutdown.run_until_cancelled(dialing.attempt()).await else {
            return;
        };
        match connected {
            Ok(publisher) => {
                relay.rabbitmq.works();
                relay.metrics.reconnects.inc_by(u64::from(connected_before));
                connected_before = true;
                // Only now, so that the log and `/readyz` already know whether RabbitMQ can be reached.
                let usable = shutdown.run_until_cancelled(usable.clone());
                if usable.await.is_some() {
                    relay_on(relay, publisher, &mut pace, wakeups, shutdown).await;
                }
            }
            Err(error) => relay.broker_failed(&error),
        }
        shutdown
            .run_until_cancelled(sleep(pace.delays.next_delay()))
            .await;
    }
}

/// Relays on one connection, until it is of no more use.
async fn relay_on(
    relay: &Relay,
    publisher: Publisher,
    pace: &mut Pace,
    wakeups: &Wakeups,
    shutdown: &CancellationToken,
) {
    let mut worker = Worker::new(relay, publisher, pace, wakeups);
    loop {
        worker.relay(shutdown).await;
        if shutdown.is_cancelled() || !worker.publisher.only_refuses() {
            break;
        }
        if let Err(error) = worker.publisher.reopen().await {
            relay.broker_failed(&error);
            break;
        }
    }
    if worker.publisher.is_usable() {
        worker.publisher.close().await;
    }
}
