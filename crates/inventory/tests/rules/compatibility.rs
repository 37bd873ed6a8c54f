//! Databases that a program works with, and its reasons for refusing others.

use inventory::{
    compatibility::{self, Functions, wait_until_usable},
    database,
    migrate::{NUMBERED, install_by_hand, migrate},
    server,
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::support::{Changed as _, Shop, one};

async fn said(pool: &PgPool) -> String {
    match compatibility::check(pool).await {
        Ok(_) => "usable".to_owned(),
        Err(unusable) => unusable.to_string(),
    }
}

async fn execute(pool: &PgPool, statements: &'static str) {
    sqlx::raw_sql(statements).execute(pool).await.unwrap();
}

/// The schema that this program needs.
fn needed() -> i64 {
    NUMBERED.iter().map(|file| file.version).max().unwrap()
}

/// Does what psql does with the numbered files.
async fn make_by_hand(pool: &PgPool) {
    let ups = NUMBERED
        .iter()
        .filter(|m| m.migration_type.is_up_migration());
    for migration in ups {
        let sql = migration.sql.clone();
        sqlx::raw_sql(sql).execute(pool).await.unwrap();
    }
}

#[sqlx::test(migrations = false)]
async fn each_state_of_a_schema_has_its_own_words(pool: PgPool) {
    let needed = needed();
    let empty = format!("schema is at 0, this program needs {needed}: run flashsale-api migrate");
    assert_eq!(said(&pool).await, empty);

    execute(&pool, "create table reservations (id bigint)").await;
    let unreleased = said(&pool).await;
    assert!(
        unreleased.contains("before the first release"),
        "{unreleased}"
    );
    execute(&pool, "drop table reservations").await;

    make_by_hand(&pool).await;
    let half = said(&pool).await;
    assert!(
        half.contains("reserve_v3") && half.ends_with("run flashsale-api migrate"),
        "{half}"
    );

    migrate(&mut pool.acquire().await.unwrap()).await.unwrap();
    assert_eq!(said(&pool).await, "usable");

    execute(&pool, "update schema_version set version = 99").await;
    assert_eq!(said(&pool).await, "usable", "newer, and compatible");
    execute(&pool, "update schema_version set compatible_from = 99").await;
    let newer = said(&pool).await;
    assert!(
        newer.contains("schema is at 99") && newer.contains(&format!("needs {needed}")),
        "{newer}"
    );
    execute(
        &pool,
        "update schema_version set version = 0, compatible_from = 0",
    )
    .await;
    assert_eq!(said(&pool).await, empty);
}

/// A waiting process starts its work without a restart.
#[sqlx::test(migrations = false)]
async fn who_waits_for_the_schema_goes_on_once_it_is_there(pool: PgPool) {
    let waiting = {
        let pool = pool.clone();
        tokio::spawn(async move { wait_until_usable(&pool, Functions::Await, || {}).await })
    };
    migrate(&mut pool.acquire().await.unwrap()).await.unwrap();
    waiting.await.unwrap();
    assert_eq!(said(&pool).await, "usable");
}

/// The API installs the functions if the schema was created by hand, and leaves a recorded schema to `migrate`.
#[sqlx::test(migrations = false)]
async fn functions_are_installed_for_a_schema_made_by_hand_only(pool: PgPool) {
    assert_eq!(install_by_hand(&pool).await.unwrap(), 0, "nothing is there");
    make_by_hand(&pool).await;
    wait_until_usable(&pool, Functions::Install, || {}).await;
    assert_eq!(install_by_hand(&pool).await.unwrap(), 0, "a second time");

    migrate(&mut pool.acquire().await.unwrap()).await.unwrap();
    execute(&pool, "drop function confirm_v2").await;
    assert_eq!(
        install_by_hand(&pool).await.unwrap(),
        0,
        "migrations are recorded"
    );
    assert!(said(&pool).await.contains("confirm_v2"));
}

/// Our sessions use the isolation level that the rules need, whatever the database's default is.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn another_default_isolation_level_changes_nothing(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let pool = Shop::with_connections(2, options.clone()).await.pool;
    for level in ["repeatable read", "serializable"] {
        let name: String = sqlx::query_scalar("select quote_ident(current_database())")
            .fetch_one(&pool)
            .await
            .unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!(
            "alter database {name} set default_transaction_isolation = '{level}'"
        )))
        .execute(&pool)
        .await
        .unwrap();
        // Another program's session uses the default.
        let mut other = PgConnection::connect_with(&options).await.unwrap();
        let there: String = sqlx::query_scalar("show transaction_isolation")
            .fetch_one(&mut other)
            .await
            .unwrap();
        assert_eq!(there, level);
        other.close().await.unwrap();

        let ours = database::Args {
            database_url: options.to_url_lossy().to_string(),
            database_max_connections: 8,
            database_acquire_milliseconds: 60_000,
        };
        let ours = database::connect(&ours, "rules").unwrap();
        assert_eq!(said(&ours).await, "usable");
        let shop = Shop {
            pool: ours,
            events: "ReservationConfirmed".parse().unwrap(),
        };
        let product = shop.product(100).await;
        // Each batch waits for the previous one.
        let batches = (1..=20).map(|user| {
            let shop = shop.clone();
            tokio::spawn(async move { shop.reserve(&[one(product, user)]).await.changed() })
        });
        for batch in batches.collect::<Vec<_>>() {
            assert_eq!(batch.await.unwrap(), 1, "{level}");
        }
        assert_eq!(shop.counters(product).await, (80, 20, 0));
    }
}

