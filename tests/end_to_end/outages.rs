//! Outages of servers.

mod commit;
mod postgres;
mod redis;
