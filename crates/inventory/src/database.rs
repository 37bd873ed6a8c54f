//! The connection pool, and the errors that say whether a failed call was done.

use std::{
    str::FromStr as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use sqlx::{
    Connection as _, Execute as _, FromRow, PgConnection, PgPool, Postgres, Row as _, Transaction,
    error::DatabaseError,
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions, PgDatabaseError, PgPoolOptions, PgRow, PgSeverity},
    query::Query,
};
use tokio::time::timeout;
use trace::Span;

/// Time limit of one call. PostgreSQL answers within milliseconds, and a lock wait ends by itself after 5 s (see
/// `sql/reserve.sql`). No answer for longer means that the network drops packets.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Time limit of [`connect_beside`].
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_millis(500);

/// Time limit of a health check: callers such as Kubernetes probes wait for 2 s.
pub(crate) const CHECK_LIMIT: Duration = Duration::from_millis(1_500);

/// A connection that was idle for longer is tested before use. If PostgreSQL goes away within this time, the next
/// call fails with an unknown outcome.
const TRUSTED_IDLE: Duration = Duration::from_millis(10);

/// A connection is replaced after this time, so that connections find their way to another server when a load
/// balancer or a DNS name moves, even if nothing fails.
const MAX_LIFETIME: Duration = Duration::from_secs(300);

/// Settings of each session, as statements because PgBouncer refuses them as startup parameters.
/// - The database or role may have another default isolation level, under which a statement after a lock wait does
///   not see the changes of the previous lock holder.
/// - Without a flush to disk at commit, an acknowledged answer could be lost in a crash.
/// - PostgreSQL notices after a minute that the host of a session has vanished. Its default is two hours.
///
/// The last statement says whether the session can write.
const SET_UP: &str = "
    set default_transaction_isolation = 'read committed';
    set tcp_keepalives_idle = 30;
    set tcp_keepalives_interval = 10;
    set tcp_keepalives_count = 3;
    select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off';
    select not current_setting('transaction_read_only')::boolean as writable";

/// Whether the session can write. On a standby, and with `default_transaction_read_only`, it cannot.
const WRITABLE: &str = "select not current_setting('transaction_read_only')::boolean as writable";

/// Settings of every process that uses PostgreSQL.
#[derive(clap::Args, Clone)]
// Several flattened groups are called `Args`, and clap refuses groups of the same name.
#[group(skip)]
pub struct Args {
    /// URL of PostgreSQL. PgBouncer (1.21 or later) works in transaction mode.
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "postgres://flashsale:flashsale@127.0.0.1:5432/flashsale"
    )]
    pub database_url: String,

    /// Maximum number of PostgreSQL connections for the work of this process. An API opens two more for each of its
    /// RESERVE_LANES, and three for its health checks and the live page.
    #[arg(long, env = "DATABASE_MAX_CONNECTIONS", default_value_t = 12)]
    pub database_max_connections: u32,

    /// Milliseconds that a call waits for a free connection before it fails as overload.
    #[arg(long, env = "DATABASE_ACQUIRE_MILLISECONDS", default_value_t = 1000)]
    pub database_acquire_milliseconds: u64,
}

/// The connections of a pool by what they do, for metrics.
pub fn connections(pool: &PgPool) -> [(&'static str, u32); 2] {
    let open = pool.size();
    let idle = u32::try_from(pool.num_idle()).map_or(open, |idle| idle.min(open));
    [("busy", open - idle), ("idle", idle)]
}

/// A pool that connects on first use, so that a process can start while PostgreSQL is down. Fails if the URL is
/// invalid.
pub fn connect(args: &Args, application_name: &str) -> anyhow::Result<PgPool> {
    let options = options(&args.database_url)?.application_name(application_name);
    Ok(PgPoolOptions::new()
        .max_connections(args.database_max_connections)
        .acquire_timeout(Duration::from_millis(args.database_acquire_milliseconds))
        // The pool's own test would cost every batch of a busy lane a round trip.
        .test_before_acquire(false)
        .max_lifetime(MAX_LIFETIME)
        .before_acquire(|connection, usage| {
            Box::pin(async move {
                match usage.idle_for > TRUSTED_IDLE {
                    // If not, the pool closes this connection and opens a new one.
                    true => is_writable(connection, WRITABLE).await,
                    false => Ok(true),
                }
            })
        })
        .after_connect(|connection, _| {
            Box::pin(async move {
                match is_writable(connection, SET_UP).await? {
                    true => Ok(()),
                    // The pool tries again until the time limit of the call, and then only says that it ended.
                    false => {
                        *read_only_seen() = Some(Instant::now());
                        Err(sqlx::Error::Configuration(READ_ONLY.into()))
                    }
                }
            })
        })
        .connect_lazy_with(options))
}

/// When this process last opened a session that cannot write. A process has one database.
#[expect(
    clippy::disallowed_methods,
    reason = "this crate does not depend on runtime"
)]
fn read_only_seen() -> MutexGuard<'static, Option<Instant>> {
    static SEEN: Mutex<Option<Instant>> = Mutex::new(None);
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether PostgreSQL was read-only a moment ago. The pool opens sessions all the time while it has none.
pub(crate) fn was_read_only() -> bool {
    read_only_seen().is_some_and(|seen| seen.elapsed() < Duration::from_secs(1))
}