/// A pooler may hand out sessions with another isolation level.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_isolation_level_that_is_not_ours_is_named(_: PgPoolOptions, options: PgConnectOptions) {
    let pool = Shop::with_connections(1, options).await.pool;
    execute(&pool, "set default_transaction_isolation = 'serializable'").await;
    let said = said(&pool).await;
    assert!(
        said.contains("'serializable'") && said.contains("must be 'read committed'"),
        "{said}"
    );
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn settings_that_void_a_guarantee_are_overruled_or_named(pool: PgPool) {
    let shop = Shop::new(pool);
    let settings = "
        alter database DB set synchronous_commit = off;
        alter database DB set default_transaction_isolation = 'serializable'";
    let name = text(&shop.pool, "select current_database()::text").await;
    let settings = settings.replace("DB", &format!("{name:?}"));
    sqlx::raw_sql(AssertSqlSafe(settings))
        .execute(&shop.pool)
        .await
        .unwrap();
    let options = shop.pool.connect_options();
    let args = database::Args {
        database_url: options.to_url_lossy().to_string(),
        database_max_connections: 1,
        database_acquire_milliseconds: 1_000,
    };
    // The sessions of the service set what they need.
    let service = database::connect(&args, "test").unwrap();
    let commit = "select current_setting('synchronous_commit')";
    assert_eq!(text(&service, commit).await, "on");
    let isolation = "select current_setting('transaction_isolation')";
    assert_eq!(text(&service, isolation).await, "read committed");
    // Sessions that cannot, as behind PgBouncer, are warned.
    let plain = PgPoolOptions::new().connect_lazy_with(options.as_ref().clone());
    let warnings = warnings_of_read_committed(&plain).await;
    assert!(
        warnings
            .iter()
            .any(|warning| warning.starts_with("synchronous_commit is off")),
        "{warnings:?}"
    );
    let fsync = text(&service, "select current_setting('fsync')").await;
    let warned = warnings
        .iter()
        .any(|warning| warning.starts_with("fsync is off"));
    assert_eq!(warned, fsync == "off");
}

/// One text that `query` returns.
async fn text(pool: &PgPool, query: &'static str) -> String {
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}

/// The warnings for sessions that have the right isolation level.
async fn warnings_of_read_committed(pool: &PgPool) -> compatibility::Warnings {
    let refused = compatibility::check(pool).await;
    assert!(
        matches!(&refused, Err(compatibility::Unusable::Isolation(level)) if level == "serializable"),
        "{refused:?}"
    );
    let mut options = pool.connect_options().as_ref().clone();
    options = options.options([("default_transaction_isolation", "read committed")]);
    let pool = PgPoolOptions::new().connect_lazy_with(options);
    compatibility::check(&pool).await.unwrap()
}

#[sqlx::test(migrations = false)]
async fn a_database_that_cannot_store_every_name_is_refused(pool: PgPool) {
    let own = text(&pool, "select current_database()::text").await;
    let name = own.replace("_sqlx_test", "ascii");
    let create =
        format!("create database {name:?} encoding 'SQL_ASCII' locale 'C' template template0");
    sqlx::raw_sql(AssertSqlSafe(create))
        .execute(&pool)
        .await
        .unwrap();
    let options = pool.connect_options().as_ref().clone().database(&name);
    let ascii = PgPoolOptions::new().connect_lazy_with(options);
    migrate(&mut ascii.acquire().await.unwrap()).await.unwrap();
    let told = said(&ascii).await;
    assert!(
        told.contains("SQL_ASCII") && told.contains("encoding 'UTF8'"),
        "{told}"
    );
    ascii.close().await;
    let drop = format!("drop database {name:?}");
    sqlx::raw_sql(AssertSqlSafe(drop))
        .execute(&pool)
        .await
        .unwrap();
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_oldest_snapshot_is_seen(pool: PgPool) {
    let mut session = pool.acquire().await.unwrap();
    let before = server::state(&mut session).await.unwrap();
    assert!(
        before.writable && before.stalled_commit_seconds == 0.0,
        "{before:?}"
    );
    let mut old = pool
        .begin_with("begin isolation level repeatable read")
        .await
        .unwrap();
    let (pid,): (i32,) = sqlx::query_as("select pg_backend_pid()")
        .fetch_one(&mut *old)
        .await
        .unwrap();
    let holder = server::state(&mut session).await.unwrap();
    let holder = holder.oldest_snapshot_holder.unwrap_or_default();
    assert!(holder.starts_with(&format!("session {pid} (")), "{holder}");
    let oldest = async |session: &mut PgConnection| {
        server::state(session)
            .await
            .unwrap()
            .oldest_snapshot_seconds
    };
    let first = oldest(&mut session).await;
    let later = oldest(&mut session).await;
    assert!(later > first && first > 0.0, "{first} {later}");
    old.rollback().await.unwrap();
    assert_eq!(oldest(&mut session).await, 0.0);
}

/// A health check is the first statement of many sessions, and comes each second.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_check_does_not_read_the_whole_catalogue(_: PgPoolOptions, options: PgConnectOptions) {
    // The statistics of one session are complete for that session only.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .unwrap();
    let rows_read = async || {
        execute(&pool, "select pg_stat_force_next_flush()").await;
        sqlx::query_scalar::<_, i64>(
            "select seq_tup_read from pg_stat_sys_tables where relname = 'pg_proc'",
        )
        .fetch_one(&pool)
        .await
        .unwrap()
    };
    let before = rows_read().await;
    compatibility::check(&pool).await.unwrap();
    assert_eq!(rows_read().await, before);
}
