//! migrate: brings a database to the schema that these binaries need. First come the numbered files with tables,
//! indexes and constraints, and then every SQL function whose text differs.
//!
//! The numbered files may also have been applied by hand with `psql`. Then the catalogue is compared with the
//! catalogue that the same files create in a scratch schema, in a transaction that is rolled back.
//!
//! A sale may go on during a migration. A migration that does not get a table lock within 2 s rolls back, lets the
//! waiting transactions pass, and tries again.

mod catalogue;
mod functions;
mod numbered;
mod statements;
mod turn;

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use anyhow::{Context as _, bail};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, SqlSafeStr as _,
    migrate::{Migrate as _, Migration, MigrationType, Migrator},
};
use tokio::time::{Instant, sleep};

use catalogue::version_made_by_hand;
pub use functions::{install_by_hand, names as function_names};
pub use numbered::NUMBERED;
use numbered::ups;
use statements::execute;
pub use statements::statements;

use crate::id_epoch;

/// The numbered files and the functions, for tests whose databases sqlx creates.
pub static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let functions = Migration::new(
        i64::MAX,
        "functions".into(),
        MigrationType::Simple,
        AssertSqlSafe(functions::script()).into_sql_str(),
        false,
    );
    Migrator::with_migrations(NUMBERED.iter().cloned().chain([functions]).collect())
});

/// sqlx's table of applied migrations.
const RECORD: &str = "_sqlx_migrations";

/// Lock timeout of a statement. While an `alter table` waits for a long reader, all later statements on the table
/// wait behind it, including every reserve.
const LOCK_TIMEOUT: &str = "2s";

/// Total time for which [`migrate`] tries to get its locks.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The first pause between two tries, and the longest. Other transactions wait for at most a third of the time.
const RETRY_PAUSE: Duration = Duration::from_secs(4);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(16);

/// What [`migrate`] did. Migrations are given by version.
#[derive(Debug, Default, PartialEq)]
pub struct Migrated {
    /// Migrations that were applied by hand and are now recorded.
    pub adopted: Vec<i64>,
    /// Migrations that were applied.
    pub applied: Vec<i64>,
    /// Names of the SQL functions that were installed.
    pub functions: Vec<String>,
}

/// Applies the missing migrations under sqlx's session lock. If the schema was created by hand and differs from the
/// migrations, it changes nothing and returns an error with all differences.
pub async fn migrate(connection: &mut PgConnection) -> anyhow::Result<Migrated> {
    let migrated = migrate_with(&NUMBERED, connection, PATIENCE).await?;
    // An old dump may have been restored, and then migrated.
    id_epoch::advance(connection)
        .await
        .context("cannot advance the ids")?;
    Ok(migrated)
}

/// The same with other migrations. Fails after trying for `patience` to lock a table, and names the sessions that
/// hold the lock.
pub async fn migrate_with(
    migrator: &Migrator,
    connection: &mut PgConnection,
    patience: Duration,
) -> anyhow::Result<Migrated> {
    // sqlx would take the lock again in each run, and would not release it after an error.
    let mut migrator = Migrator::with_migrations(migrator.iter().cloned().collect());
    migrator.set_locking(false);
    turn::take(connection).await?;
    // The lock covers everything from the first read of the schema to the last change. This process already has the
    // advisory lock, so only a migration of an older release can hold this one.
    connection
        .lock()
        .await
        .context("cannot take the migration lock")?;
    let migrated = migrate_locked(&migrator, connection, patience).await;
    connection
        .unlock()
        .await
        .context("cannot release the migration lock")?;
    turn::release(connection).await?;
    migrated
}

async fn migrate_locked(
    migrator: &Migrator,
    connection: &mut PgConnection,
    patience: Duration,
) -> anyhow::Result<Migrated> {
    refuse_unreleased(connection).await?;
    let before = recorded(connection).await?;
    let mut migrated = Migrated::default();
    if before.is_empty()
        && let Some(version) = version_made_by_hand(migrator, connection).await?
    {
        migrator
            .skip(&mut *connection, Some(version))
            .await
            .context("cannot record the migrations that were applied by hand")?;
        migrated.adopted = recorded(connection).await?.into_iter().collect();
    }
    let applied = apply_missing(migrator, connection, patience).await;
    execute(connection, "reset lock_timeout").await?;
    applied?;
    migrated.functions = functions::install(connection).await?;
    migrated.applied = recorded(connection)
        .await?
        .into_iter()
        .filter(|version| !before.contains(version) && !migrated.adopted.contains(version))
        .collect();
    Ok(migrated)
}

