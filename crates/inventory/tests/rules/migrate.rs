//! migrate: from an empty database, repeated, after `psql`, against a foreign schema, and the way back.

use futures_util::future::join_all;
use inventory::migrate::{Migrated, NUMBERED, function_names, migrate};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

fn versions() -> Vec<i64> {
    let up = NUMBERED
        .iter()
        .filter(|m| m.migration_type.is_up_migration());
    up.map(|migration| migration.version).collect()
}

/// The names of the functions of a complete schema.
fn functions() -> Vec<String> {
    let mut names: Vec<String> = function_names().into_iter().map(str::to_owned).collect();
    names.sort();
    names
}

fn sorted(mut migrated: Migrated) -> Migrated {
    migrated.functions.sort();
    migrated
}

/// Does what `psql -f` does with each file.
async fn apply_by_hand(connection: &mut PgConnection) {
    for migration in NUMBERED
        .iter()
        .filter(|m| m.migration_type.is_up_migration())
    {
        sqlx::raw_sql(migration.sql.clone())
            .execute(&mut *connection)
            .await
            .unwrap();
    }
}

async fn execute(connection: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(connection)
        .await
        .unwrap();
}

/// All named objects that belong neither to PostgreSQL nor to sqlx.
async fn objects(connection: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "with ours as (
            select oid from pg_namespace
            where nspname !~ '^pg_' and nspname <> 'information_schema'
        )
        select 'relation ' || relname from pg_class
            where relnamespace in (table ours) and relname !~ '^_sqlx_migrations'
        union all
        select 'function ' || proname || ' ' || md5(prosrc) from pg_proc
            where pronamespace in (table ours)
        union all
        select 'type ' || typname from pg_type
            where typnamespace in (table ours) and typname !~ '^_+sqlx_migrations'
        union all
        select 'schema ' || nspname from pg_namespace where oid in (table ours)
        order by 1",
    )
    .fetch_all(connection)
    .await
    .unwrap()
}

async fn recorded(connection: &mut PgConnection) -> Vec<i64> {
    sqlx::query_scalar("select version from _sqlx_migrations where success order by 1")
        .fetch_all(connection)
        .await
        .unwrap()
}

#[sqlx::test(migrations = false)]
async fn an_empty_database_gets_the_schema_once(pool: PgPool) {
    let connection = &mut *pool.acquire().await.unwrap();

    let first = migrate(connection).await.unwrap();
    let made = objects(connection).await;
    let second = migrate(connection).await.unwrap();

    let applied = Migrated {
        adopted: vec![],
        applied: versions(),
        functions: functions(),
    };
    assert_eq!((sorted(first), second), (applied, Migrated::default()));
    assert_eq!(recorded(connection).await, versions());
    assert_eq!(objects(connection).await, made);
}

#[sqlx::test(migrations = false)]
async fn what_was_applied_by_hand_is_recorded_and_kept(pool: PgPool) {
    let connection = &mut *pool.acquire().await.unwrap();
    apply_by_hand(connection).await;
    execute(
        connection,
        "insert into products (name, stock, total) values ('by hand', 1, 1);
        create table a_table_of_the_shop (id integer)",
    )
    .await;
    let before = objects(connection).await;

    let migrated = migrate(connection).await.unwrap();

    let adopted = Migrated {
        adopted: versions(),
        applied: vec![],
        functions: functions(),
    };
    assert_eq!(sorted(migrated), adopted);
    assert_eq!(recorded(connection).await, versions());
    let functions_apart = |objects: Vec<String>| {
        let mut objects = objects;
        objects.retain(|object| !object.starts_with("function "));
        objects
    };
    assert_eq!(
        functions_apart(objects(connection).await),
        functions_apart(before)
    );
    let kept: i64 = sqlx::query_scalar("select count(*) from products")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(kept, 1);
    assert_eq!(migrate(connection).await.unwrap(), Migrated::default());
}

/// search_path also decides for a schema that was created by hand.
#[sqlx::test(migrations = false)]
async fn a_schema_that_is_not_public_is_adopted_and_migrated_as_well(pool: PgPool) {
    for by_hand in [true, false] {
        let connection = &mut *pool.acquire().await.unwrap();
        execute(
            connection,
            "drop schema if exists cell cascade; create schema cell; set search_path to cell",
        )
        .await;
        if by_hand {
            apply_by_hand(connection).await;
        }
        let migrated = migrate(connection).await.unwrap();
        assert_eq!(migrated.adopted.is_empty(), !by_hand);
        assert_eq!(recorded(connection).await, versions());
    }
}

