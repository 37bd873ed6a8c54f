//! Users who reserve units: of one product, or of several at once.

use std::time::Duration;

use tokio::time::sleep;

use super::shopper::{Shopper, USERS};
use crate::chaos::history::{Answer, Request};

impl Shopper {
    pub(super) async fn buy(&mut self) {
        let Some(product) = self.recent.sale(&mut self.rng) else {
            return sleep(Duration::from_millis(100)).await;
        };
        let user = self.rng.i64(1..=USERS);
        let quantity = self.rng.i64(1..4);
        let request = Request::Reserve {
            product,
            user,
            quantity,
            reference: None,
        };
        match self.ask(request).await {
            Answer::Hold(hold) => {
                self.recent.add_hold(hold.id);
                self.decide(hold).await;
            }
            // Holds that may exist because an answer was lost are included.
            Answer::Refused {
                standing: Some(hold),
                ..
            } if self.rng.u8(..4) == 0 => {
                self.ask(Request::Get(hold)).await;
                self.ask(Request::Cancel(hold)).await;
            }
            Answer::Refused { code, .. } if code == "sold_out" && self.rng.bool() => {
                self.wait_in_line(product, user, quantity).await;
            }
            _ => {}
        }
    }

    pub(super) async fn buy_batch(&mut self) {
        let mut products: Vec<i64> = (0..3)
            .filter_map(|_| self.recent.sale(&mut self.rng))
            .collect();
        products.sort_unstable();
        products.dedup();
        if products.is_empty() {
            return sleep(Duration::from_millis(100)).await;
        }
        self.rng.shuffle(&mut products);
        let items = products.into_iter();
        let request = Request::ReserveBatch {
            items: items.map(|id| (id, self.rng.i64(1..4))).collect(),
            user: self.rng.i64(1..=USERS),
            reference: self.own_name(),
        };
        if let Answer::Holds(holds) = self.ask(request).await {
            for hold in &holds {
                self.recent.add_hold(hold.id);
            }
            match self.rng.bool() {
                true => self.decide_batch(&holds).await,
                false => {
                    for hold in holds {
                        self.decide(hold).await;
                    }
                }
            }
        }
    }
}
