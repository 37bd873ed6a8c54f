//! The HTTP server of every process. What a client can make it hold is limited: connections, the size and the time of
//! a head, the time of a body, idle time, and unread answers. It stops without losing an answer.
//!
//! `axum::serve` has none of these limits. This crate uses hyper directly. A limit that is not reached costs a request
//! no timer and no allocation.

#![warn(missing_docs)]

mod accept;
mod connection;
mod descriptors;
mod exchange;
mod limits;
mod metrics;
mod probe;
mod registry;
mod stream;

pub use accept::{listen, serve};
pub use exchange::BodyTimeout;
pub use limits::Limits;
pub use probe::probe;
