//! migrate: brings a database to the schema that these binaries need.
//!
//! Migrations may also have been applied by hand with `psql`. Then the catalogue decides: it is compared
//! with what the same files build in a scratch schema, in a transaction that is rolled back.
//!
//! A sale may go on meanwhile: a migration that does not get the lock of a table at once steps back, lets pass what
//! has waited behind it, and tries again.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, bail};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection,
    migrate::{Migrate as _, MigrateError, Migration, Migrator},
};
use tokio::time::{Instant, sleep};

pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

const SCRATCH_SCHEMA: &str = "flashsale_migrate_scratch";

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
}

/// Applies what is missing, under sqlx's session lock. Where the schema was made by hand and is not
/// what the migrations make, it changes nothing and names each difference.
pub async fn migrate(connection: &mut PgConnection) -> anyhow::Result<Migrated> {
    migrate_with(&MIGRATOR, connection, PATIENCE).await
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
        while let Err(error) = migrator.run_to(migration.version, &mut *connection).await {
            let failed = if migration.no_tx {
                "a migration failed; what it left, such as an invalid index, has to be dropped by hand"
            } else {
                "a migration failed; nothing of it was kept"
            };
            if !lacks_lock(&error) {
                return Err(error).context(failed);
            }
            let (version, by) = (migration.version, in_the_way(connection).await?);
            if Instant::now() + pause > give_up_at {
                let waited = patience.as_secs();
                return Err(error).context(format!(
                    "migration {version} did not get the lock of its tables within {waited} s, in which others had \
                     them: {by}. Nothing of it was kept: end these sessions, or wait, and migrate again"
                ));
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

fn lacks_lock(error: &MigrateError) -> bool {
    let (MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)) = error else {
        return false;
    };
    cause
        .as_database_error()
        .and_then(|refusal| refusal.code())
        .is_some_and(|code| code == "55P03")
}

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
    let table = "_sqlx_migrations";
    connection
        .ensure_migrations_table(table)
        .await
        .context("cannot create _sqlx_migrations")?;
    let applied = connection
        .list_applied_migrations(table)
        .await
        .context("cannot read _sqlx_migrations")?;
    Ok(applied
        .into_iter()
        .map(|migration| migration.version)
        .collect())
}

/// The version that the schema stands at, or `None` where it has nothing of ours.
async fn version_made_by_hand(
    migrator: &Migrator,
    connection: &mut PgConnection,
) -> anyhow::Result<Option<i64>> {
    let actual = catalogue(connection).await?;
    let mut nearest: Option<(i64, Vec<String>)> = None;
    // The newest first: what a later migration has only added is no difference from an earlier version.
    let versions: Vec<_> = ups(migrator).map(|up| up.version).collect();
    for version in versions.into_iter().rev() {
        let expected = catalogue_of(migrator, connection, version).await?;
        let differences = differences(&expected, &actual);
        if differences.is_empty() {
            return Ok(Some(version));
        }
        let untouched = actual.iter().all(|line| !owned(&expected, line));
        if !untouched
            && nearest
                .as_ref()
                .is_none_or(|(_, known)| differences.len() < known.len())
        {
            nearest = Some((version, differences));
        }
    }
    match nearest {
        None => Ok(None),
        Some((version, differences)) => bail!(
            "the schema exists, but no migration is recorded and it differs from version {version}; \
             nothing was changed. Differences:\n  {}",
            differences.join("\n  ")
        ),
    }
}

fn ups(migrator: &Migrator) -> impl Iterator<Item = &Migration> {
    migrator
        .iter()
        .filter(|migration| migration.migration_type.is_up_migration())
}

/// What the migrations up to `version` make, seen in a scratch schema that is never committed.
async fn catalogue_of(
    migrator: &Migrator,
    connection: &mut PgConnection,
    version: i64,
) -> anyhow::Result<BTreeSet<Line>> {
    let mut scratch = connection.begin().await?;
    let open = format!("create schema {SCRATCH_SCHEMA}; set local search_path to {SCRATCH_SCHEMA}");
    sqlx::raw_sql(AssertSqlSafe(open))
        .execute(&mut *scratch)
        .await
        .context("comparing a schema made by hand needs the right to create a schema")?;
    for migration in ups(migrator).filter(|up| up.version <= version) {
        let mut sql = migration.sql.as_str().to_owned();
        if migration.no_tx {
            // It makes the same index, and cannot do so in a transaction.
            sql = sql.replace(" concurrently", "");
        }
        execute(&mut scratch, &sql).await?;
    }
    let lines = catalogue(&mut scratch).await?;
    scratch.rollback().await?;
    Ok(lines)
}

/// One property of one object. Ordered and compared as a whole.
type Line = (String, String);

/// Everything in the current schema that decides how it behaves: columns, constraints, indexes,
/// triggers, storage options and functions, as (object, property).
async fn catalogue(connection: &mut PgConnection) -> anyhow::Result<BTreeSet<Line>> {
    let lines: Vec<Line> = sqlx::query_as(
        "-- migrate: read the catalogue
        with relations as (
            select c.* from pg_class c
            where c.relnamespace = current_schema()::regnamespace
                and c.relkind in ('r', 'p') and c.relname <> '_sqlx_migrations'
        )
        select 'table ' || c.relname, 'options ' || coalesce(array_to_string(c.reloptions, ', '), 'none')
        from relations c
        union all
        select 'table ' || c.relname, concat_ws(' ', 'column', a.attname, format_type(a.atttypid, a.atttypmod),
            case when a.attnotnull then 'not null' end,
            case a.attidentity when 'a' then 'generated always as identity'
                when 'd' then 'generated by default as identity' end,
            'default ' || pg_get_expr(d.adbin, d.adrelid))
        from relations c
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        union all
        select 'table ' || c.relname, concat_ws(' ', 'constraint', k.conname, pg_get_constraintdef(k.oid),
            case when not k.convalidated then 'not valid' end)
        from relations c join pg_constraint k on k.conrelid = c.oid and k.contype <> 'n'
        union all
        select 'table ' || c.relname, replace(pg_get_indexdef(i.indexrelid), ' ' || current_schema() || '.', ' ')
            || case when i.indisvalid then '' else ' invalid' end
        from relations c join pg_index i on i.indrelid = c.oid
        union all
        select 'table ' || c.relname, 'trigger ' || t.tgname
        from relations c join pg_trigger t on t.tgrelid = c.oid and not t.tgisinternal
        union all
        select 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
            concat_ws(' ', 'returns', pg_get_function_result(p.oid), 'volatility', p.provolatile::text,
                array_to_string(p.proconfig, ', '), 'source', md5(p.prosrc))
        from pg_proc p where p.pronamespace = current_schema()::regnamespace",
    )
    .fetch_all(connection)
    .await
    .context("cannot read the catalogue")?;
    Ok(lines.into_iter().collect())
}

/// Whether `line` speaks of an object that the migrations make.
fn owned(expected: &BTreeSet<Line>, line: &Line) -> bool {
    expected.iter().any(|(object, _)| *object == line.0)
}

fn differences(expected: &BTreeSet<Line>, actual: &BTreeSet<Line>) -> Vec<String> {
    let missing = expected
        .difference(actual)
        .map(|(object, property)| format!("missing from {object}: {property}"));
    let surplus = actual
        .difference(expected)
        .filter(|line| owned(expected, line))
        .map(|(object, property)| format!("not expected on {object}: {property}"));
    missing.chain(surplus).collect()
}
