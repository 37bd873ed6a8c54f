//! The state of the PostgreSQL server, as far as an operator must know it.

use sqlx::{FromRow, PgConnection};

use crate::{Error, database::fetch};

/// What the server is doing that is not part of the sale.
#[derive(Clone, Debug, Default, FromRow, PartialEq)]
pub struct Server {
    /// False on a standby, and with `default_transaction_read_only`.
    pub writable: bool,
    /// Age of the oldest snapshot of a session or of a prepared transaction, in seconds. A long transaction, such as a
    /// dump, keeps PostgreSQL from removing old row versions. A product on sale has thousands of them per minute. A
    /// commit that waits for a standby does not count: it has a number of its own.
    pub oldest_snapshot_seconds: f64,
    /// Who has this snapshot, as words for people. `None`: nobody.
    pub oldest_snapshot_holder: Option<String>,
    /// How long the oldest commit has waited for a synchronous standby, in seconds.
    pub stalled_commit_seconds: f64,
    /// Standbys and replication slots with a snapshot.
    #[sqlx(skip)]
    pub remote_snapshots: Vec<RemoteSnapshot>,
}

/// A snapshot of a standby with `hot_standby_feedback`. PostgreSQL keeps row versions for it as for a session, and knows no
/// time of it. A replication slot keeps the last one of its standby, also after the standby is gone.
#[derive(Clone, Debug, FromRow, PartialEq)]
pub struct RemoteSnapshot {
    /// Who has it, as words for people.
    pub holder: String,
    /// The oldest transaction that the snapshot does not see. It moves while transactions begin and end.
    pub xmin: String,
}

/// The column that says how long the oldest commit has waited for a synchronous standby, in seconds; 0 if none waits.
macro_rules! stalled_commit_seconds {
    () => {
        "(
            select greatest(0, extract(epoch from clock_timestamp() - min(a.state_change)))::float8
            from pg_stat_activity a where a.datname = current_database() and a.wait_event = 'SyncRep'
        ) as stalled_commit_seconds"
    };
}
pub(crate) use stalled_commit_seconds;

/// Reads the state. A role without `pg_read_all_stats` sees only the sessions of its own role.
pub async fn state(connection: &mut PgConnection) -> Result<Server, Error> {
    let query = sqlx::query(concat!(
        "-- server state
        with oldest as (
            select format('session %s (%s)', a.pid, a.application_name) as holder, a.xact_start as since
            from pg_stat_activity a
            where a.datname = current_database() and a.pid <> pg_backend_pid()
                and (a.backend_xmin is not null or a.backend_xid is not null) and a.xact_start is not null
                and a.wait_event is distinct from 'SyncRep'
            union all
            select 'prepared transaction ' || x.gid, x.prepared
            from pg_prepared_xacts x where x.database = current_database()
            order by since limit 1
        )
        select not current_setting('transaction_read_only')::boolean as writable,
            greatest(0, extract(epoch from clock_timestamp() - o.since))::float8 as oldest_snapshot_seconds,
            o.holder as oldest_snapshot_holder, ",
        stalled_commit_seconds!(),
        " from (select) one left join oldest o on true"
    ));
    let rows = fetch::<Server>(&mut *connection, query).await?;
    let server = rows.into_iter().next().ok_or(sqlx::Error::RowNotFound)?;
    Ok(Server {
        remote_snapshots: remote_snapshots(connection).await?,
        ..server
    })
}

/// Several standbys may have the same name: the oldest snapshot of each name counts.
async fn remote_snapshots(connection: &mut PgConnection) -> Result<Vec<RemoteSnapshot>, Error> {
    let query = sqlx::query(
        "-- server state: remote snapshots
        select distinct on (s.holder) s.holder, s.xmin::text as xmin
        from (
            select 'standby ' || r.application_name as holder, r.backend_xmin as xmin from pg_stat_replication r
            union all
            select 'replication slot ' || l.slot_name, l.xmin from pg_replication_slots l
        ) s
        where s.xmin is not null
        order by s.holder, age(s.xmin) desc",
    );
    fetch(connection, query).await
}