/// Why a session cannot be used for writes.
pub(crate) const READ_ONLY: &str =
    "PostgreSQL is read-only: it is a standby, or default_transaction_read_only is on";

/// Runs `statements`, the last of which returns whether the session can write.
async fn is_writable(
    connection: &mut PgConnection,
    statements: &'static str,
) -> Result<bool, sqlx::Error> {
    let rows = sqlx::raw_sql(statements).fetch_all(connection).await?;
    let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
    row.try_get("writable")
}

/// Opens a connection that is not part of the pool, because a pool without connections only tells that its time limit
/// ended. The error is a text for the log, with the address of the server.
pub(crate) async fn connect_beside(pool: &PgPool) -> Result<PgConnection, String> {
    let options = pool.connect_options();
    let address = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let connecting = async {
        let mut connection = PgConnection::connect_with(&options).await?;
        is_writable(&mut connection, SET_UP).await?;
        Ok::<_, sqlx::Error>(connection)
    };
    match timeout(CONNECT_LIMIT, connecting).await {
        Ok(connected) => connected.map_err(|error| format!("{address}: {error}")),
        Err(_) => Err(format!("{address}: no answer within {CONNECT_LIMIT:?}")),
    }
}

/// A second pool with the same settings and its own `connections`. Its calls do not wait when all connections of the
/// first pool are in use.
pub fn beside(pool: &PgPool, connections: u32) -> PgPool {
    let options = pool.connect_options().as_ref().clone();
    let settings = pool.options().clone().max_connections(connections);
    settings.connect_lazy_with(options)
}

/// Parses a PostgreSQL URL. Checks the scheme, because sqlx accepts any.
pub fn options(url: &str) -> anyhow::Result<PgConnectOptions> {
    let known = ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    // The parser's message could contain the URL and its password.
    known
        .then(|| PgConnectOptions::from_str(url).ok())
        .flatten()
        .context(
            "DATABASE_URL is not a PostgreSQL URL (postgres://user:password@host:port/database)",
        )
}

/// Where a verb makes its call.
pub enum Executor<'a> {
    /// A pooled connection: the call is a transaction of its own.
    Pool(&'a PgPool),
    /// An open transaction: the call becomes a part of it. The owner of the transaction limits its time.
    Transaction(&'a mut PgConnection),
}

impl Executor<'_> {
    /// Reborrows it for one call, so that another call can follow.
    pub fn reborrow(&mut self) -> Executor<'_> {
        match self {
            Self::Pool(pool) => Executor::Pool(pool),
            Self::Transaction(connection) => Executor::Transaction(connection),
        }
    }
}

impl<'a> From<&'a mut PgConnection> for Executor<'a> {
    fn from(connection: &'a mut PgConnection) -> Self {
        Self::Transaction(connection)
    }
}

impl<'a> From<&'a PgPool> for Executor<'a> {
    fn from(pool: &'a PgPool) -> Self {
        Self::Pool(pool)
    }
}

