//! The SQL functions of the verbs, and their installation.
//!
//! There is one file per function. A function whose signature or result changes gets a new name, so that two releases
//! can run side by side.

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection, PgPool};

use super::{
    numbered::{NUMBERED, for_transaction, ups},
    statements::{execute, statements},
    turn,
};

macro_rules! files {
    ($($name:literal),+ $(,)?) => { &[$(include_str!(concat!("../../sql/", $name, ".sql"))),+] };
}

/// The text of each file in `sql/`.
static FILES: &[&str] = files![
    "adjust_stock",
    "adjustment_payload",
    "advance_ids",
    "arrive",
    "as_of",
    "assign_cell",
    "bought",
    "cancel",
    "cancel_batch",
    "claim_keys",
    "confirm",
    "confirm_batch",
    "create_product",
    "depart",
    "depart_rest",
    "draw_ids",
    "due",
    "due_waitlists",
    "event_payload",
    "expire",
    "expire_holds",
    "extend",
    "extend_batch",
    "first_deadlines",
    "first_in_line",
    "forget_moved",
    "free_keys",
    "free_units",
    "freed",
    "get_reservations",
    "import_decided",
    "import_products",
    "insert_answers",
    "join_waitlist",
    "keep_answers",
    "leave_waitlist",
    "lock_products",
    "move_time",
    "moved",
    "moved_skus",
    "offer_each",
    "offer_entries",
    "offer_units",
    "offered",
    "place_holds",
    "products_initial",
    "products_keep",
    "reacquire",
    "reclaim",
    "reclaim_short",
    "reserve",
    "reserve_batch",
    "reserve_candidates",
    "reserve_once",
    "reserve_one_by_one",
    "reserve_one_product",
    "reserve_pass",
    "reserve_products",
    "reserve_rest",
    "return",
    "serve_waitlists",
    "set_stock",
    "settle_move",
    "settle_waitlist",
    "shorten_holds",
    "sold_out",
    "still_allowed",
    "trace_events",
    "wait_for_products",
    "write_events",
];

const HEAD: &str = "create or replace function ";

/// A function and its file.
#[derive(Clone, Copy)]
struct Function {
    name: &'static str,
    /// The body, exactly as PostgreSQL stores it.
    body: &'static str,
    file: &'static str,
}

fn functions() -> impl Iterator<Item = Function> {
    FILES.iter().map(|file| {
        let name = file
            .split_once(HEAD)
            .and_then(|(_, rest)| rest.split_once('('));
        let body = file.split("$$").nth(1);
        Function {
            name: name.map_or("", |(name, _)| name),
            body: body.unwrap_or_default(),
            file,
        }
    })
}

/// The names of all functions that this program calls.
pub fn names() -> Vec<&'static str> {
    functions().map(|function| function.name).collect()
}

/// All functions in one script.
pub(super) fn script() -> String {
    FILES.concat()
}

/// Installs and records the functions whose text differs from this release, in one transaction. Returns their names.
pub(super) async fn install(connection: &mut PgConnection) -> anyhow::Result<Vec<String>> {
    let mut transaction = connection.begin().await?;
    let differing = differing(&mut transaction).await?;
    let sharded = has_citus(&mut transaction).await?;
    let mut installed = Vec::new();
    for function in
        functions().filter(|function| differing.iter().any(|name| name == function.name))
    {
        for statement in statements(function.file) {
            if let Some(statement) = suited(statement, sharded) {
                let installation = execute(&mut transaction, &statement).await;
                installation.with_context(|| format!("cannot install {}", function.name))?;
            }
        }
        sqlx::query(
            "-- migrate: record a function
            insert into installed_functions (name, source_md5) values ($1, md5($2))
            on conflict (name) do update
            set source_md5 = excluded.source_md5, installed_at = excluded.installed_at",
        )
        .bind(function.name)
        .bind(function.file)
        .execute(&mut *transaction)
        .await
        .context("cannot record a function")?;
        installed.push(function.name.to_owned());
    }
    transaction.commit().await?;
    Ok(installed)
}

