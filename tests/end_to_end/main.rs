//! Tests of the whole service over HTTP, with real processes and real servers.
//!
//! Every test has its own service and database ([`support::System`]). Answers and messages are checked as raw JSON,
//! never with the server's own types, so that a renamed field fails here.

#![allow(
    clippy::too_many_lines,
    clippy::disallowed_methods,
    reason = "the rules for the service's own code: a test reads as one story"
)]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod cells;
mod chaos;
mod clients;
mod connections;
mod contract;
mod demo;
mod deployment;
mod events;
mod examples;
mod expiry;
mod fuzz;
mod lanes;
mod live;
mod modules;
mod outages;
mod overload;
mod readme;
mod restore;
mod schema;
mod settings;
mod shutdown;
mod startup;
mod support;
mod tls;
#[cfg(feature = "otel")]
mod traces;
