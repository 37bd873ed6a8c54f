//! Users who wait for units.

use super::shopper::{Shopper, USERS};
use crate::chaos::history::{Answer, Request};

impl Shopper {
    /// Joins without having been refused. If units are free, the user is offered them at once.
    pub(super) async fn join_a_line(&mut self) {
        if let Some(product) = self.recent.sale(&mut self.rng) {
            let (user, quantity) = (self.rng.i64(1..=USERS), self.rng.i64(1..4));
            self.wait_in_line(product, user, quantity).await;
        }
    }

    pub(super) async fn wait_in_line(&mut self, product: i64, user: i64, quantity: i64) {
        let request = Request::Join {
            product,
            user,
            quantity,
            reference: self.own_name(),
        };
        if let Answer::Entry(entry) = self.ask(request).await {
            self.recent.add_entry(entry.id);
        }
    }

    /// Looks whether a user who waits was offered units, and decides about the hold. Sometimes the user leaves.
    pub(super) async fn look_at_a_line(&mut self) {
        let Some(entry) = self.recent.entry(&mut self.rng) else {
            return;
        };
        if self.rng.u8(..4) == 0 {
            self.ask(Request::Leave(entry)).await;
        }
        if let Answer::Entry(entry) = self.ask(Request::GetEntry(entry)).await
            && let Some(hold) = entry.hold
            && let Answer::Hold(hold) = self.ask(Request::Get(hold)).await
        {
            self.recent.add_hold(hold.id);
            self.decide(hold).await;
        }
    }
}
