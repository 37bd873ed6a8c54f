//! A session that keeps an old snapshot, as a report or a forgotten `begin` does in production.

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection};

use crate::database::Database;

/// How long the load lasts before it is timed, and how often its rate is shown: the decay takes minutes.
pub(crate) const AGE_SECONDS: u32 = AGE_STEPS * AGE_STEP_SECONDS;
pub(crate) const AGE_STEPS: u32 = 4;
pub(crate) const AGE_STEP_SECONDS: u32 = 30;

/// As long as it lives, PostgreSQL keeps every row version that this session could still read.
pub(crate) struct HeldSnapshot(PgConnection);

impl HeldSnapshot {
    pub(crate) async fn take(database: &Database) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(&database.url).await?;
        // The first statement takes the snapshot, not `begin`.
        sqlx::raw_sql("begin isolation level repeatable read; select 1")
            .execute(&mut connection)
            .await?;
        Ok(Self(connection))
    }

    /// Fails when PostgreSQL has ended the session meanwhile: then the load was without it for a part of the time.
    pub(crate) async fn release(mut self) -> anyhow::Result<()> {
        sqlx::raw_sql("commit")
            .execute(&mut self.0)
            .await
            .context("the snapshot was not held to the end")?;
        Ok(self.0.close().await?)
    }
}
