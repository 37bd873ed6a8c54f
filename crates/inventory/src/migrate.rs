//! migrate: brings a database to the schema that these binaries need: the numbered files first, which make tables,
//! indexes and constraints, and then every SQL function whose text differs.
//!
//! The numbered files may also have been applied by hand with `psql`. Then the catalogue decides: it is compared
//! with what the same files build in a scratch schema, in a transaction that is rolled back.
//!
//! A sale may go on meanwhile: a migration that does not get the lock of a table at once steps back, lets pass what
//! has waited behind it, and tries again.

mod catalogue;
mod functions;
mod statements;

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use anyhow::{Context as _, bail};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, SqlSafeStr as _,
    migrate::{Migrate as _, Migration, MigrationType, Migrator},
};
use tokio::time::{Instant, sleep};

use catalogue::version_made_by_hand;
pub use functions::{install_by_hand, names as function_names};
pub use statements::statements;

/// The numbered files.
pub static NUMBERED: Migrator = sqlx::migrate!("../../migrations");

/// The numbered files, and then the functions: for tests, whose databases sqlx makes.
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

/// sqlx's table of the migrations that were applied.
const RECORD: &str = "_sqlx_migrations";

/// How long a statement waits for the lock of a table. Behind an `alter table` that waits for a long reader all
/// that comes after it waits, too: every reserve.
const LOCK_TIMEOUT: &str = "2s";

/// For how long [`migrate`] tries to get its locks.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The pause after the first try, and the longest, in seconds: at most a third of the time somebody waits.
const RETRY_PAUSE: Duration = Duration::from_secs(4);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(16);

/// The advisory lock of whose turn it is, in its database: any number that nobody else has.
const TURN: i64 = 0x666c_6173_6873;
const TURN_PAUSE: Duration = Duration::from_millis(100);

/// What [`migrate`] did, by version.
#[derive(Debug, Default, PartialEq)]
pub struct Migrated {
    /// Found applied by hand, and recorded.
    pub adopted: Vec<i64>,
    pub applied: Vec<i64>,
    /// SQL functions that were installed, by name.
    pub functions: Vec<String>,
}

/// Applies what is missing, under sqlx's session lock. Where the schema was made by hand and is not
/// what the migrations make, it changes nothing and names each difference.
pub async fn migrate(connection: &mut PgConnection) -> anyhow::Result<Migrated> {
    migrate_with(&NUMBERED, connection, PATIENCE).await
}

/// The same with these migrations. Once it has tried for `patience` to lock a table it fails, and names who is in
/// the way.
pub async fn migrate_with(
    migrator: &Migrator,
    connection: &mut PgConnection,
    patience: Duration,
) -> anyhow::Result<Migrated> {
    // sqlx would take the lock once more in each run, and not give it back where one fails.
    let mut migrator = Migrator::with_migrations(migrator.iter().cloned().collect());
    migrator.set_locking(false);
    take_turn(connection).await?;
    // Taken here and not only in each run: what is found must still be so when it is acted upon. The turn is ours, so
    // that at most an older release has it.
    connection
        .lock()
        .await
        .context("cannot take the migration lock")?;
    let migrated = migrate_locked(&migrator, connection, patience).await;
    connection
        .unlock()
        .await
        .context("cannot give the migration lock back")?;
    execute(connection, &format!("select pg_advisory_unlock({TURN})")).await?;
    migrated
}

/// Asks for the turn again and again. Who waits for a lock in PostgreSQL has a snapshot, for whose end an index waits
/// that is built concurrently by who has the lock.
async fn take_turn(connection: &mut PgConnection) -> anyhow::Result<()> {
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
        // What runs outside a transaction, `create index concurrently`, waits for others and has nobody wait. Cut
        // short it would leave an invalid index.
        let lock_timeout = if migration.no_tx { "0" } else { LOCK_TIMEOUT };
        execute(connection, &format!("set lock_timeout = '{lock_timeout}'")).await?;
        let mut pause = RETRY_PAUSE;
        while let Err(error) = apply(connection, migration).await {
            let failed = if migration.no_tx {
                "a migration failed; what it left, such as an invalid index, has to be dropped by hand"
            } else {
                "a migration failed; nothing of it was kept"
            };
            if !lacks_lock(&error) {
                return Err(error.context(failed));
            }
            let (version, by) = (migration.version, in_the_way(connection).await?);
            if Instant::now() + pause > give_up_at {
                let waited = patience.as_secs();
                return Err(error.context(format!(
                    "migration {version} did not get the lock of its tables within {waited} s, in which others had \
                     them: {by}. Nothing of it was kept: end these sessions, or wait, and migrate again"
                )));
            }
            let seconds = pause.as_secs();
            tracing::warn!(
                "migration {version} waits for a lock, and tries again in {seconds} s. In the way: {by}"
            );
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }
    // Nothing is missing any more: this compares what is recorded with the files.
    let compared = migrator.run(&mut *connection).await;
    compared.context("what is recorded is not what these migrations are")
}

/// Applies one file, statement by statement, and records it.
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

/// Fails on the layout from before the first release, and says what to do. There is no way from one to the other.
async fn refuse_unreleased(connection: &mut PgConnection) -> anyhow::Result<()> {
    let unreleased: bool = sqlx::query_scalar(UNRELEASED)
        .fetch_one(connection)
        .await
        .context("cannot read the catalogue")?;
    if unreleased {
        bail!(
            "this database has the schema of a version from before the first release, which this version cannot take \
             over; nothing was changed. Keep it if you need its data, make a new database (createdb), set \
             DATABASE_URL to that, and migrate again"
        );
    }
    Ok(())
}

/// Whether the schema is from before the first release: there `reservations` is one table, without partitions.
pub(crate) const UNRELEASED: &str = "-- migrate: is the schema from before the first release
    select exists (select from pg_class where oid = to_regclass('reservations') and relkind = 'r')";

/// The sessions that have had a lock on our tables for longest, in words. Who they are takes no rights; what is
/// only shown to some is left out.
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
    .context("cannot see who has locks")?;
    Ok(sessions.unwrap_or_else(|| "nobody any more".to_owned()))
}

async fn execute(connection: &mut PgConnection, statement: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(connection)
        .await?;
    Ok(())
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

fn ups(migrator: &Migrator) -> impl Iterator<Item = &Migration> {
    migrator
        .iter()
        .filter(|migration| migration.migration_type.is_up_migration())
}
