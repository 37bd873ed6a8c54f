//! The harness, shared by the end-to-end tests and the chaos run: real processes, real servers, and the network
//! between them, each with ways to make it fail.

#![allow(
    clippy::too_many_lines,
    clippy::disallowed_methods,
    reason = "the rules for the service's own code: a checker reads as one story"
)]

pub mod chaos;
mod process;
mod proxy;
mod servers;
mod wait;

pub use process::{Child, Log, output, start, start_with, start_with_files};
pub use proxy::{Proxy, Traffic};
pub use servers::{Server, Service};
pub use wait::{PATIENCE, eventually};
