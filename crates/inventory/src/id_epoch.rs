//! Ids are never given out twice, also after a restore or a failover: see `sql/advance_ids.sql`.
//!
//! PostgreSQL begins a new *timeline* with each recovery to a point in time and each promotion of a standby. All
//! connections are new then, so each new session advances the ids if necessary before it is used. A connection that
//! was idle is closed if its server has changed, which happens behind PgBouncer.

use sqlx::{FromRow, PgConnection, PgPool};

/// The column with the server's timeline, 0 on a standby.
macro_rules! timeline {
    () => {
        "case when pg_is_in_recovery() then 0
            else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer
        end as timeline"
    };
}
pub(crate) use timeline;

/// The column that says whether the schema has the function that advances ids. A schema without it belongs to an older
/// release, or is not complete.
macro_rules! advances_ids {
    () => {
        "to_regprocedure('advance_ids_v1()') is not null as advances_ids"
    };
}
pub(crate) use advances_ids;

/// A row of `advance_ids_v1`.
#[derive(FromRow)]
struct Advanced {
    advanced: bool,
    standby_names: String,
}

/// Advances all sequences of ids if this database has a new timeline or was restored. Returns whether it was necessary.
/// No id may be given out on a connection before this.
pub(crate) async fn advance(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // Read up to the end of the transaction.
    let rows: Vec<Advanced> = sqlx::query_as(
        "-- advance ids: if necessary
        select advanced, current_setting('synchronous_standby_names') as standby_names from advance_ids_v1()",
    )
    .fetch_all(connection)
    .await?;
    let Some(Advanced {
        advanced: true,
        standby_names,
    }) = rows.first()
    else {
        return Ok(false);
    };
    tracing::warn!(
        "PostgreSQL has a new timeline, or the database was restored: all ids were advanced, so that none is given \
         out twice"
    );
    if !standby_names.is_empty() {
        tracing::warn!(
            "synchronous_standby_names is '{standby_names}': every commit waits if these standbys do not exist here"
        );
    }
    Ok(true)
}

/// Advances all sequences of ids, whatever the timeline. For databases that were restored in a way that PostgreSQL
/// cannot notice, such as a snapshot of the disk. Needs the rights of the schema's owner.
///
/// # Errors
///
/// No connection, no right, or an older schema.
pub async fn advance_always(pool: &PgPool) -> Result<(), sqlx::Error> {
    // As in the function: after a restore, a commit may wait for a standby that does not exist.
    let begin = "begin; set local synchronous_commit = local";
    let mut transaction = pool.begin_with(begin).await?;
    // No timeline has this number.
    sqlx::query("-- advance ids: always\nupdate id_epoch set timeline = 0")
        .execute(&mut *transaction)
        .await?;
    advance(&mut transaction).await?;
    transaction.commit().await
}
