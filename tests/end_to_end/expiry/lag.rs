//! The lag gauge while no sweep succeeds.

use super::stage::is_swept;
use crate::support::{Peer, System, Traffic, eventually};

const LAG: &str = "flashsale_expiry_lag_seconds";

async fn is_zero_again(expirer: &Peer) {
    eventually("no lag", async || {
        (expirer.metric(LAG).await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_lag_is_told_while_sweeps_wait_for_a_lock() {
    let system = System::start().await;
    let product = system.create_product(9).await;
    let hold = system.reserve(product, 1).await;
    let lock = system.database.lock_product(product).await;
    let expirer = Peer::expirer(&system, &[]).await;
    system.backdate(&hold).await;
    expirer.counts(LAG, 3.0).await;
    // A sweep that did not get the lock must not reset the gauge.
    expirer.counts("flashsale_expiry_errors_total", 1.0).await;
    expirer.counts(LAG, 5.0).await;
    lock.rollback().await.unwrap();
    is_swept(&system, &hold).await;
    is_zero_again(&expirer).await;
}

#[tokio::test]
async fn the_lag_grows_while_it_cannot_be_read() {
    let system = System::start().await;
    let (proxy, url) = system.database.behind_proxy().await;
    // PostgreSQL is unreachable at first, and later does not answer.
    proxy.set(Traffic::Refuse);
    let expirer = Peer::expirer(&system, &[("DATABASE_URL", &url)]).await;
    for traffic in [Traffic::Refuse, Traffic::Blackhole] {
        proxy.set(traffic);
        expirer.counts(LAG, 3.0).await;
        proxy.set(Traffic::Pass);
        is_zero_again(&expirer).await;
    }
}
