//! The data that one poll reads from PostgreSQL.

use inventory::{outbox, product::Product, server::Server, waitlist::Offers};
use presence::Instance;
use time::OffsetDateTime;

/// Most products that the page shows.
pub(crate) const PRODUCTS_MAX: usize = 500;

// Names of the data, for the alert `cannot_read`.
pub(crate) const SERVER: &str = "its state";
pub(crate) const PROCESSES: &str = "the processes";
pub(crate) const PRODUCTS: &str = "the products";
pub(crate) const WAITLISTS: &str = "the waitlists";
pub(crate) const HOLDS: &str = "the due holds";
pub(crate) const EVENTS: &str = "the waiting events";

/// The data of one poll. `None` was not read, or could not be read.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) server: Option<Server>,
    pub(crate) processes: Option<(OffsetDateTime, Vec<Instance>)>,
    /// Up to `PRODUCTS_MAX` + 1 products. The additional one shows that the list is not complete.
    pub(crate) products: Option<Vec<Product>>,
    /// Of up to `PRODUCTS_MAX` products: those with the highest ids that ever offered a hold.
    pub(crate) offered: Option<Vec<Offers>>,
    pub(crate) lag_seconds: Option<f64>,
    /// `None` in most polls: a count is expensive if many events wait.
    pub(crate) outbox: Option<outbox::Status>,
    /// Names of the data that PostgreSQL refused to return.
    pub(crate) unreadable: Vec<&'static str>,
}
