//! The metrics of the server.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Why the server closed a connection before its client did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Closed {
    Head,
    Body,
    Idle,
    Write,
    /// For a new connection, at the limit on connections.
    Replaced,
}

impl Closed {
    const ALL: [(Self, &str); 5] = [
        (Self::Head, "head"),
        (Self::Body, "body"),
        (Self::Idle, "idle"),
        (Self::Write, "write"),
        (Self::Replaced, "replaced"),
    ];
}

pub(crate) struct Metrics {
    pub(crate) open: IntGauge,
    pub(crate) accept_errors: IntCounter,
    pub(crate) full: IntCounter,
    /// In the order of [`Closed::ALL`].
    closed: [IntCounter; 5],
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let closed = IntCounterVec::new(
            Opts::new(
                "http_connections_closed_total",
                "Connections that the server closed because of a limit, by the limit.",
            ),
            &["limit"],
        )?;
        let metrics = Self {
            open: IntGauge::new("http_connections", "Open connections.")?,
            accept_errors: IntCounter::new(
                "http_accept_errors_total",
                "Failed attempts to accept a connection, for example without a free file descriptor.",
            )?,
            full: IntCounter::new(
                "http_connections_full_total",
                "Times that all HTTP_MAX_CONNECTIONS were open when the server was ready to accept one more.",
            )?,
            closed: Closed::ALL.map(|(_, limit)| closed.with_label_values(&[limit])),
        };
        registry.register(Box::new(closed))?;
        registry.register(Box::new(metrics.open.clone()))?;
        registry.register(Box::new(metrics.accept_errors.clone()))?;
        registry.register(Box::new(metrics.full.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn closed(&self, why: Closed) {
        self.closed[why as usize].inc();
    }
}
