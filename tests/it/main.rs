//! The service through its front door: HTTP and real processes against real servers.
//!
//! Every test has a service and a database of its own ([`support::System`]) and reads as a story. What
//! goes over the wire is looked at as raw JSON, never through the server's own types, so that
//! a renamed field fails here.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod chaos;
mod contract;
mod demo;
mod events;
mod expiry;
mod fuzz;
mod lanes;
mod live;
mod outages;
mod overload;
mod readme;
mod schema;
mod settings;
mod shutdown;
mod support;
mod tls;
#[cfg(feature = "otel")]
mod traces;
