//! Outages of servers.

mod commit;
mod postgres;
mod read_only;
mod redis;
