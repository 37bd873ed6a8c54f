//! Statements that Citus 13.2 with schema-based sharding refuses, as far as the text shows it.
//!
//! The text does not show
//! - later pieces of a statement that is built at run time (`list`, `product: change`), and SQL in variables;
//! - operators and casts that are not immutable, such as `timestamptz + interval`, in the SET of an update;
//! - a subquery that uses a column of the outer query without the table's alias;
//! - whether Citus would find another plan: only a run on Citus shows that.

use std::collections::{BTreeSet, HashMap};

use sqlx::PgPool;

use super::{
    Source, down_files, everything,
    text::{self, CALLED_BARE, calls, clause, names, parts, places, queries},
    up_files,
};

/// The tables of the schema.
fn tables() -> BTreeSet<String> {
    let mut tables = BTreeSet::new();
    for statement in up_files()
        .iter()
        .flat_map(|file| text::statements_as_words(&file.sql))
    {
        if statement.first().is_some_and(|word| word == "create") {
            let names = places(&statement, &["table"]).map(|place| statement[place + 1].clone());
            tables.extend(names.take(1));
        }
    }
    assert!(
        tables.contains("reservations_active") && tables.contains("processes"),
        "{tables:?}"
    );
    tables
}

/// Whether `refused` holds for a statement of `sql`.
fn is_caught(refused: impl Fn(&[String]) -> bool, sql: &str) -> bool {
    text::statements_as_words(sql)
        .iter()
        .any(|statement| refused(statement))
}

#[track_caller]
fn assert_none_is_caught(refused: impl Fn(&[String]) -> bool, sources: &[Source]) {
    assert!(!sources.is_empty());
    let caught = sources.iter().flat_map(|source| {
        let statements = text::statements_as_words(&source.sql).into_iter();
        let caught = statements.filter(|statement| refused(statement));
        caught.map(|statement| format!("{}: {}", source.place, statement.join(" ")))
    });
    let caught: Vec<_> = caught.collect();
    assert!(caught.is_empty(), "{caught:#?}");
}

/// Functions and their triggers belong in `sql/`. Citus refuses triggers on its tables, so `migrate` leaves them out.
fn makes_a_function_or_trigger(statement: &[String]) -> bool {
    let begin = statement.iter().map(String::as_str);
    let mut begin = begin.filter(|word| !["or", "replace", "constraint"].contains(word));
    begin.next() == Some("create")
        && begin
            .next()
            .is_some_and(|what| ["function", "procedure", "trigger"].contains(&what))
}

#[test]
fn numbered_files_make_no_functions_and_no_triggers() {
    assert_none_is_caught(makes_a_function_or_trigger, &up_files());
    for sql in [
        "create trigger t before insert on products for each row execute function f()",
        "-- why\ncreate or replace constraint trigger t after insert on products execute function f()",
        "create or replace function f() returns integer language sql as $$ select 1 $$",
    ] {
        assert!(is_caught(makes_a_function_or_trigger, sql), "{sql}");
    }
    assert!(!is_caught(
        makes_a_function_or_trigger,
        "create table t (trigger text)"
    ));
}

/// Citus: "cannot execute ADD CONSTRAINT command with other subcommands".
fn alters_a_constraint_among_others(statement: &[String]) -> bool {
    let constraints = [
        "constraint",
        "primary",
        "unique",
        "check",
        "foreign",
        "references",
        "exclude",
    ];
    let is_one = statement
        .iter()
        .any(|word| constraints.contains(&word.as_str()));
    places(statement, &["alter", "table"]).next() == Some(0) && parts(statement).len() > 1 && is_one
}

#[test]
fn a_constraint_is_altered_in_a_statement_of_its_own() {
    let schema: Vec<_> = up_files().into_iter().chain(down_files()).collect();
    assert_none_is_caught(alters_a_constraint_among_others, &schema);
    for sql in [
        "alter table products add column color text, add constraint products_color check (color <> '')",
        "alter table products drop constraint a, add primary key (id, name)",
    ] {
        assert!(is_caught(alters_a_constraint_among_others, sql), "{sql}");
    }
    for sql in [
        "alter table products add column color text, add column size text",
        "alter table products add constraint products_color unique (color, size)",
    ] {
        assert!(!is_caught(alters_a_constraint_among_others, sql), "{sql}");
    }
}

