//! What the API's settings say of every sale.

use inventory::event::Events;

/// The defaults for products that say nothing else, and the events that are wanted.
pub(crate) struct Sale {
    pub(crate) hold_seconds: i32,
    pub(crate) max_hold_seconds: i32,
    pub(crate) events: Events,
}
