//! Outages of servers.

mod commit;
mod failover;
mod pooler;
mod postgres;
mod read_only;
mod redis;
mod redis_failover;
