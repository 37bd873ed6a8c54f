//! What one poll finds in PostgreSQL.

use inventory::{outbox, product::Product};
use presence::Instance;
use time::OffsetDateTime;

/// How many products are shown.
pub(crate) const PRODUCTS_MAX: usize = 500;

/// What is read, as an alert calls it.
pub(crate) const PROCESSES: &str = "the processes";
pub(crate) const PRODUCTS: &str = "the products";
pub(crate) const HOLDS: &str = "the holds that are due";
pub(crate) const EVENTS: &str = "the events that wait";

/// What a poll found in PostgreSQL. `None` is what it would not tell.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) processes: Option<(OffsetDateTime, Vec<Instance>)>,
    /// One more than are shown tells that there are more.
    pub(crate) products: Option<Vec<Product>>,
    pub(crate) lag_seconds: Option<f64>,
    /// Not counted each time.
    pub(crate) outbox: Option<outbox::Status>,
    /// What was asked for in vain.
    pub(crate) unreadable: Vec<&'static str>,
}
