//! Calls without an answer: "nothing was done" is only reported when that is certain.

use std::{net::TcpListener, time::Duration};

use inventory::{Error, compatibility, database};
use sqlx::{
    AssertSqlSafe, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{io::AsyncReadExt as _, time::timeout};

use crate::support::{Changed as _, Shop};

/// A wait longer than this fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes PostgreSQL abort a confirm while it waits for its product.
async fn broken_off_by(shop: &Shop, function: &str) -> Error {
    let product = shop.product(1).await;
    let hold = shop.hold(product, 1).await.id;
    let lock = shop.lock(product).await;
    let shop_too = shop.clone();
    let sale = tokio::spawn(async move { shop_too.try_confirm(&[hold]).await });
    shop.until_waiting(&[sale.abort_handle()]).await;
    let break_off = format!(
        "select {function}(pid) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'"
    );
    sqlx::query(AssertSqlSafe(break_off))
        .execute(&shop.pool)
        .await
        .unwrap();
    let error = sale.await.unwrap().unwrap_err();
    lock.rollback().await.unwrap();

    assert_eq!(shop.stored(hold).await.status, "ACTIVE");
    // The pool still works: the retry succeeds.
    assert_eq!(shop.confirm(&[hold]).await.changed(), 1);
    error
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_canceled_statement_was_not_done(pool: PgPool) {
    let error = broken_off_by(&Shop::new(pool), "pg_cancel_backend").await;
    assert!(matches!(error, Error::NotDone(_)), "{error:?}");
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn of_a_call_whose_connection_was_ended_nobody_knows(pool: PgPool) {
    let error = broken_off_by(&Shop::new(pool), "pg_terminate_backend").await;
    assert!(matches!(error, Error::OutcomeUnknown(_)), "{error:?}");
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_lock_that_is_not_to_be_had_ends_the_wait_and_nothing_was_done(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let hold = shop.hold(product, 1).await.id;
    // Each verb sets its own lock timeout, below CALL_LIMIT, whatever the setting of the connection is.
    let limited = shop
        .count(
            "select count(*) from pg_proc
            where proname in (
                    'reserve_v3', 'confirm_v2', 'cancel_v2', 'extend_v1', 'return_v1', 'reacquire_v2',
                    'adjust_stock_v2', 'expire_v6', 'due_v2', 'join_waitlist_v1',
                    'leave_waitlist_v1', 'settle_waitlist_v2'
                )
                and 'lock_timeout=5s' = any(proconfig)",
        )
        .await;
    assert_eq!(limited, 12);
    sqlx::raw_sql("alter function confirm_v2 set lock_timeout = '1ms'")
        .execute(&shop.pool)
        .await
        .unwrap();

    let _lock = shop.lock(product).await;
    let error = shop.try_confirm(&[hold]).await.unwrap_err();

    assert!(matches!(error, Error::NotDone(_)), "{error:?}");
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn with_every_connection_busy_nothing_was_done(
    options: PgPoolOptions,
    connection: PgConnectOptions,
) {
    let pool = options
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(5))
        .connect_with(connection)
        .await
        .unwrap();
    let _busy = pool.acquire().await.unwrap();

    let error = Shop::new(pool.clone()).try_confirm(&[]).await.unwrap_err();

    assert!(matches!(error, Error::NotDone(_)), "{error:?}");
}

#[tokio::test]
async fn with_no_server_a_call_fails_soon_and_nothing_was_done() {
    let closed_port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let pool = database::connect(
        &database::Args {
            database_url: format!("postgres://nobody@127.0.0.1:{closed_port}/nothing"),
            database_max_connections: 2,
            database_acquire_milliseconds: 100,
        },
        "rules",
    )
    .unwrap();

    let error = timeout(PATIENCE, Shop::new(pool.clone()).try_confirm(&[]))
        .await
        .unwrap()
        .unwrap_err();

    assert!(matches!(error, Error::NotDone(_)), "{error:?}");
    let checked = timeout(PATIENCE, compatibility::check(&pool))
        .await
        .unwrap();
    assert!(checked.is_err());
}

#[test]
fn a_url_that_is_none_is_refused_at_once_without_being_repeated() {
    let args = database::Args {
        database_url: "//flashsale:secret@db/flashsale".to_owned(),
        database_max_connections: 1,
        database_acquire_milliseconds: 1,
    };
    let error = format!("{:#}", database::connect(&args, "rules").unwrap_err());
    assert!(error.contains("DATABASE_URL"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

/// As HAProxy does while PostgreSQL fails over.
#[tokio::test]
async fn a_proxy_that_closes_new_connections_is_named() {
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = proxy.accept().await.unwrap();
            // Unread bytes would reset the connection instead.
            let _ = client.read_exact(&mut [0; 8]).await;
        }
    });
    let args = database::Args {
        database_url: format!("postgres://flashsale@{address}/flashsale"),
        database_max_connections: 1,
        database_acquire_milliseconds: 100,
    };
    let pool = database::connect(&args, "rules").unwrap();
    let call = database::execute(&pool, sqlx::query("select 1")).await;
    let Err(compatibility::Unusable::NoAnswer(cause)) = compatibility::check(&pool).await else {
        panic!("the proxy has no server");
    };
    for text in [call.unwrap_err().cause(), cause] {
        assert!(
            text.contains("the new connection was closed at once"),
            "{text}"
        );
    }
}
