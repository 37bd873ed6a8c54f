//! The rules against a real PostgreSQL: each test has a database of its own, made by the migrations.
//!
//! Time is moved by moving `expires_at`, never the clock, and nothing sleeps: what has to happen during a
//! wait happens once PostgreSQL says that the call waits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod after_sale;
mod audit;
mod compatibility;
mod concurrency;
mod confirm_cancel;
mod errors;
mod expire;
mod extend;
mod idempotency;
mod migrate;
mod migrate_live;
mod plans;
mod policy;
mod reads;
mod reserve;
mod reserve_batch;
mod schema;
mod sequences;
mod sql;
mod storm;
mod support;
mod turn;
mod waiting;
