//! migrate: brings a database to the schema that these binaries need.
//!
//! Migrations may also have been applied by hand with `psql`. Then the catalogue decides: it is compared
//! with what the same files build in a scratch schema, in a transaction that is rolled back.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection,
    migrate::{Migrate as _, Migrator},
};

pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

const SCRATCH_SCHEMA: &str = "flashsale_migrate_scratch";

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
    // Taken here and not only in each run: what is found must still be so when it is acted upon.
    connection
        .lock()
        .await
        .context("cannot take the migration lock")?;
    let migrated = migrate_locked(connection).await;
    connection
        .unlock()
        .await
        .context("cannot give the migration lock back")?;
    migrated
}

async fn migrate_locked(connection: &mut PgConnection) -> anyhow::Result<Migrated> {
    let before = recorded(connection).await?;
    let mut migrated = Migrated::default();
    if before.is_empty()
        && let Some(version) = version_made_by_hand(connection).await?
    {
        MIGRATOR
            .skip(&mut *connection, Some(version))
            .await
            .context("cannot record the migrations that were applied by hand")?;
        migrated.adopted = recorded(connection).await?.into_iter().collect();
    }
    MIGRATOR
        .run(&mut *connection)
        .await
        .context("a migration failed; nothing of it was kept")?;
    migrated.applied = recorded(connection)
        .await?
        .into_iter()
        .filter(|version| !before.contains(version) && !migrated.adopted.contains(version))
        .collect();
    Ok(migrated)
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
async fn version_made_by_hand(connection: &mut PgConnection) -> anyhow::Result<Option<i64>> {
    let actual = catalogue(connection).await?;
    let mut nearest: Option<(i64, Vec<String>)> = None;
    // The newest first: what a later migration has only added is no difference from an earlier version.
    let versions: Vec<_> = versions().collect();
    for version in versions.into_iter().rev() {
        let expected = catalogue_of(connection, version).await?;
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

fn versions() -> impl Iterator<Item = i64> {
    MIGRATOR
        .iter()
        .filter(|migration| migration.migration_type.is_up_migration())
        .map(|migration| migration.version)
}

/// What the migrations up to `version` make, seen in a scratch schema that is never committed.
async fn catalogue_of(
    connection: &mut PgConnection,
    version: i64,
) -> anyhow::Result<BTreeSet<Line>> {
    let mut scratch = connection.begin().await?;
    let open = format!("create schema {SCRATCH_SCHEMA}; set local search_path to {SCRATCH_SCHEMA}");
    sqlx::raw_sql(AssertSqlSafe(open))
        .execute(&mut *scratch)
        .await
        .context("comparing a schema made by hand needs the right to create a schema")?;
    for migration in MIGRATOR
        .iter()
        .filter(|migration| migration.version <= version)
    {
        if migration.migration_type.is_up_migration() {
            sqlx::raw_sql(migration.sql.clone())
                .execute(&mut *scratch)
                .await?;
        }
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