/// Makes one call. In a transaction of its own, it reads up to the end of the transaction: an answer proves the
/// commit. (Fetching one row may return before the commit.)
pub async fn execute(
    executor: impl Into<Executor<'_>>,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Vec<PgRow>, Error> {
    match executor.into() {
        Executor::Pool(pool) => {
            let sent = async |connection: &mut PgConnection| Ok(send(connection, query).await?);
            with_timeout(CALL_LIMIT, pool, sent).await
        }
        Executor::Transaction(connection) => Ok(send(connection, query).await?),
    }
}

/// Makes one read-only call in a transaction that starts with `begin` and is rolled back. PgBouncer's transaction
/// mode allows settings only within a transaction.
pub(crate) async fn read_only<T>(
    pool: &PgPool,
    begin: &'static str,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Vec<T>, Error>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let looked = async |connection: &mut PgConnection| {
        let mut transaction = connection.begin_with(begin).await?;
        let rows = fetch(&mut *transaction, query).await;
        transaction.rollback().await?;
        rows
    };
    let looked = with_timeout(CALL_LIMIT, pool, looked).await;
    looked.map_err(Error::before_commit)
}

/// How a transaction ends.
pub(crate) enum End {
    Commit,
    Rollback,
}

/// Runs several calls in one transaction. PostgreSQL ends the transaction when it is idle for 2 s, so that a frozen
/// process does not keep its locks.
///
/// [`Error::NotDone`]: nothing was done. [`Error::OutcomeUnknown`]: the answer to the commit was lost.
pub(crate) async fn transact<T>(
    pool: &PgPool,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<(End, T), Error>,
) -> Result<T, Error> {
    let mut connection = pool.acquire().await.map_err(Error::NotDone)?;
    match run(&mut connection, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            close_if_read_only(connection, &error);
            Err(error)
        }
        Err(TimedOut(error)) => {
            // A connection with an outstanding answer would block the pool.
            drop(connection.detach());
            Err(error)
        }
    }
}

/// PostgreSQL did not answer in time.
struct TimedOut(Error);

async fn run<T>(
    connection: &mut PgConnection,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<(End, T), Error>,
) -> Result<Result<T, Error>, TimedOut> {
    let timed_out = || sqlx::Error::PoolTimedOut;
    let prepared = timeout(CALL_LIMIT, prepare(connection, work)).await;
    let prepared = prepared.map_err(|_| TimedOut(Error::NotDone(timed_out())))?;
    let (end, transaction, done) = match prepared.map_err(Error::before_commit) {
        Ok(prepared) => prepared,
        Err(error) => return Ok(Err(error)),
    };
    if let End::Rollback = end {
        // The error is ignored: without a commit nothing is done.
        let _ = timeout(CALL_LIMIT, transaction.rollback()).await;
        return Ok(Ok(done));
    }
    let commit = Span::of_statement("commit").scope(transaction.commit());
    let committed = timeout(CALL_LIMIT, commit).await;
    let committed = committed.map_err(|_| TimedOut(Error::OutcomeUnknown(timed_out())))?;
    Ok(committed.map(|()| done).map_err(Error::from))
}

/// A server that refuses writes was demoted, or the connection leads to the wrong one. A new connection may lead to
/// the right one.
fn close_if_read_only(connection: PoolConnection<Postgres>, error: &Error) {
    if error.is_read_only() {
        drop(connection.detach());
    }
}

/// Everything before the commit or rollback.
async fn prepare<'c, T>(
    connection: &'c mut PgConnection,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<(End, T), Error>,
) -> Result<(End, Transaction<'c, Postgres>, T), Error> {
    // Several statements in one simple query cost one round trip.
    let begin = "begin; set local lock_timeout = '5s'; set local idle_in_transaction_session_timeout = '2s'";
    let began = Span::of_statement("begin").scope(connection.begin_with(begin));
    let mut transaction = began.await?;
    let (end, done) = work(&mut transaction).await?;
    Ok((end, transaction, done))
}

/// Runs `work` on a pooled connection, with a time limit.
pub(crate) async fn with_timeout<T>(
    limit: Duration,
    pool: &PgPool,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Error>,
) -> Result<T, Error> {
    // An error before there is a connection means that nothing was sent.
    let connection = pool.acquire().await.map_err(Error::NotDone)?;
    on_connection(limit, connection, work).await
}