async fn apply_missing(
    migrator: &Migrator,
    connection: &mut PgConnection,
    patience: Duration,
) -> anyhow::Result<()> {
    let done = recorded(connection).await?;
    let give_up_at = Instant::now() + patience;
    for migration in ups(migrator).filter(|up| !done.contains(&up.version)) {
        // A statement outside a transaction, as `create index concurrently`, waits for others without blocking them.
        // A lock timeout would leave an invalid index.
        let lock_timeout = if migration.no_tx { "0" } else { LOCK_TIMEOUT };
        execute(connection, &format!("set lock_timeout = '{lock_timeout}'")).await?;
        let mut pause = RETRY_PAUSE;
        while let Err(error) = apply(connection, migration).await {
            let failed = if migration.no_tx {
                "a migration failed; anything that it left, such as an invalid index, must be dropped by hand"
            } else {
                "a migration failed; it was rolled back"
            };
            if !lacks_lock(&error) {
                return Err(error.context(failed));
            }
            let (version, by) = (migration.version, in_the_way(connection).await?);
            if Instant::now() + pause > give_up_at {
                let waited = patience.as_secs();
                return Err(error.context(format!(
                    "migration {version} did not get its table locks within {waited} s. They are held by: {by}. \
                     It was rolled back: end these sessions, or wait, and migrate again"
                )));
            }
            let seconds = pause.as_secs();
            tracing::warn!(
                "migration {version} waits for a lock, and tries again in {seconds} s. Held by: {by}"
            );
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }
    // All migrations are applied. This call compares the recorded checksums with the files.
    let compared = migrator.run(&mut *connection).await;
    compared.context("the recorded migrations differ from these files")
}

/// Applies one file statement by statement, and records it.
async fn apply(connection: &mut PgConnection, migration: &Migration) -> anyhow::Result<()> {
    if migration.no_tx {
        return apply_on(connection, migration).await;
    }
    let mut transaction = connection.begin().await?;
    apply_on(&mut transaction, migration).await?;
    Ok(transaction.commit().await?)
}

async fn apply_on(connection: &mut PgConnection, migration: &Migration) -> anyhow::Result<()> {
    for statement in statements(migration.sql.as_str()) {
        execute(connection, statement).await?;
    }
    Ok(connection.skip(RECORD, migration).await?)
}

fn lacks_lock(error: &anyhow::Error) -> bool {
    let refusal = error
        .downcast_ref::<sqlx::Error>()
        .and_then(sqlx::Error::as_database_error);
    refusal
        .and_then(|refusal| refusal.code())
        .is_some_and(|code| code == "55P03")
}

/// Refuses the schema from before the first release, which cannot be migrated.
async fn refuse_unreleased(connection: &mut PgConnection) -> anyhow::Result<()> {
    let unreleased: bool = sqlx::query_scalar(UNRELEASED)
        .fetch_one(connection)
        .await
        .context("cannot read the catalogue")?;
    if unreleased {
        bail!(
            "this database has the schema of a version from before the first release, which this version cannot \
             migrate; nothing was changed. Keep it if you need its data, make a new database (createdb), set \
             DATABASE_URL to that, and migrate again"
        );
    }
    Ok(())
}

/// Whether the schema dates from before the first release: there `reservations` is a table without partitions.
pub(crate) const UNRELEASED: &str = "-- migrate: is the schema from before the first release
    select exists (select from pg_class where oid = to_regclass('reservations') and relkind = 'r')";

/// Describes the sessions that have held locks on our tables for longest. Seeing their ids needs no privileges.
/// Columns that this role may not see are left out.
async fn in_the_way(connection: &mut PgConnection) -> anyhow::Result<String> {
    let sessions: Option<String> = sqlx::query_scalar(
        "-- migrate: who is in the way
        select string_agg(concat_ws(' ', 'session', s.pid, 'of', s.usename, s.application_name,
            'for ' || date_trunc('second', clock_timestamp() - s.xact_start)), ', ')
        from (
            select a.* from pg_stat_activity a
            where a.pid <> pg_backend_pid() and a.pid in (
                select l.pid from pg_locks l join pg_class c on c.oid = l.relation
                where l.granted and c.relnamespace = current_schema()::regnamespace
                    and l.database = (select d.oid from pg_database d where d.datname = current_database())
            )
            order by a.xact_start limit 3
        ) s",
    )
    .fetch_one(connection)
    .await
    .context("cannot read which sessions hold locks")?;
    Ok(sessions.unwrap_or_else(|| "no session any more".to_owned()))
}

async fn recorded(connection: &mut PgConnection) -> anyhow::Result<BTreeSet<i64>> {
    connection
        .ensure_migrations_table(RECORD)
        .await
        .context("cannot create _sqlx_migrations")?;
    let applied = connection
        .list_applied_migrations(RECORD)
        .await
        .context("cannot read _sqlx_migrations")?;
    Ok(applied
        .into_iter()
        .map(|migration| migration.version)
        .collect())
}
