//! Test support: the whole service, the servers it needs, and ways to stop them.

mod client;
mod contract;
mod database;
mod folder;
mod peer;
mod program;
mod redis;
mod system;
mod tools;
mod viewer;
mod wire;

pub(crate) use self::redis::{Redis, timer_key};
pub(crate) use client::{Answer, Client, DEAD_LETTER_FIELDS, assert_fields, assert_utc, id};
pub(crate) use contract::{ASYNCAPI, OPENAPI};
pub(crate) use database::Database;
pub(crate) use flashsale_tests::{
    Child, Log, PATIENCE, Proxy, Server, Service, Traffic, eventually, output, redis_command,
    start, start_with, start_with_files,
};
pub(crate) use folder::Folder;
pub(crate) use peer::{NO_RABBITMQ, NO_REDIS, Peer};
pub(crate) use program::Program;
pub(crate) use system::System;
pub(crate) use tools::{Tools, is_installed, root, skipped_without, succeeds};
pub(crate) use viewer::{Viewer, alerts, find};
pub(crate) use wire::Wire;

/// An environment variable set by `deploy/local/test.sh`.
pub(crate) fn test_server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run the tests with `make test`, which starts the servers")
    })
}