/// Functions that are missing, were recorded with another text, or were changed by hand.
async fn differing(connection: &mut PgConnection) -> anyhow::Result<Vec<String>> {
    let all: Vec<_> = functions().collect();
    sqlx::query_scalar(
        "-- migrate: which functions differ
        select f.name
        from unnest($1::text[], $2::text[], $3::text[]) as f (name, file, body)
        left join installed_functions i on i.name = f.name and i.source_md5 = md5(f.file)
        left join pg_proc p on p.proname = f.name and p.prosrc = f.body
            and p.pronamespace = current_schema()::regnamespace
        where i.name is null or p.oid is null",
    )
    .bind(all.iter().map(|function| function.name).collect::<Vec<_>>())
    .bind(all.iter().map(|function| function.file).collect::<Vec<_>>())
    .bind(all.iter().map(|function| function.body).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
    .context("cannot read which functions are installed")
}

async fn has_citus(connection: &mut PgConnection) -> anyhow::Result<bool> {
    Ok(
        sqlx::query_scalar("select exists (select from pg_extension where extname = 'citus')")
            .fetch_one(connection)
            .await?,
    )
}

/// Adapts a statement to this database. `None`: to be skipped. Citus has no triggers on its tables, and cannot make
/// generic plans of distributed queries.
fn suited(statement: &str, sharded: bool) -> Option<String> {
    if !sharded {
        return Some(statement.to_owned());
    }
    let is_trigger = statement
        .trim_start()
        .starts_with("create or replace trigger");
    (!is_trigger).then(|| statement.replace("set plan_cache_mode = force_generic_plan\n", ""))
}

/// Completes a schema that was created by hand with `psql < migrations/000001_init.up.sql`: applies the later numbered
/// files, and installs the functions. Does nothing if migrations are recorded: then `flashsale-api migrate` decides
/// what is there. Returns the number of functions.
pub async fn install_by_hand(pool: &PgPool) -> anyhow::Result<usize> {
    let mut connection = pool.acquire().await?;
    let by_hand: bool = sqlx::query_scalar(
        "-- migrate: was the schema made by hand
        select to_regclass('schema_version') is not null and to_regclass('_sqlx_migrations') is null",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !by_hand {
        return Ok(0);
    }
    let mut transaction = connection.begin().await?;
    // Several processes may start at once.
    turn::take_in(&mut transaction).await?;
    apply_later_files(&mut transaction).await?;
    let installed = install(&mut transaction).await?;
    transaction.commit().await?;
    Ok(installed.len())
}

/// Applies the numbered files above the version of the schema.
async fn apply_later_files(transaction: &mut PgConnection) -> anyhow::Result<()> {
    let version: i32 = sqlx::query_scalar(
        "-- migrate: the version of the schema\nselect version from schema_version",
    )
    .fetch_one(&mut *transaction)
    .await?;
    for migration in ups(&NUMBERED).filter(|up| up.version > version.into()) {
        for statement in statements(&for_transaction(migration)) {
            let applied = execute(transaction, statement).await;
            applied.with_context(|| format!("cannot apply migration {}", migration.version))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    /// The files in `sql/`.
    fn files() -> Vec<String> {
        let folder = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sql")).expect("sql/");
        folder
            .map(|file| fs::read_to_string(file.expect("a file").path()).expect("its text"))
            .collect()
    }

    #[test]
    fn every_file_is_installed() {
        let there: BTreeSet<String> = files().into_iter().collect();
        let listed: BTreeSet<String> = FILES.iter().map(|&file| file.to_owned()).collect();
        assert_eq!(there, listed);
    }

    #[test]
    fn every_file_has_one_function_with_a_version_in_its_name() {
        for function in functions() {
            assert_eq!(function.file.matches(HEAD).count(), 1, "{}", function.name);
            let version = function.name.rsplit_once("_v").map(|(_, version)| version);
            assert!(
                version.is_some_and(|version| version.parse::<u32>().is_ok()),
                "{}",
                function.file
            );
            assert!(!function.body.is_empty(), "{}", function.name);
        }
    }

    #[test]
    fn a_sharded_database_gets_no_triggers_and_no_generic_plans() {
        for statement in FILES.iter().flat_map(|file| statements(file)) {
            let suited = suited(statement, true).unwrap_or_default();
            assert!(
                !suited.contains("create or replace trigger")
                    && !suited.contains("plan_cache_mode")
            );
        }
    }
}
