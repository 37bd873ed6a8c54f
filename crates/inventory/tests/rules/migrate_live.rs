//! migrate during a sale.

use std::time::Duration;

use inventory::migrate::{NUMBERED, PATIENCE, migrate, migrate_with};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool, SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

/// The numbered files and one more with this SQL.
fn with_next(sql: &'static str, no_tx: bool) -> Migrator {
    let next = Migration::new(
        newest() + 1,
        "the next one".into(),
        MigrationType::ReversibleUp,
        AssertSqlSafe(sql).into_sql_str(),
        no_tx,
    );
    Migrator::with_migrations(NUMBERED.iter().cloned().chain([next]).collect())
}

fn newest() -> i64 {
    NUMBERED.iter().last().unwrap().version
}

/// Alters a table of the sale.
const ALTER: &str = "alter table products add column color text";

/// A session that has read the products and keeps its transaction open.
async fn long_reader(options: &PgConnectOptions) -> PgConnection {
    let mut reader = PgConnection::connect_with(options).await.unwrap();
    sqlx::raw_sql("begin; select from products")
        .execute(&mut reader)
        .await
        .unwrap();
    reader
}

#[sqlx::test(migrations = false)]
async fn who_comes_after_a_migration_that_waits_does_not_wait_for_long(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    migrate(&mut connection).await.unwrap();
    let next = with_next(ALTER, false);
    let mut shop = PgConnection::connect_with(&options).await.unwrap();
    let reader = long_reader(&options).await;

    let story = async {
        let waiting =
            "select count(*) from pg_locks where not granted and relation = 'products'::regclass";
        while sqlx::query_scalar::<_, i64>(waiting)
            .fetch_one(&mut shop)
            .await
            .unwrap()
            == 0
        {}
        let next = sqlx::query("select from products").execute(&mut shop);
        timeout(Duration::from_secs(10), next)
            .await
            .expect("it waits behind the migration for as long as the reader reads")
            .unwrap();
        reader.close().await.unwrap();
    };
    let (migrated, ()) = tokio::join!(migrate_with(&next, &mut connection, PATIENCE), story);

    assert_eq!(migrated.unwrap().applied, [newest() + 1]);
    let after: String = sqlx::query_scalar("show lock_timeout")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(after, "0");
}

#[sqlx::test(migrations = false)]
async fn a_migration_that_never_gets_its_lock_says_who_has_it(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    migrate(&mut connection).await.unwrap();
    let next = with_next(ALTER, false);
    let mut reader = long_reader(&options).await;
    let session: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut reader)
        .await
        .unwrap();

    let tried = migrate_with(&next, &mut connection, Duration::ZERO);
    let failed = timeout(Duration::from_secs(10), tried).await.unwrap();

    let said = format!("{:#}", failed.unwrap_err());
    let did_not = format!("migration {} did not get", newest() + 1);
    for part in [&did_not, &format!("session {session} ")] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    let recorded: i64 = sqlx::query_scalar("select max(version) from _sqlx_migrations")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(recorded, newest());
    // Another process may hold the migration lock.
    let mut other = PgConnection::connect_with(&options).await.unwrap();
    reader.close().await.unwrap();
    let migrated = migrate_with(&next, &mut other, PATIENCE).await;
    assert_eq!(migrated.unwrap().applied, [newest() + 1]);
}

/// A concurrent index build cannot run in a transaction: neither in the database nor in the scratch schema.
#[sqlx::test(migrations = false)]
async fn a_migration_may_build_an_index_concurrently(pool: PgPool) {
    let build =
        "-- no-transaction\ncreate index concurrently products_by_name on products (name);\n";
    let migrator = with_next(build, true);
    let version = newest() + 1;
    let connection = &mut *pool.acquire().await.unwrap();
    for by_hand in [false, true] {
        let reset = "drop schema public cascade; create schema public";
        sqlx::raw_sql(reset)
            .execute(&mut *connection)
            .await
            .unwrap();
        if by_hand {
            let ups = migrator
                .iter()
                .filter(|m| m.migration_type.is_up_migration());
            for migration in ups {
                let sql = migration.sql.clone();
                sqlx::raw_sql(sql).execute(&mut *connection).await.unwrap();
            }
        }
        let migrated = migrate_with(&migrator, connection, PATIENCE).await.unwrap();
        let done = if by_hand {
            migrated.adopted
        } else {
            migrated.applied
        };
        assert_eq!(done.last(), Some(&version));
        let valid: bool = sqlx::query_scalar(
            "select indisvalid from pg_index where indexrelid = 'products_by_name'::regclass",
        )
        .fetch_one(&mut *connection)
        .await
        .unwrap();
        assert!(valid);
    }
}
