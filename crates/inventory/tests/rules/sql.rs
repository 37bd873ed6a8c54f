//! Checks of the SQL text: the numbered files, the functions, and the program's statements.

mod citus;
mod text;

use std::{collections::BTreeSet, fs, io::Write as _, path::Path};

use inventory::migrate::{NUMBERED, function_names, statements};
use sqlx::{AssertSqlSafe, PgPool, migrate::MigrationType};

use text::{clause, literals, parts, places};

/// Some SQL and its place.
struct Source {
    place: String,
    sql: String,
}

fn files(folder: &Path, ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path
            .extension()
            .is_some_and(|extension| extension == ending)
        {
            let sql = fs::read_to_string(&path).unwrap();
            let place = path.file_name().unwrap().to_string_lossy().into_owned();
            found.push(Source { place, sql });
        }
    }
    assert!(!found.is_empty(), "nothing in {}", folder.display());
    found
}

fn function_files() -> Vec<Source> {
    files(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/sql")),
        "sql",
    )
}

fn rust_files() -> Vec<Source> {
    files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), "rs")
}

/// The numbered files that create the schema.
fn up_files() -> Vec<Source> {
    numbered_files(MigrationType::is_up_migration)
}

/// The numbered files that drop it, in their order.
fn down_files() -> Vec<Source> {
    let mut files = numbered_files(MigrationType::is_down_migration);
    files.reverse();
    files
}

fn numbered_files(is_wanted: fn(&MigrationType) -> bool) -> Vec<Source> {
    NUMBERED
        .iter()
        .filter(|migration| is_wanted(&migration.migration_type))
        .map(|migration| Source {
            place: format!("{:06}_{}", migration.version, migration.description),
            sql: migration.sql.as_str().to_owned(),
        })
        .collect()
}

/// The program's statements: literals that begin with a name.
fn named_statements() -> Vec<Source> {
    let mut found = Vec::new();
    for Source { place, sql } in rust_files() {
        let program = sql.split("#[cfg(test)]").next().unwrap_or_default();
        let named = literals(program)
            .into_iter()
            .filter(|text| text.starts_with("-- "));
        found.extend(named.map(|sql| Source {
            place: format!("{place}: {}", sql.lines().next().unwrap_or_default()),
            sql,
        }));
    }
    found
}

fn everything() -> Vec<Source> {
    let schema = up_files().into_iter().chain(down_files());
    schema
        .chain(function_files())
        .chain(named_statements())
        .collect()
}

