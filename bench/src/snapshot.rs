//! A session that holds an old snapshot, as a report or a forgotten `begin` does in production.

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection};

use crate::database::Database;

/// Duration of the load before it is timed, and interval of the printed rate. The slowdown takes minutes to develop.
pub(crate) const AGE_SECONDS: u32 = AGE_STEPS * AGE_STEP_SECONDS;
pub(crate) const AGE_STEPS: u32 = 4;
pub(crate) const AGE_STEP_SECONDS: u32 = 30;

/// While it exists, PostgreSQL keeps every row version that this session could still read.
pub(crate) struct HeldSnapshot(PgConnection);

impl HeldSnapshot {
    pub(crate) async fn take(database: &Database) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(&database.url).await?;
        // The snapshot is taken by the first statement, not by `begin`.
        sqlx::raw_sql("begin isolation level repeatable read; select 1")
            .execute(&mut connection)
            .await?;
        Ok(Self(connection))
    }

    /// Fails if PostgreSQL has ended the session: then a part of the load ran without it.
    pub(crate) async fn release(mut self) -> anyhow::Result<()> {
        sqlx::raw_sql("commit")
            .execute(&mut self.0)
            .await
            .context("the snapshot was not held to the end")?;
        Ok(self.0.close().await?)
    }
}
