//! What clients have done lately: the products on sale, and holds and entries that other clients may act on.

use std::{collections::VecDeque, sync::Mutex};

use fastrand::Rng;

use super::journal::lock;

/// Number of products on sale at the same time.
pub(crate) const SALES: usize = 4;

/// Number of holds, and of entries, that are remembered.
const REMEMBERED: usize = 40;

/// All clients and the injector share it.
#[derive(Default)]
pub(crate) struct Recent {
    sales: Mutex<VecDeque<i64>>,
    holds: Mutex<VecDeque<i64>>,
    entries: Mutex<VecDeque<i64>>,
}

impl Recent {
    /// A new product is on sale, and ends the oldest sale.
    pub(crate) fn add_sale(&self, product: i64) {
        add(&self.sales, product, SALES);
    }

    pub(crate) fn add_hold(&self, hold: i64) {
        add(&self.holds, hold, REMEMBERED);
    }

    pub(crate) fn add_entry(&self, entry: i64) {
        add(&self.entries, entry, REMEMBERED);
    }

    pub(crate) fn sale(&self, rng: &mut Rng) -> Option<i64> {
        any(&self.sales, rng)
    }

    pub(crate) fn hold(&self, rng: &mut Rng) -> Option<i64> {
        any(&self.holds, rng)
    }

    pub(crate) fn entry(&self, rng: &mut Rng) -> Option<i64> {
        any(&self.entries, rng)
    }

    /// A few of the latest holds.
    pub(crate) fn some_holds(&self) -> Vec<i64> {
        lock(&self.holds)
            .iter()
            .rev()
            .take(20)
            .step_by(2)
            .copied()
            .collect()
    }
}

fn add(latest: &Mutex<VecDeque<i64>>, id: i64, most: usize) {
    let mut latest = lock(latest);
    latest.push_back(id);
    if latest.len() > most {
        latest.pop_front();
    }
}

fn any(latest: &Mutex<VecDeque<i64>>, rng: &mut Rng) -> Option<i64> {
    rng.choice(lock(latest).iter().copied())
}
