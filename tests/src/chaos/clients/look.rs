//! Clients that read, and clients that act on what is not theirs.

use super::shopper::{Shopper, USERS};
use crate::chaos::history::Request;

impl Shopper {
    pub(super) async fn look(&mut self) {
        let request = match self.rng.u8(..10) {
            0 => Request::Audit,
            1 => Request::SyncExpired,
            2 | 3 => Request::ListOfUser(self.rng.i64(1..=USERS)),
            4 | 5 => match self.recent.sale(&mut self.rng) {
                Some(product) => Request::Product(product),
                None => return,
            },
            _ => match self.recent.hold(&mut self.rng) {
                Some(hold) => Request::Get(hold),
                None => return,
            },
        };
        self.ask_once(request, None).await;
    }

    /// Acts on a hold of another client.
    pub(super) async fn meddle(&mut self) {
        if let Some(hold) = self.recent.hold(&mut self.rng) {
            let request = match self.rng.u8(..6) {
                0 | 1 => Request::Confirm(hold),
                2 => Request::Cancel(hold),
                3 => Request::Extend(hold, self.rng.i64(1..9)),
                4 => Request::Reacquire(hold),
                _ => Request::Return(hold),
            };
            let key = self.key_for(&request);
            self.ask_once(request, key.as_deref()).await;
        }
    }
}
