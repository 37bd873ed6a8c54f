//! The harness, shared by the end-to-end tests and the chaos run: real processes, real servers, and the network
//! between them, each with ways to make it fail.

#![allow(
    clippy::disallowed_methods,
    reason = "the rules for the service's own code"
)]

pub mod chaos;
mod process;
mod proxy;
mod redis_command;
mod servers;
mod wait;

pub use process::{Child, Log, output, start, start_with, start_with_files};
pub use proxy::{Proxy, Traffic};
pub use redis_command::redis_command;
pub use servers::{Server, Service};
pub use wait::{PATIENCE, eventually};