#[sqlx::test(migrations = false)]
async fn a_difference_of_any_kind_is_named_and_nothing_is_changed(pool: PgPool) {
    // Changes by hand, and the words that the refusal must contain.
    let changes = [
        (
            "alter table products add color text",
            "table products",
            "color",
        ),
        (
            "alter table products drop created_at",
            "table products",
            "created_at",
        ),
        (
            "alter table products alter sold drop default",
            "table products",
            "sold",
        ),
        (
            "alter table products alter name drop not null",
            "table products",
            "name",
        ),
        (
            "alter table reservations alter user_id type numeric",
            "table reservations",
            "user_id",
        ),
        (
            "alter table products reset (fillfactor)",
            "table products",
            "fillfactor",
        ),
        (
            "alter table products drop constraint products_conserved",
            "table products",
            "products_conserved",
        ),
        (
            "alter table products drop constraint products_conserved;
            alter table products add constraint products_conserved check (total >= stock)",
            "table products",
            "products_conserved",
        ),
        (
            "alter domain units drop constraint units_not_negative",
            "domain units",
            "units_not_negative",
        ),
        (
            "drop index reservations_active_one_per_user",
            "table reservations_active",
            "reservations_active_one_per_user",
        ),
        (
            "drop index reservations_active_due;
            create index reservations_active_due on reservations_active (product_id)",
            "table reservations_active",
            "reservations_active_due",
        ),
        (
            "create index extra on reservations (quantity)",
            "table reservations",
            "extra",
        ),
        (
            "drop table outbox_events",
            "table outbox_events",
            "event_id",
        ),
        (
            "alter table reservations detach partition reservations_ended",
            "table reservations_ended",
            "for values in",
        ),
        (
            "create trigger extra after insert on products execute function
            suppress_redundant_updates_trigger()",
            "table products",
            "trigger extra",
        ),
    ];
    let connection = &mut *pool.acquire().await.unwrap();
    for (change, object, property) in changes {
        execute(
            connection,
            "drop schema public cascade; create schema public",
        )
        .await;
        apply_by_hand(connection).await;
        execute(
            connection,
            "insert into products (name, stock, total) values ('x', 1, 1)",
        )
        .await;
        execute(connection, change).await;
        let before = objects(connection).await;

        let refusal = format!("{:#}", migrate(connection).await.expect_err(change));

        let named = |line: &str| line.contains(object) && line.contains(property);
        assert!(
            refusal.to_lowercase().lines().any(named),
            "{change}: {refusal}"
        );
        // The refusal does not mention unchanged objects.
        assert!(refusal.lines().count() <= 24, "{change}: {refusal}");
        assert_eq!(objects(connection).await, before, "{change}");
        assert!(recorded(connection).await.is_empty(), "{change}");
    }
}

#[sqlx::test(migrations = false)]
async fn a_migration_that_was_changed_after_it_landed_is_refused(pool: PgPool) {
    let connection = &mut *pool.acquire().await.unwrap();
    migrate(connection).await.unwrap();
    execute(
        connection,
        "update _sqlx_migrations set checksum = 'another'",
    )
    .await;
    assert!(migrate(connection).await.is_err());
}

#[sqlx::test(migrations = false)]
async fn the_way_back_leaves_nothing(pool: PgPool) {
    let connection = &mut *pool.acquire().await.unwrap();
    let before = objects(connection).await;
    migrate(connection).await.unwrap();

    NUMBERED.undo(&mut *connection, 0).await.unwrap();

    assert_eq!(objects(connection).await, before);
    // The schema can be migrated up again.
    assert_eq!(migrate(connection).await.unwrap().applied, versions());
}

/// Several processes start at once on an empty database, or on one that was created by hand.
#[sqlx::test(migrations = false)]
async fn several_at_once_do_it_once(_: PgPoolOptions, options: PgConnectOptions) {
    let mut first = PgConnection::connect_with(&options).await.unwrap();
    for round in 0..10 {
        execute(
            &mut first,
            "drop schema public cascade; create schema public",
        )
        .await;
        let by_hand = round % 2 == 1;
        if by_hand {
            apply_by_hand(&mut first).await;
        }

        let mut connections = Vec::new();
        for _ in 0..8 {
            connections.push(PgConnection::connect_with(&options).await.unwrap());
        }
        let migrated: Vec<_> = join_all(connections.iter_mut().map(migrate))
            .await
            .into_iter()
            .map(|migrated| migrated.map_err(|error| format!("{error:#}")).unwrap())
            .collect();

        let count = |done: fn(&Migrated) -> &Vec<i64>| {
            migrated
                .iter()
                .filter(|one| *done(one) == versions())
                .count()
        };
        let done = (count(|one| &one.adopted), count(|one| &one.applied));
        assert_eq!(done, if by_hand { (1, 0) } else { (0, 1) });
        assert_eq!(recorded(&mut first).await, versions());
        for connection in connections {
            connection.close().await.unwrap();
        }
    }
}

/// A function that was changed or dropped by hand is reinstalled, and no other one.
#[sqlx::test(migrations = false)]
async fn a_function_that_differs_is_installed(pool: PgPool) {
    let connection = &mut *pool.acquire().await.unwrap();
    migrate(connection).await.unwrap();
    let before = objects(connection).await;
    for change in [
        "drop function confirm_v2",
        "create or replace function reclaim_v2(product_id bigint, t timestamptz, max_rows integer, events text[])
        returns bigint language plpgsql as 'begin return 0; end'",
        "update installed_functions set source_md5 = 'of an older release' where name = 'extend_v1'",
        "drop function products_keep_v1 cascade",
    ] {
        execute(connection, change).await;
        let installed = migrate(connection).await.unwrap().functions;
        let [name] = &installed[..] else {
            panic!("{change}: {installed:?}");
        };
        assert!(change.contains(name.as_str()), "{change}: {name}");
        assert_eq!(objects(connection).await, before, "{change}");
    }
    let triggers: i64 = sqlx::query_scalar(
        "select count(*) from pg_trigger where tgrelid = 'products'::regclass and not tgisinternal",
    )
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    assert_eq!(triggers, 3);
}

/// The layout from before the first release, where `reservations` is one table.
#[sqlx::test(migrations = false)]
async fn a_schema_from_before_the_first_release_is_refused_and_left_alone(pool: PgPool) {
    let connection = &mut *pool.acquire().await.unwrap();
    execute(
        connection,
        "create table products (id bigint primary key); create table reservations (id bigint primary key);
        insert into reservations values (7)",
    )
    .await;
    let before = objects(connection).await;
    let refusal = format!("{:#}", migrate(connection).await.unwrap_err());
    assert!(
        refusal.contains("before the first release") && refusal.contains("make a new database"),
        "{refusal}"
    );
    assert_eq!(objects(connection).await, before);
}
