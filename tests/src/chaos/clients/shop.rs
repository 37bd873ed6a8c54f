//! What the shop itself does during a sale: it changes stocks and rules.

use super::{super::history::Request, Shopper};

impl Shopper {
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