/// Lines with the setting that `migrate` would not remove. Citus cannot make generic plans of distributed queries.
fn other_plan_settings(sql: &str) -> Vec<&str> {
    // The same text as in functions.rs.
    let removed = "set plan_cache_mode = force_generic_plan\n";
    let lines = sql
        .split_inclusive('\n')
        .filter(|line| !line.trim_start().starts_with("--"));
    lines
        .filter(|line| line.contains("plan_cache_mode") && *line != removed)
        .collect()
}

#[test]
fn the_plan_setting_of_functions_is_a_line_that_migrate_removes() {
    for Source { place, sql } in everything() {
        let other = other_plan_settings(&sql);
        assert!(other.is_empty(), "{place}: {other:?}");
    }
    for sql in [
        "language plpgsql set plan_cache_mode = force_generic_plan\nas $$",
        "set plan_cache_mode to force_generic_plan\n",
        "  set plan_cache_mode = force_generic_plan\n",
        "set plan_cache_mode = force_custom_plan\n",
    ] {
        assert_eq!(other_plan_settings(sql).len(), 1, "{sql}");
    }
    assert!(other_plan_settings("set plan_cache_mode = force_generic_plan\nas $$").is_empty());
}

/// Functions that are not immutable for some arguments, and whether they are volatile.
type Mutable = HashMap<String, bool>;

