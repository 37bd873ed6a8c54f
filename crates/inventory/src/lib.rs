//! All rules of the service and their SQL: products, reservations, the outbox. This crate does not use HTTP, Redis or
//! AMQP.
//!
//! Each verb takes a slice and makes one call of a SQL function (`sql/*.sql`, installed by [`migrate`]): one round
//! trip and one implicit transaction serve one request or a thousand. The product row is the mutex of its holds:
//! every verb first locks the products that it changes, in id order, and then reads the clock once.

#![warn(missing_docs)]

pub mod adjust_stock;
pub mod audit;
pub mod batch;
pub mod cancel;
pub mod cancel_batch;
pub mod cell;
pub mod compatibility;
pub mod confirm;
pub mod confirm_batch;
pub mod database;
mod error;
pub mod event;
pub mod expire;
pub mod extend;
pub mod extend_batch;
pub mod id_epoch;
pub mod idempotency;
mod ids;
pub mod import;
pub mod join_waitlist;
pub mod leave_waitlist;
pub mod list;
pub mod locked;
pub mod migrate;
pub mod move_product;
pub mod moved;
pub mod outbox;
pub mod product;
pub mod reacquire;
pub mod reservation;
pub mod reserve;
pub mod reserve_batch;
pub mod restored;
pub mod return_sold;
pub mod schema;
pub mod server;
mod session;
pub mod set_stock;
pub mod sku;
pub mod stock_ledger;
mod timestamp;
mod trace_events;
pub mod transition;
pub mod waitlist;

pub use database::Executor;
pub use error::Error;
pub use ids::{
    NotPositive, ProductId, Quantity, ReservationId, Seconds, StockChangeId, UserId,
    WaitlistEntryId, whole_number,
};
pub use timestamp::{InvalidTimestamp, Timestamp};
