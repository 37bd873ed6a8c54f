//! migrate: from nothing, again, after `psql`, against a schema that is not ours, and back.

use futures_util::future::join_all;
use inventory::migrate::{MIGRATOR, Migrated, migrate};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

fn versions() -> Vec<i64> {
    let up = MIGRATOR
        .iter()
        .filter(|m| m.migration_type.is_up_migration());
    up.map(|migration| migration.version).collect()
}

/// What `psql -f` does with each file.
async fn apply_by_hand(connection: &mut PgConnection) {
    for migration in MIGRATOR
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

/// Everything with a name that is neither PostgreSQL's nor sqlx's.
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
    };
    assert_eq!((first, second), (applied, Migrated::default()));
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
    };
    assert_eq!(migrated, adopted);
    assert_eq!(recorded(connection).await, versions());
    assert_eq!(objects(connection).await, before);
    let kept: i64 = sqlx::query_scalar("select count(*) from products")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(kept, 1);
    assert_eq!(migrate(connection).await.unwrap(), Migrated::default());
}

/// Where search_path decides, it decides for a schema made by hand, too.
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
    // What somebody changed, and what the refusal has to name.
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
            "drop index reservations_one_active",
            "table reservations",
            "reservations_one_active",
        ),
        (
            "drop index reservations_due; create index reservations_due on reservations (expires_at)",
            "table reservations",
            "reservations_due",
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
        ("drop function expire_v1", "function expire_v1", "source"),
        (
            "create or replace function expire_v1(product_id bigint, max_rows integer)
            returns integer language plpgsql set lock_timeout = '5s' as 'begin return 0; end'",
            "function expire_v1",
            "source",
        ),
        (
            "alter function expire_v1 reset lock_timeout",
            "function expire_v1",
            "lock_timeout",
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
        assert!(refusal.lines().any(named), "{change}: {refusal}");
        // Nothing is blamed that was not touched.
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

    MIGRATOR.undo(&mut *connection, 0).await.unwrap();

    assert_eq!(objects(connection).await, before);
    // And there is a way forth again.
    assert_eq!(migrate(connection).await.unwrap().applied, versions());
}

/// Several processes start at once on an empty database, or on one that was made by hand.
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

/// The source beside each verb is what the migrations installed.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_functions_are_those_of_the_source_files(pool: PgPool) {
    let definition = "select replace(pg_get_functiondef(p.oid), current_schema() || '.', '')
        from pg_proc p where p.pronamespace = current_schema()::regnamespace and p.proname = $1";
    let mut compared = 0;
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sql")).unwrap() {
        let path = file.unwrap().path();
        let source = std::fs::read_to_string(&path).unwrap();
        let (_, head) = source.split_once("create or replace function ").unwrap();
        let (name, _) = head.split_once('(').unwrap();

        let connection = &mut *pool.acquire().await.unwrap();
        let installed: String = sqlx::query_scalar(definition)
            .bind(name)
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        let mut scratch = connection.begin().await.unwrap();
        execute(
            &mut scratch,
            "create schema scratch; set local search_path to scratch, public",
        )
        .await;
        execute(&mut scratch, &source).await;
        let written: String = sqlx::query_scalar(definition)
            .bind(name)
            .fetch_one(&mut *scratch)
            .await
            .unwrap();

        assert_eq!(installed, written, "{}", path.display());
        // The words above the function belong to it as well.
        let up = MIGRATOR
            .iter()
            .filter(|m| m.migration_type.is_up_migration());
        let texts: Vec<_> = up.map(|migration| migration.sql.as_str()).collect();
        assert!(
            texts.iter().any(|text| text.contains(&source)),
            "{}",
            path.display()
        );
        compared += 1;
    }
    assert!(compared >= 5, "{compared} files");
}
