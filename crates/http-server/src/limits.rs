//! The limits of the server.

use std::time::Duration;

/// What clients may make the server hold.
#[derive(clap::Args, Clone)]
// Several flattened groups are called `Args`, and clap refuses groups of the same name.
#[group(skip)]
pub struct Limits {
    /// Most open connections. At the limit, the connection that has been idle longest is closed for a new one. If none
    /// is idle, new connections wait. The limit is lower if the process may not open enough files.
    #[arg(long, env = "HTTP_MAX_CONNECTIONS", default_value_t = 4096,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub http_max_connections: u32,

    /// Largest head of a request, in bytes. A larger one is answered 431.
    #[arg(long, env = "HTTP_HEAD_MAX_BYTES", default_value_t = 16_384,
        value_parser = clap::value_parser!(u32).range(8192..=1_048_576))]
    pub http_head_max_bytes: u32,

    /// Longest time from the first to the last byte of a head, in seconds. It is also the longest time before the
    /// first byte of a connection. Then the connection is closed.
    #[arg(long, env = "HTTP_HEAD_SECONDS", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub http_head_seconds: u32,

    /// Longest time for the body of a request, in seconds. Then the request is answered 408.
    #[arg(long, env = "HTTP_BODY_SECONDS", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub http_body_seconds: u32,

    /// Longest time between two requests of a connection, in seconds. It should be longer than the idle time of the
    /// proxies and clients in front of this process, so that they close first.
    #[arg(long, env = "HTTP_IDLE_SECONDS", default_value_t = 75,
        value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub http_idle_seconds: u32,

    /// Longest time that a client may take to read 64 KiB of an answer, or its rest, in seconds. Then the connection is
    /// closed.
    #[arg(long, env = "HTTP_WRITE_SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub http_write_seconds: u32,

    /// File descriptors that connections must leave to the rest of the process: its servers, files and timers.
    #[arg(skip = SPARE_DESCRIPTORS)]
    pub reserved_descriptors: u32,
}

/// Descriptors that every process needs: the event loops, the log, certificates, Redis, name lookups.
const SPARE_DESCRIPTORS: u32 = 64;

impl Limits {
    /// The limits of a process that only answers probes and scrapes.
    pub fn for_probes() -> Self {
        Self {
            http_max_connections: 256,
            http_head_max_bytes: 16_384,
            http_head_seconds: 10,
            http_body_seconds: 10,
            http_idle_seconds: 75,
            http_write_seconds: 30,
            reserved_descriptors: SPARE_DESCRIPTORS,
        }
    }

    /// The same limits for a process that needs this many more descriptors, for example for its connections to
    /// PostgreSQL.
    #[must_use]
    pub fn beside_descriptors(mut self, more: u32) -> Self {
        self.reserved_descriptors = self.reserved_descriptors.saturating_add(more);
        self
    }

    pub(crate) fn head(&self) -> Duration {
        Duration::from_secs(self.http_head_seconds.into())
    }

    pub(crate) fn body(&self) -> Duration {
        Duration::from_secs(self.http_body_seconds.into())
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs(self.http_idle_seconds.into())
    }

    pub(crate) fn write(&self) -> Duration {
        Duration::from_secs(self.http_write_seconds.into())
    }
}
