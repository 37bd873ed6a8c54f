//! Schemas of other releases, and one that was migrated only partly.

use super::stage::{Processes, contents, empty, migrate, migrated, needed, said_by_migrate};
use crate::support::{NO_RABBITMQ, eventually};

/// Work that each process would do at once: a due hold, and old rows to delete.
const WORK: &str = "
    insert into products (name, stock, held, total) values ('iPhone 15', 0, 1, 1);
    insert into reservations (product_id, user_id, status, created_at, expires_at)
    select id, 1, 'ACTIVE', now() - interval '10 days', now() - interval '9 days' from products;
    insert into idempotency_keys (client, key, fingerprint, status, body, created_at)
    values ('', 'old', sha256(''), 201, '{}', now() - interval '10 days');
    insert into outbox_events (event_type, payload, created_at, published_at)
    values ('ReservationConfirmed', '{}', now() - interval '10 days', now() - interval '10 days');";

fn too_new() -> String {
    let needed = needed();
    format!(
        "schema is at 99, which works with programs that need 99 or later, and this one needs {needed}: run a newer \
         version of this program"
    )
}

#[tokio::test]
async fn a_newer_schema_is_used_as_long_as_it_is_compatible() {
    let database = migrated().await;
    database
        .execute("update schema_version set version = 99")
        .await;
    let processes = Processes::start(database, NO_RABBITMQ.1).await;
    processes.become_ready().await;
    let system = &processes.system;
    let product = system.create_product(1).await;
    system.reserve(product, 1).await;

    let contract = "update schema_version set compatible_from = 99";
    system.database.execute(contract).await;
    processes.are_not_ready(&too_new()).await;
    // Some may have noticed by themselves that it is not compatible any more. Before, none had a reason to complain, except
    // that PostgreSQL may be slow to answer on a busy machine.
    let log = processes.stop().await;
    for line in log.iter().flat_map(|(_, lines)| lines) {
        let said = line["message"].as_str().unwrap();
        let expected = [&too_new(), "PostgreSQL does not answer"];
        let is_expected = expected.iter().any(|it| said.contains(*it));
        let complains = said.starts_with("cannot work") && !is_expected;
        assert!(!complains, "{log:?}");
    }
}

#[tokio::test]
async fn a_schema_that_is_too_new_is_left_alone_until_it_is_compatible() {
    let database = migrated().await;
    database.execute(WORK).await;
    let contract = "update schema_version set version = 99, compatible_from = 99";
    database.execute(contract).await;
    let before = contents(&database).await;
    let processes = Processes::start(database, NO_RABBITMQ.1).await;
    processes.are_not_ready(&too_new()).await;
    processes.look_again().await;
    let database = &processes.system.database;
    assert_eq!(contents(database).await, before);

    let expand = "update schema_version set compatible_from = 1";
    database.execute(expand).await;
    processes.become_ready().await;
    eventually("all that work", async || {
        let left = "select 'a hold' from reservations_active
            union all select 'a key' from idempotency_keys
            union all select 'an event' from outbox_events";
        let left: Vec<String> = sqlx::query_scalar(left)
            .fetch_all(&database.pool)
            .await
            .unwrap();
        left.is_empty().then_some(())
    })
    .await;
    processes.stop_having_waited_for(&too_new()).await;
}

#[tokio::test]
async fn functions_that_are_missing_are_named_until_migrate_has_installed_them() {
    let database = migrated().await;
    let drop = "do $$
        declare f text;
        begin
          for f in select oid::regprocedure from pg_proc where proname ~ '^(confirm|expire)_v'
            and pronamespace = current_schema()::regnamespace
          loop execute 'drop function ' || f; end loop;
        end $$";
    let names = "select string_agg(name, ', ' order by name) from installed_functions
        where name ~ '^(confirm|expire)_v'";
    let missing: String = sqlx::query_scalar(names)
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert_eq!(missing.matches(", ").count(), 1, "{missing}");
    database.execute(drop).await;
    let reason = format!(
        "schema is at {}, but the functions {missing} are missing: run flashsale-api migrate",
        needed()
    );
    let processes = Processes::start(database, NO_RABBITMQ.1).await;
    for _ in 0..2 {
        processes.are_not_ready(&reason).await;
        processes.look_again().await;
    }

    let database = &processes.system.database;
    assert_eq!(
        said_by_migrate(database),
        format!("functions: installed {missing}\n")
    );
    processes.become_ready().await;
    processes.stop_having_waited_for(&reason).await;
}

/// The unreleased schema: reservations in one table, beside the tables that have not changed since.
const UNRELEASED: &str = "
    create table products (id bigint generated always as identity primary key, name text not null,
        stock integer not null, held integer not null default 0, sold integer not null default 0, total integer not null);
    create table reservations (id bigint generated always as identity primary key, product_id bigint not null,
        user_id bigint not null, quantity integer not null default 1, status text not null default 'ACTIVE',
        expires_at timestamptz not null, created_at timestamptz not null default now());
    create table outbox_events (id bigint generated always as identity primary key,
        event_id uuid not null default gen_random_uuid(), event_type text not null, payload jsonb not null,
        created_at timestamptz not null default now(), published_at timestamptz, attempts integer not null default 0,
        next_attempt_at timestamptz not null default now(), last_error text, dead_at timestamptz);
    create table idempotency_keys (client text, key text, fingerprint bytea, status smallint, location text, body text,
        created_at timestamptz not null default now(), primary key (client, key));
    create unlogged table processes (instance text primary key, role text not null, started_at timestamptz not null,
        seen_at timestamptz not null default now(), report jsonb not null);
    create table _sqlx_migrations (version bigint primary key, description text not null,
        installed_on timestamptz not null default now(), success boolean not null, checksum bytea not null,
        execution_time bigint not null);
    insert into _sqlx_migrations (version, description, success, checksum, execution_time)
    values (1, 'init', true, 'of an older file', 1);";

#[tokio::test]
async fn the_layout_from_before_the_first_release_is_refused_and_left_alone() {
    let database = empty().await;
    database.execute(UNRELEASED).await;
    database.execute(WORK).await;
    let before = contents(&database).await;
    let reason = "the schema is of a version from before the first release: make a new database, set DATABASE_URL to \
        it, and run flashsale-api migrate";
    let processes = Processes::start(database, NO_RABBITMQ.1).await;
    processes.are_not_ready(reason).await;
    processes.look_again().await;

    let database = &processes.system.database;
    let refused = migrate(database);
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    for words in [
        "from before the first release",
        "nothing was changed",
        "make a new database (createdb), set DATABASE_URL to that, and migrate again",
    ] {
        assert!(said.contains(words), "{said}");
    }
    processes.are_not_ready(reason).await;
    assert_eq!(contents(database).await, before);
    processes.stop().await;
}
