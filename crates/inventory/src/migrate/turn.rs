//! The advisory lock by which only one process migrates a database at a time.

use std::time::Duration;

use anyhow::Context as _;
use sqlx::PgConnection;
use tokio::time::sleep;

use super::statements::execute;

/// Key of the advisory lock for migrations in this database. Any number that no other program uses.
const TURN: i64 = 0x666c_6173_6873;
const TURN_PAUSE: Duration = Duration::from_millis(100);

/// Polls for the advisory lock. A session that waits for a lock in PostgreSQL has a snapshot, and a concurrent index
/// build of the lock holder would wait for that snapshot: a deadlock.
pub(super) async fn take(connection: &mut PgConnection) -> anyhow::Result<()> {
    loop {
        let taken: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
            .bind(TURN)
            .fetch_one(&mut *connection)
            .await
            .context("cannot take the migration lock")?;
        if taken {
            return Ok(());
        }
        sleep(TURN_PAUSE).await;
    }
}

/// Releases the lock of [`take`].
pub(super) async fn release(connection: &mut PgConnection) -> anyhow::Result<()> {
    execute(connection, &format!("select pg_advisory_unlock({TURN})")).await
}

/// Waits for the lock, and holds it until the end of this transaction.
pub(super) async fn take_in(transaction: &mut PgConnection) -> anyhow::Result<()> {
    let statement = format!("select pg_advisory_xact_lock({TURN})");
    execute(transaction, &statement).await
}
