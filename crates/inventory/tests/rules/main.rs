//! The rules against a real PostgreSQL. Each test has its own migrated database.
//!
//! Tests move `expires_at`, never the clock, and do not sleep. An action that must happen during a wait starts once
//! PostgreSQL reports that the call waits.

#![allow(
    clippy::too_many_lines,
    clippy::disallowed_methods,
    reason = "the rules for the service's own code: a test reads as one story"
)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod after_sale;
mod audit;
mod compatibility;
mod concurrency;
mod confirm_cancel;
mod errors;
mod expire;
mod extend;
mod id_epoch;
mod idempotency;
mod import;
mod locks;
mod migrate;
mod migrate_live;
mod move_product;
mod orders;
mod outbox;
mod plans;
mod policy;
mod reads;
mod reserve;
mod reserve_batch;
mod schema;
mod sequences;
mod sessions;
mod set_stock;
mod sku;
mod sql;
mod storm;
mod support;
mod waited;
mod waiting;
mod waitlist;
