//! Simulated shoppers: they reserve, cancel, race each other and their deadlines, and retry. One more client is the shop.

mod buy;
mod decide;
mod line;
mod look;
mod shop;
mod shopper;

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    access::Access, history::Request, journal::Journal, recent::Recent, sale::UNITS, wire::Client,
};
use shopper::{Shopper, USERS};

const CLIENTS: usize = 16;

/// Starts the clients. When told to stop, each finishes its current work.
pub(crate) fn start(
    seed: u64,
    access: &Arc<Access>,
    journal: &Arc<Journal>,
    recent: &Arc<Recent>,
    stop: &CancellationToken,
) -> anyhow::Result<JoinSet<()>> {
    let mut clients = JoinSet::new();
    for number in 0..=CLIENTS {
        let client = Client::new(number, access.clone(), journal.clone())?;
        let rng = Rng::with_seed(seed.wrapping_mul(1000).wrapping_add(number as u64));
        let shopper = Shopper::new(client, access.client_fronts, rng, recent.clone());
        let (journal, stop) = (journal.clone(), stop.clone());
        if number == CLIENTS {
            clients.spawn(shopper.sell(access.sale, journal, stop));
        } else {
            clients.spawn(act(shopper, stop));
        }
    }
    Ok(clients)
}

/// Does one thing after the other.
async fn act(mut shopper: Shopper, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match shopper.rng.u8(..40) {
            0 | 1 => shopper.look().await,
            2 | 3 => shopper.meddle().await,
            4 | 5 => shopper.adjust_stock().await,
            11 => shopper.ask_an_old_one().await,
            14 | 15 => shopper.look_at_a_line().await,
            16 => shopper.join_a_line().await,
            12 | 13 => shopper.change_product().await,
            6..11 => shopper.buy_batch().await,
            _ => shopper.buy().await,
        }
        let pause = Duration::from_millis(shopper.rng.u64(5..60));
        stop.run_until_cancelled(sleep(pause)).await;
    }
}

/// Reserves every free unit of each product, and one more. Each round has its own users.
pub(crate) async fn buy_out(
    free: &[(i64, i64)],
    round: i64,
    access: &Arc<Access>,
    journal: &Arc<Journal>,
) -> anyhow::Result<()> {
    let mut buyers = JoinSet::new();
    for number in 0..4 {
        let client = Client::new(CLIENTS + 1 + number, access.clone(), journal.clone())?;
        let apis = access.client_fronts;
        let mine: Vec<(i64, i64)> = free.iter().copied().skip(number).step_by(4).collect();
        buyers.spawn(async move {
            for (product, units) in mine {
                let first = USERS + 1 + round * 2 * UNITS;
                for user in first..=first + units {
                    let request = Request::Reserve {
                        product,
                        user,
                        quantity: 1,
                        reference: None,
                    };
                    client.ask(user as usize % apis, request, None).await;
                }
            }
        });
    }
    while let Some(bought) = buyers.join_next().await {
        bought?;
    }
    Ok(())
}
