//! The state of the PostgreSQL server, as far as an operator must know it.

use sqlx::{FromRow, PgConnection};

use crate::{Error, database::fetch};

/// What the server is doing that is not part of the sale.
#[derive(Clone, Copy, Debug, Default, FromRow, PartialEq)]
pub struct Server {
    /// False on a standby, and with `default_transaction_read_only`.
    pub writable: bool,
    /// Age of the oldest snapshot, in seconds. A long transaction, such as a dump, keeps PostgreSQL from removing old
    /// row versions. A product on sale has thousands of them per minute.
    pub oldest_snapshot_seconds: f64,
    /// How long the oldest commit has waited for a synchronous standby, in seconds.
    pub stalled_commit_seconds: f64,
}

/// Reads the state. A role without `pg_read_all_stats` sees only the sessions of its own role.
pub async fn state(connection: &mut PgConnection) -> Result<Server, Error> {
    let query = sqlx::query(
        "-- server state
        select not current_setting('transaction_read_only')::boolean as writable,
            greatest(0, extract(epoch from clock_timestamp() - least(s.oldest, p.oldest)))::float8
                as oldest_snapshot_seconds,
            greatest(0, extract(epoch from clock_timestamp() - s.waits_since))::float8 as stalled_commit_seconds
        from (
            select min(a.xact_start) filter (where a.backend_xmin is not null or a.backend_xid is not null) as oldest,
                min(a.state_change) filter (where a.wait_event = 'SyncRep') as waits_since
            from pg_stat_activity a
            where a.datname = current_database() and a.pid <> pg_backend_pid()
        ) s, (
            select min(x.prepared) as oldest from pg_prepared_xacts x where x.database = current_database()
        ) p",
    );
    let rows = fetch::<Server>(connection, query).await?;
    Ok(rows.first().copied().ok_or(sqlx::Error::RowNotFound)?)
}
