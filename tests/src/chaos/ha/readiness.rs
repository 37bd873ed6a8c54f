//! The promise of `/readyz`: a copy that says it is ready can write. A load balancer sends it requests.

use std::{sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{machines::Machines, network::MACHINES};
use crate::chaos::{
    history::{Answer, Request},
    journal::Journal,
    sale::UNITS,
    wire::Client,
};

/// The longest time for which a copy may be ready while no write succeeds.
const LIMIT: Duration = Duration::from_secs(10);

/// How long a write may take to count as one that succeeds: longer than the patience of the shoppers, because this is
/// about readiness, and not about speed.
const PATIENCE: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(300);

/// Of these users and clients nobody else has one.
const FIRST_USER: i64 = 1_000_000;
const FIRST_CLIENT: usize = 1000;

/// Asks each API directly whether it is ready, and then writes.
pub(super) async fn watch(
    machines: &Arc<Machines>,
    journal: &Arc<Journal>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let watches = (0..MACHINES).map(|api| watch_one(machines, journal, api, stop));
    try_join_all(watches).await?;
    Ok(())
}

async fn watch_one(
    machines: &Arc<Machines>,
    journal: &Arc<Journal>,
    api: usize,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let front = machines.access.client_fronts + api;
    let client = Client::with_patience(
        PATIENCE * machines.slowness,
        FIRST_CLIENT + api,
        machines.access.clone(),
        journal.clone(),
    )?;
    let url = format!("http://{}/readyz", machines.access.fronts[front]);
    let mut product = None;
    let mut user = FIRST_USER * (api as i64 + 1);
    // Since when it has been ready although no write has succeeded.
    let mut since = Instant::now();
    let limit = LIMIT * machines.slowness;
    while !stop.is_cancelled() {
        let answer = machines.http.get(&url).send().await;
        let ready = answer.is_ok_and(|answer| answer.status().is_success());
        if !ready || writes(&client, front, journal, &mut product, &mut user).await {
            since = Instant::now();
        } else if since.elapsed() > limit {
            journal.service_failed(format!(
                "api{} has said for {limit:?} that it is ready, but no write succeeds",
                api + 1
            ));
            since = Instant::now();
        }
        stop.run_until_cancelled(sleep(PAUSE)).await;
    }
    Ok(())
}

/// Whether a write was done, or refused for a reason of the sale.
async fn writes(
    client: &Client,
    front: usize,
    journal: &Journal,
    product: &mut Option<i64>,
    user: &mut i64,
) -> bool {
    *user += 1;
    let Some(product) = product else {
        let name = format!("{}-{user}", client.number);
        let made = client
            .ask(front, Request::CreateProduct(name, UNITS), None)
            .await;
        if let Answer::Product(made) = made {
            journal.product(made.id, UNITS);
            *product = Some(made.id);
        }
        return product.is_some();
    };
    let request = Request::Reserve {
        product: *product,
        user: *user,
        quantity: 1,
        reference: None,
    };
    let answer = client.ask(front, request, None).await;
    matches!(answer, Answer::Hold(_) | Answer::Refused { .. })
}
