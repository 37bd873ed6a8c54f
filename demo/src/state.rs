//! State that all shoppers share.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{catalog::Times, journal::Journal, shop::Shop};

/// A sale under way.
pub(crate) struct Sale {
    pub(crate) shop: Shop,
    pub(crate) journal: Arc<Journal>,
    pub(crate) products: Vec<Product>,
    pub(crate) times: Times,
    pub(crate) opened: Instant,
}

#[derive(Clone, Copy)]
pub(crate) struct Product {
    pub(crate) id: i64,
    pub(crate) opens: Instant,
}

impl Sale {
    /// Whether it will be too late to reserve after this wait.
    pub(crate) fn is_over_in(&self, wait: Duration) -> bool {
        self.opened.elapsed() + wait >= self.times.last_reserve
    }
}
