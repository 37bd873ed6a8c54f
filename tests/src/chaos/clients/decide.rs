//! Users who decide about their holds: they confirm, cancel, extend, return, wait for the deadline, or leave it.

use std::time::Duration;

use tokio::time::sleep;

use super::shopper::Shopper;
use crate::chaos::{
    clock::now,
    history::{Act, Answer, Hold, Request},
};

impl Shopper {
    pub(super) async fn decide(&mut self, hold: Hold) {
        let (confirm, cancel) = (Request::Confirm(hold.id), Request::Cancel(hold.id));
        match self.rng.u8(..20) {
            0..5 => {
                self.ask(confirm).await;
            }
            5 => {
                self.ask(confirm).await;
                self.ask(Request::Return(hold.id)).await;
            }
            6 => {
                self.ask(confirm).await;
                self.race(Request::Return(hold.id), Request::Return(hold.id))
                    .await;
            }
            7 => {
                let seconds = self.rng.i64(1..9);
                self.race(confirm, Request::Extend(hold.id, seconds)).await;
            }
            8 => {
                let seconds = self.rng.i64(4..9);
                if let Answer::Hold(longer) = self.ask(Request::Extend(hold.id, seconds)).await {
                    self.wait_for_deadline(&longer).await;
                    self.ask(confirm).await;
                }
            }
            9 => {
                self.wait_for_deadline(&hold).await;
                self.race(Request::Extend(hold.id, 9), Request::Reacquire(hold.id))
                    .await;
            }
            10 => {
                self.wait_for_deadline(&hold).await;
                self.race(Request::Reacquire(hold.id), Request::Reacquire(hold.id))
                    .await;
            }
            11..13 => {
                self.ask(cancel).await;
            }
            13 => self.race(confirm, cancel).await,
            14 => self.race(confirm.clone(), confirm).await,
            15 => self.race(cancel.clone(), cancel).await,
            16 => {
                self.wait_for_deadline(&hold).await;
                self.ask(confirm).await;
            }
            // The hold is left to expire.
            _ => {}
        }
    }

    /// Acts on a whole order, sometimes on a part of it first or at the same time.
    pub(super) async fn decide_batch(&mut self, holds: &[Hold]) {
        let mut ids: Vec<i64> = holds.iter().map(|hold| hold.id).collect();
        self.rng.shuffle(&mut ids);
        let (first, seconds) = (ids[0], self.rng.i64(4..9));
        let all = |act| Request::Order(act, ids.clone());
        let (confirm, cancel) = (all(Act::Confirm), all(Act::Cancel));
        match self.rng.u8(..10) {
            0..3 => {
                self.ask(confirm).await;
            }
            3 => {
                self.ask(cancel).await;
            }
            4 => self.race(confirm, cancel).await,
            5 => self.race(confirm, Request::Cancel(first)).await,
            6 => {
                self.ask(Request::Confirm(first)).await;
                self.race(cancel, confirm).await;
            }
            7 => {
                self.ask(all(Act::Extend(seconds))).await;
                self.ask(confirm).await;
            }
            8 => {
                self.wait_for_deadline(&holds[0]).await;
                self.race(all(Act::Reacquire), all(Act::Extend(seconds)))
                    .await;
            }
            // The order is left to expire.
            _ => {}
        }
    }

    /// Waits until shortly before or after the deadline.
    async fn wait_for_deadline(&mut self, hold: &Hold) {
        let slack = self.rng.i64(-30_000..30_000);
        let until = u64::try_from(hold.expires - now() + slack).unwrap_or(0);
        sleep(Duration::from_micros(until)).await;
    }
}