async fn mutable(pool: &PgPool) -> Mutable {
    let functions: Vec<(String, bool)> = sqlx::query_as(
        "select proname::text, bool_or(provolatile = 'v') from pg_proc where provolatile <> 'i' group by proname",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let bare = CALLED_BARE.map(|name| (name.to_owned(), false));
    functions.into_iter().chain(bare).collect()
}

/// Citus: "functions used in the DO UPDATE SET clause of INSERTs on distributed tables must be marked IMMUTABLE".
fn sets_a_conflict_by_a_mutable_function(statement: &[String], mutable: &Mutable) -> bool {
    places(statement, &["do", "update", "set"]).any(|place| {
        let list = clause(&statement[place + 3..], &["where", "returning"]);
        calls(list).any(|function| mutable.contains_key(function))
    })
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_conflict_is_set_by_immutable_functions_only(pool: PgPool) {
    let mutable = mutable(&pool).await;
    let refused = |statement: &[String]| sets_a_conflict_by_a_mutable_function(statement, &mutable);
    assert_none_is_caught(refused, &everything());
    let insert =
        "insert into processes (instance) values ($1) on conflict (instance) do update set ";
    for list in [
        "seen_at = now()",
        "report = excluded.report, seen_at = clock_timestamp() where true",
        "seen_at = current_timestamp",
        "report = coalesce(excluded.report, to_jsonb(bought_v1(1, 2)))",
    ] {
        assert!(is_caught(refused, &format!("{insert}{list}")), "{list}");
    }
    for list in [
        "seen_at = excluded.seen_at",
        "report = lower('X') where seen_at < now()",
    ] {
        assert!(!is_caught(refused, &format!("{insert}{list}")), "{list}");
    }
}

/// Citus: "functions used in UPDATE queries on distributed tables must not be VOLATILE" and "STABLE functions used in
/// UPDATE queries cannot be called with column references". This check is stricter: Citus accepts a stable function
/// beside a column if the operator between them is immutable, which the text does not show. A variable of a function
/// looks like a column and counts as one.
fn updates_by_a_mutable_function(statement: &[String], mutable: &Mutable) -> bool {
    places(statement, &["update"]).any(|place| {
        let before = place
            .checked_sub(1)
            .map_or("", |before| statement[before].as_str());
        if ["for", "key", "do", "before", "after", "or", "on"].contains(&before) {
            return false;
        }
        let behind = &statement[place..];
        let table = clause(behind, &["set"]);
        let list = behind.get(table.len() + 1..).unwrap_or_default();
        parts(clause(list, &["from", "where", "returning"]))
            .into_iter()
            .any(|assignment| {
                let target = clause(assignment, &["="]);
                let value = &assignment[target.len()..];
                let has_column = names(value).next().is_some();
                calls(value).any(|function| {
                    mutable
                        .get(function)
                        .is_some_and(|is_volatile| *is_volatile || has_column)
                })
            })
    })
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_update_sets_no_column_by_a_function_that_is_not_immutable(pool: PgPool) {
    let mutable = mutable(&pool).await;
    let refused = |statement: &[String]| updates_by_a_mutable_function(statement, &mutable);
    assert_none_is_caught(refused, &everything());
    for sql in [
        "update outbox_events set next_attempt_at = clock_timestamp()",
        "update outbox_events e set attempts = 0, next_attempt_at = statement_timestamp() + e.attempts * interval '1 s'
        from products p where e.id = p.id",
        "with moved as (update outbox_events set last_error = concat(last_error, $1) returning id) table moved",
        "update products set sold = bought_v1(1, id)",
        "update outbox_events set next_attempt_at = greatest(created_at, current_timestamp) where id = 1",
    ] {
        assert!(is_caught(refused, sql), "{sql}");
    }
    for sql in [
        "update outbox_events set published_at = statement_timestamp(), last_error = null where created_at < now()",
        "update products p set stock = p.stock + greatest(q.units, 0) from unnest($1) q",
        "select from products for no key update",
        "create trigger t before update on products for each row execute function now()",
    ] {
        assert!(!is_caught(refused, sql), "{sql}");
    }
}

/// Citus: "cannot perform a lateral outer join when a distributed subquery references a set returning function".
fn has_a_lateral_outer_join(statement: &[String], tables: &BTreeSet<String>) -> bool {
    let joins = places(statement, &["left", "join", "lateral"])
        .next()
        .is_some()
        || places(statement, &["left", "outer", "join", "lateral"])
            .next()
            .is_some();
    joins && statement.iter().any(|word| tables.contains(word))
}

#[test]
fn no_statement_on_tables_has_a_lateral_outer_join() {
    let tables = tables();
    let refused = |statement: &[String]| has_a_lateral_outer_join(statement, &tables);
    assert_none_is_caught(refused, &everything());
    let sql = "select r.product_id from unnest($1) as q (id)
        left join lateral (select r.product_id from reservations r where r.id = q.id limit 1) r on true";
    assert!(is_caught(refused, sql));
    assert!(is_caught(refused, &sql.replace("left", "LEFT OUTER")));
    assert!(!is_caught(
        refused,
        &sql.replace("reservations", "pg_class")
    ));
    assert!(!is_caught(refused, &sql.replace("lateral", "")));
}

/// Citus: "correlated subqueries are not supported when the FROM clause contains a set returning function".
fn has_a_correlated_subquery_beside_a_function(
    statement: &[String],
    tables: &BTreeSet<String>,
) -> bool {
    statement.iter().any(|word| tables.contains(word))
        && queries(statement)
            .any(|query| query.reads_a_function() && query.has_a_correlated_subquery())
}

#[test]
fn no_subquery_depends_on_what_a_function_returns() {
    let tables = tables();
    let refused =
        |statement: &[String]| has_a_correlated_subquery_beside_a_function(statement, &tables);
    assert_none_is_caught(refused, &everything());
    for sql in [
        "select q.id from unnest($1) as q (id) where not exists (select from products p where p.id = q.id)",
        "select array(select f.id from products p join unnest($1) f (id) on f.id = p.id
            where p.stock > 0 and (f.id = 1 or exists (select from reservations r where r.product_id = f.id)))",
        "select (select sum(r.quantity) from reservations r where r.user_id = q.id) from unnest($1) q (id)",
        "begin if true then perform from generate_series(1, 2) i
            where exists (select from products where id = i.i); end if; end",
        "delete from products p using unnest($1) q (id) where p.id = q.id
            and not exists (select from reservations r where r.product_id = q.id)",
    ] {
        assert!(is_caught(refused, sql), "{sql}");
    }
    for sql in [
        "select q.id from unnest($1) q (id) where exists (select from products p where p.stock > 0)",
        "select p.id from products p where not exists (select from reservations r where r.product_id = p.id)",
        "select q.id from unnest($1) q (id) where not exists (select from pg_proc p where p.oid = q.id)",
        "select from (select p.id from products p) p
            where exists (select from unnest($1) q (id) where q.id = p.id)",
    ] {
        assert!(!is_caught(refused, sql), "{sql}");
    }
}
