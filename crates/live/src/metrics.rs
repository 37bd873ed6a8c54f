//! Metrics of PostgreSQL.

use prometheus::{Gauge, Registry};

use crate::view::Database;

/// What Prometheus must know of PostgreSQL. Every copy of the API measures the same.
pub(crate) struct Metrics {
    oldest_snapshot_seconds: Gauge,
    stalled_commit_seconds: Gauge,
    read_only: Gauge,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name, help| {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            oldest_snapshot_seconds: gauge(
                "flashsale_postgres_oldest_snapshot_seconds",
                "Age of the oldest snapshot in the database. Of standbys and replication slots: since when it has not moved.",
            )?,
            stalled_commit_seconds: gauge(
                "flashsale_postgres_stalled_commit_seconds",
                "How long the oldest commit has waited for a synchronous standby.",
            )?,
            read_only: gauge(
                "flashsale_postgres_read_only",
                "1 while PostgreSQL answers but cannot be written to, otherwise 0.",
            )?,
        })
    }

    pub(crate) fn set(&self, database: &Database) {
        self.oldest_snapshot_seconds
            .set(database.oldest_snapshot_seconds);
        self.stalled_commit_seconds
            .set(database.stalled_commit_seconds);
        self.read_only.set(f64::from(u8::from(database.read_only)));
    }
}