/// Runs `work` on this connection, with a time limit.
pub(crate) async fn on_connection<T>(
    limit: Duration,
    mut connection: PoolConnection<Postgres>,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Error>,
) -> Result<T, Error> {
    match timeout(limit, work(&mut connection)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            close_if_read_only(connection, &error);
            Err(error)
        }
        Err(_) => {
            // A connection with an outstanding answer would block the pool.
            drop(connection.detach());
            Err(Error::OutcomeUnknown(sqlx::Error::PoolTimedOut))
        }
    }
}

async fn send(
    connection: &mut PgConnection,
    mut query: Query<'_, Postgres, PgArguments>,
) -> Result<Vec<PgRow>, sqlx::Error> {
    // The text of a query is only available after its arguments were taken.
    let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?;
    let sql = query.sql();
    let span = Span::of_statement(sql.as_str());
    let query = sqlx::query_with(sql, arguments.unwrap_or_default());
    span.scope(query.fetch_all(connection)).await
}

/// Makes one call, and reads its rows as `T`.
pub async fn fetch<T>(
    executor: impl Into<Executor<'_>>,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Vec<T>, Error>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let rows = execute(executor, query).await?;
    Ok(rows.iter().map(T::from_row).collect::<Result<_, _>>()?)
}

/// A failed call. The two variants differ in what a client may conclude.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There was no connection, or PostgreSQL refused and rolled back: nothing was done.
    #[error("PostgreSQL did not execute the call")]
    NotDone(#[source] sqlx::Error),
    /// The connection was lost after the call was sent, so the call may have been committed. Or only a part of the
    /// work was committed.
    #[error("the answer of PostgreSQL was lost")]
    OutcomeUnknown(#[source] sqlx::Error),
}

impl Error {
    /// The cause as text for the log. (As a log field, an error shows its source only in the text format.)
    pub fn cause(&self) -> String {
        let (Self::NotDone(cause) | Self::OutcomeUnknown(cause)) = self;
        cause.to_string()
    }

    /// Whether PostgreSQL answered with an error, and is therefore up.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::NotDone(sqlx::Error::Database(_)))
    }

    /// Whether PostgreSQL refused a write because the server or the session is read-only. The connection is closed
    /// then.
    pub fn is_read_only(&self) -> bool {
        self.is_code("25006")
    }

    /// Whether there was no connection, or none that can write.
    pub fn is_outage(&self) -> bool {
        self.is_read_only() || self.is_no_connection()
    }

    /// Whether nothing was sent because there was no connection.
    pub(crate) fn is_no_connection(&self) -> bool {
        matches!(self, Self::NotDone(error) if !matches!(error, sqlx::Error::Database(_)))
    }

    /// Whether another transaction kept a lock for longer than the call's lock timeout.
    pub fn is_lock_timeout(&self) -> bool {
        self.is_code("55P03")
    }

    /// Whether another transaction has inserted the same key.
    pub(crate) fn is_unique_violation(&self) -> bool {
        self.is_code("23505")
    }

    /// Whether a table does not exist.
    pub(crate) fn is_undefined_table(&self) -> bool {
        self.is_code("42P01")
    }

    fn is_code(&self, sqlstate: &str) -> bool {
        let Self::NotDone(sqlx::Error::Database(refusal)) = self else {
            return false;
        };
        refusal.code().as_deref() == Some(sqlstate)
    }

    /// Converts the error of one of several calls, each a transaction of its own. If `others` were committed, the
    /// outcome of the whole is unknown.
    pub fn after(self, others: bool) -> Self {
        match self {
            Self::NotDone(cause) if others => Self::OutcomeUnknown(cause),
            error => error,
        }
    }

    /// Converts the error of a call in a transaction that was not committed: nothing was done.
    pub(crate) fn before_commit(self) -> Self {
        match self {
            Self::NotDone(cause) | Self::OutcomeUnknown(cause) => Self::NotDone(cause),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(refusal) if rolled_back(refusal.as_ref()) => Self::NotDone(error),
            _ => Self::OutcomeUnknown(error),
        }
    }
}

/// Whether the transaction was rolled back. An ERROR rolls back and keeps the connection. A FATAL or PANIC ends the
/// connection, possibly between a commit and its answer.
fn rolled_back(refusal: &dyn DatabaseError) -> bool {
    refusal
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|error| error.severity() == PgSeverity::Error)
}
