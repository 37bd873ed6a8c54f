//! A database for one test, with helpers that bypass the service.

use std::{
    str::FromStr as _,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use reqwest::Url;
use serde_json::Value;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool, Postgres,
    Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{Proxy, eventually, id, test_server};

/// Created and migrated for one test, and dropped with it. (A killed test run leaves its databases behind, but `make
/// test` deletes the whole server.)
pub(crate) struct Database {
    name: String,
    server: PgConnectOptions,
    /// URL for the service.
    pub(crate) url: String,
    /// The test's own connections.
    pub(crate) pool: PgPool,
}

impl Database {
    pub(crate) async fn create() -> Self {
        Self::create_on(&test_server("TEST_DATABASE_URL")).await
    }

    pub(crate) async fn create_on(server_url: &str) -> Self {
        let database = Self::create_empty_on(server_url).await;
        let mut connection = database.pool.acquire().await.unwrap();
        // Also records where ids are given out. Otherwise the first session of a process would do it, and would advance
        // them if a test had already inserted a row.
        inventory::migrate::migrate(&mut connection)
            .await
            .expect("cannot migrate");
        database
    }

    /// A database without a schema.
    pub(crate) async fn create_empty_on(server_url: &str) -> Self {
        Self::create_empty_named("flashsale_test", server_url).await
    }

    /// The same, with a name that starts with `begin`.
    pub(crate) async fn create_empty_named(begin: &str, server_url: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{begin}_{}_{number}", std::process::id());
        let server = PgConnectOptions::from_str(server_url).expect(server_url);
        execute_on(&server, format!("create database {name}"))
            .await
            .expect("cannot create a database for the test");
        let options = server.clone().database(&name);
        Self {
            name,
            server,
            url: options.to_url_lossy().to_string(),
            pool: PgPoolOptions::new()
                .max_connections(4)
                .connect_lazy_with(options),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The environment variables that tell `psql` where the server is.
    pub(crate) fn psql_environment(&self) -> [(&'static str, String); 4] {
        let url = Url::parse(&self.url).unwrap();
        [
            ("PGHOST", self.server.get_host().to_owned()),
            ("PGPORT", self.server.get_port().to_string()),
            ("PGUSER", url.username().to_owned()),
            ("PGPASSWORD", url.password().unwrap_or_default().to_owned()),
        ]
    }

    /// Runs statements, as psql sends them.
    pub(crate) async fn execute(&self, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&self.pool)
            .await
            .expect(statements);
    }

    /// Changes a setting for all sessions of the server, also for those that are open. For private servers only.
    pub(crate) async fn configure(&self, setting: &str, value: &str) {
        let mut connection = PgConnection::connect_with(&self.server).await.unwrap();
        for statement in [
            "set default_transaction_read_only = off".to_owned(),
            format!("alter system set {setting} = '{value}'"),
            "select pg_reload_conf()".to_owned(),
        ] {
            sqlx::query(AssertSqlSafe(statement))
                .execute(&mut connection)
                .await
                .unwrap();
        }
    }

    /// `host:port`
    pub(crate) fn server_address(&self) -> String {
        format!("{}:{}", self.server.get_host(), self.server.get_port())
    }

    /// A proxy in front of the server, and the URL of the database through it.
    pub(crate) async fn behind_proxy(&self) -> (Proxy, String) {
        let proxy = Proxy::to(&self.server_address()).await;
        let url = self.url.replace(&self.server_address(), &proxy.address);
        (proxy, url)
    }

    /// Moves the deadline of a hold into the past. The clock does not change.
    pub(crate) async fn backdate(&self, hold: &Value) {
        let moved = sqlx::query(
            "update reservations set expires_at = clock_timestamp() - interval '1 s' where id = $1",
        )
        .bind(id(hold))
        .execute(&self.pool)
        .await
        .unwrap();
        assert_eq!(moved.rows_affected(), 1);
    }

    /// Holds the lock that every verb needs, until the transaction is rolled back or dropped.
    pub(crate) async fn lock_product(&self, product: i64) -> Transaction<'static, Postgres> {
        let mut lock = self.pool.begin().await.unwrap();
        sqlx::query("select from products where id = $1 for update")
            .bind(product)
            .execute(&mut *lock)
            .await
            .unwrap();
        lock
    }

    /// Holds the lock that also reads of the table need, until the transaction is rolled back or dropped.
    pub(crate) async fn lock_table(&self, table: &str) -> Transaction<'static, Postgres> {
        let mut lock = self.pool.begin().await.unwrap();
        let statement = AssertSqlSafe(format!("lock table {table}"));
        sqlx::query(statement).execute(&mut *lock).await.unwrap();
        lock
    }

    /// Raises the lock timeout of the verbs, so that a slow machine does not end the wait too early.
    pub(crate) async fn be_patient(&self) {
        for function in ["reserve_v3", "confirm_v2", "cancel_v2", "extend_v1"] {
            let patient = format!("alter function {function} set lock_timeout = '60s'");
            sqlx::query(sqlx::AssertSqlSafe(patient))
                .execute(&self.pool)
                .await
                .unwrap();
        }
    }

    /// Lowers the lock timeout of the verbs to less than a test can wait.
    pub(crate) async fn have_little_patience(&self) {
        for function in ["reserve_v3", "confirm_v2", "cancel_v2", "expire_v6"] {
            let impatient = format!("alter function {function} set lock_timeout = '10ms'");
            sqlx::query(sqlx::AssertSqlSafe(impatient))
                .execute(&self.pool)
                .await
                .unwrap();
        }
    }

    /// Waits until this many calls of the service wait for locks.
    pub(crate) async fn calls_wait_for_locks(&self, calls: i64) {
        eventually("calls that wait for a lock", async || {
            let waiting: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity
                where datname = current_database() and wait_event_type = 'Lock'",
            )
            .fetch_one(&self.pool)
            .await
            .unwrap();
            (waiting == calls).then_some(())
        })
        .await;
    }

    /// Ends the connections whose calls wait for locks, as a crash of their backends would.
    pub(crate) async fn terminate_waiting_calls(&self) {
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'",
        )
        .execute(&self.pool)
        .await
        .unwrap();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (name, server) = (self.name.clone(), self.server.clone());
        // The test's own runtime may be gone, or may be dropping this.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let statement = format!("drop database {name} with (force)");
            // Fails if the test has stopped the server; then there is nothing to clean up. Also fails while an
            // autovacuum, which belongs to the superuser, is running in the database.
            let limited = async {
                let drop = async {
                    while let Err(sqlx::Error::Database(_)) =
                        execute_on(&server, statement.clone()).await
                    {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                };
                tokio::time::timeout(Duration::from_secs(20), drop).await
            };
            let _ = runtime.block_on(limited);
        });
        let _ = dropping.join();
    }
}

async fn execute_on(server: &PgConnectOptions, statement: String) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(server).await?;
    sqlx::query(AssertSqlSafe(statement))
        .execute(&mut connection)
        .await?;
    connection.close().await
}
