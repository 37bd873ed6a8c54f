//! What the shop itself does during a sale: it opens sales, and changes stocks and rules.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::shopper::Shopper;
use crate::chaos::{
    history::{Answer, Request},
    journal::Journal,
    recent::SALES,
    sale::{FEW_UNITS, UNITS},
};

impl Shopper {
    /// Opens a new sale whenever an old one ends. Each lasts this long.
    pub(super) async fn sell(
        mut self,
        lasts: Duration,
        journal: Arc<Journal>,
        stop: CancellationToken,
    ) {
        let pause = lasts / SALES as u32;
        let mut scarce = false;
        while !stop.is_cancelled() {
            scarce = !scarce;
            let units = if scarce { FEW_UNITS } else { UNITS };
            let request = Request::CreateProduct(self.own_name(), units);
            if let Answer::Product(product) = self.ask_if_safe(request).await {
                journal.product(product.id, units);
                self.recent.add_sale(product.id);
            }
            stop.run_until_cancelled(sleep(pause)).await;
        }
    }

    pub(super) async fn adjust_stock(&mut self) {
        if let Some(product) = self.recent.sale(&mut self.rng) {
            let delta = self.rng.i64(1..6) * if self.rng.bool() { 1 } else { -1 };
            let reason = self.own_name();
            self.ask_if_safe(Request::Adjust {
                product,
                delta,
                reason,
            })
            .await;
        }
    }

    /// Changes a product's rules for later requests.
    pub(super) async fn change_product(&mut self) {
        if let Some(product) = self.recent.sale(&mut self.rng) {
            let which = self.rng.u8(..3);
            let request = Request::ChangeProduct {
                product,
                // Excludes durations that no client can meet, and extensions without effect.
                hold_seconds: (which != 0).then(|| self.rng.i64(3..7)),
                max_per_user: (which != 1).then(|| self.rng.i64(2..7)),
            };
            // The change is idempotent.
            self.ask(request).await;
        }
    }
}
