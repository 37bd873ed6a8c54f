//! Databases that a program works with, and its reasons for refusing others.

use inventory::{
    compatibility::{self, Functions, wait_until_usable},
    database,
    migrate::{NUMBERED, install_by_hand, migrate},
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::support::{Shop, one};

async fn said(pool: &PgPool) -> String {
    match compatibility::check(pool).await {
        Ok(()) => "usable".to_owned(),
        Err(unusable) => unusable.to_string(),
    }
}

async fn execute(pool: &PgPool, statements: &'static str) {
    sqlx::raw_sql(statements).execute(pool).await.unwrap();
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
    let empty = "schema is at 0, this program needs 1: run flashsale-api migrate";
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
        half.contains("reserve_v2") && half.ends_with("run flashsale-api migrate"),
        "{half}"
    );

    migrate(&mut pool.acquire().await.unwrap()).await.unwrap();
    assert_eq!(said(&pool).await, "usable");

    execute(&pool, "update schema_version set version = 7").await;
    assert_eq!(said(&pool).await, "usable", "newer, and compatible");
    execute(&pool, "update schema_version set compatible_from = 2").await;
    let newer = said(&pool).await;
    assert!(
        newer.contains("schema is at 7") && newer.contains("needs 1"),
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