/// The findings of plpgsql_check for these functions, or `None` without the extension. A trigger function is checked
/// with each of its tables.
async fn findings(pool: &PgPool, functions: &[&str]) -> Option<Vec<String>> {
    let is_there: bool = sqlx::query_scalar(
        "select exists (select from pg_extension where extname = 'plpgsql_check')",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    if !is_there {
        return None;
    }
    let found = sqlx::query_scalar(
        "select concat_ws(' ', p.proname, 'line', f.lineno, f.level, f.message, f.detail, f.context)
        from pg_proc p
        join pg_language l on l.oid = p.prolang and l.lanname = 'plpgsql'
        left join (select distinct tgfoid, tgrelid from pg_trigger) t on t.tgfoid = p.oid
        cross join lateral plpgsql_check_function_tb(
            p.oid, coalesce(t.tgrelid, 0), fatal_errors => false, all_warnings => true
        ) f
        where p.pronamespace = current_schema()::regnamespace and p.proname = any($1)
            -- A false warning: that plpgsql's INTO cannot read such a result. Our program reads (product).*
            and f.message not like 'composite OUT variable % is not single argument'
        order by 1",
    )
    .bind(functions)
    .fetch_all(pool)
    .await;
    Some(found.unwrap())
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn plpgsql_check_finds_nothing_in_the_functions(pool: PgPool) {
    let functions = function_names();
    // Functions have no other language. PostgreSQL checks functions of language SQL when they are created.
    let known: Vec<String> = sqlx::query_scalar(
        "select distinct p.proname::text from pg_proc p join pg_language l on l.oid = p.prolang
        where p.pronamespace = current_schema()::regnamespace and l.lanname in ('plpgsql', 'sql')",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    assert_eq!(known, functions.iter().copied().collect());

    let Some(found) = findings(&pool, &functions).await else {
        // `eprintln!` would be hidden for a test that passes.
        writeln!(
            std::io::stderr(),
            "SKIPPED: this PostgreSQL has no plpgsql_check, so that the functions are not checked by it"
        )
        .unwrap();
        return;
    };
    assert!(found.is_empty(), "{found:#?}");
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn plpgsql_check_finds_errors_and_warnings(pool: PgPool) {
    sqlx::raw_sql(
        "create function wrong_v1(id bigint) returns integer language plpgsql as $$
        declare
          unused integer;
        begin
          perform p.colour from products p where p.id = wrong_v1.id;
          return id;
        end $$;
        create function wrong_trigger_v1() returns trigger language plpgsql as $$
        begin
          new.colour := 'red';
          return new;
        end $$;
        create trigger wrong before update on products for each row execute function wrong_trigger_v1()",
    )
    .execute(&pool)
    .await
    .unwrap();
    let Some(found) = findings(&pool, &["wrong_v1", "wrong_trigger_v1"]).await else {
        return;
    };
    for finding in [
        "error column p.colour does not exist",
        "warning unused variable",
        "performance target type is different",
        "wrong_trigger_v1 line 3 error record \"new\" has no field",
    ] {
        assert!(
            found.iter().any(|line| line.contains(finding)),
            "{finding}: {found:#?}"
        );
    }
}

/// Files whose function has a body of more than 70 lines. `too-many-lines-threshold` in clippy.toml says the same of
/// Rust.
fn with_long_functions(files: &[Source]) -> Vec<&str> {
    let is_long = |file: &&Source| {
        let body = file.sql.split("$$").nth(1).expect("a function");
        body.trim().lines().count() > 70
    };
    files
        .iter()
        .filter(is_long)
        .map(|file| &*file.place)
        .collect()
}

#[test]
fn a_function_has_at_most_70_lines() {
    assert_eq!(with_long_functions(&function_files()), [""; 0]);
    let of = |lines: usize| Source {
        place: format!("{lines} lines"),
        sql: format!("create function f() as $$\n{}$$;", "line\n".repeat(lines)),
    };
    assert_eq!(with_long_functions(&[of(70), of(71)]), ["71 lines"]);
}

/// Places where Rust reads a column by its number: `try_get(0)`, or rows as tuples of several columns.
fn columns_by_number(rust: &str) -> Vec<&str> {
    let after = |mark: &'static str| {
        rust.match_indices(mark)
            .map(move |(place, _)| &rust[place..])
    };
    let numbers = after(".try_get").filter(|call| {
        let argument = call.split_once('(').map_or("", |(_, argument)| argument);
        argument
            .trim_start()
            .starts_with(|c: char| c.is_ascii_digit())
    });
    let tuples = ["Vec<(", "::<(", "(<("]
        .into_iter()
        .flat_map(after)
        .filter(|tuple| {
            let words = text::statements_as_words(tuple).concat();
            let types = &words[places(&words, &["<", "("]).next().unwrap() + 2..];
            let types = parts(clause(types, &[]));
            types.iter().filter(|part| !part.is_empty()).count() > 1
        });
    let lines = numbers
        .chain(tuples)
        .map(|found| found.lines().next().unwrap_or_default());
    lines.collect()
}

#[test]
fn no_column_is_read_by_its_number() {
    let read = rust_files().into_iter().flat_map(|file| {
        let found = columns_by_number(&file.sql).into_iter();
        found
            .map(|line| format!("{}: {line}", file.place))
            .collect::<Vec<_>>()
    });
    let read: Vec<_> = read.collect();
    assert!(read.is_empty(), "{read:#?}");
}

#[test]
fn columns_by_number_are_caught() {
    for rust in [
        "row.try_get(0)?",
        "row\n.try_get::<Option<f64>, _>(2)?",
        "let rows: Vec<(Uuid, bool)> = fetch(query).await?;",
        "look::<(i64, Option<String>)>(pool, query)",
        "rows.first().map(<(i64, i64)>::from_row)",
    ] {
        assert_eq!(columns_by_number(rust).len(), 1, "{rust}");
    }
    for rust in [
        "row.try_get(\"id\")?",
        "let rows: Vec<(i64,)> = fetch(query).await?;",
    ] {
        assert!(columns_by_number(rust).is_empty(), "{rust}");
    }
}

/// Runs a file one statement at a time, as `migrate` does. A prepared statement cannot contain several.
async fn run(pool: &PgPool, source: &Source) {
    for statement in statements(&source.sql) {
        let run = sqlx::query(AssertSqlSafe(statement)).execute(pool).await;
        run.unwrap_or_else(|error| panic!("{}: {error}: {statement}", source.place));
    }
}

/// Citus refuses several statements at once.
#[sqlx::test(migrations = false)]
async fn each_file_is_split_where_a_statement_ends(pool: PgPool) {
    for source in up_files().iter().chain(&function_files()) {
        run(&pool, source).await;
    }
    // As `migrate` does, so that the down file drops them.
    sqlx::query(
        "insert into installed_functions (name, source_md5) select name, '' from unnest($1) name",
    )
    .bind(function_names())
    .execute(&pool)
    .await
    .unwrap();
    for source in down_files() {
        run(&pool, &source).await;
    }
}

#[sqlx::test(migrations = false)]
async fn each_numbered_file_raises_the_version(pool: PgPool) {
    let ups = NUMBERED.iter();
    let ups = ups.filter(|migration| migration.migration_type.is_up_migration());
    for (migration, source) in ups.zip(up_files()) {
        run(&pool, &source).await;
        let version: i32 = sqlx::query_scalar("select version from schema_version")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(i64::from(version), migration.version, "{}", source.place);
    }
}

#[sqlx::test(migrations = false)]
async fn several_statements_in_one_are_caught(pool: PgPool) {
    let whole = up_files().remove(0).sql;
    for several in ["select 1; select 2", &whole] {
        let run = sqlx::query(AssertSqlSafe(several)).execute(&pool).await;
        let refusal = run.expect_err(several).into_database_error().unwrap();
        assert_eq!(refusal.code().as_deref(), Some("42601"), "{refusal}");
        assert!(statements(several).len() > 1);
    }
}

#[test]
fn what_the_program_sends_is_one_statement() {
    let named = named_statements();
    assert!(named.len() > 20, "{}", named.len());
    for Source { place, sql } in named {
        // A statement that is built at run time may consist of its name only.
        assert!(statements(&sql).len() <= 1, "{place}: {sql}");
    }
}
