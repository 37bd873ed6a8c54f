//! The API's settings that apply to every sale.

use inventory::event::Events;

/// The defaults for products without rules of their own, and the events to write.
pub(crate) struct Sale {
    pub(crate) hold_seconds: i32,
    pub(crate) max_hold_seconds: i32,
    pub(crate) events: Events,
}
