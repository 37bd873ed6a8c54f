//! The connection pool, and what a failed call says about what was done.

use std::{str::FromStr as _, time::Duration};

use anyhow::Context as _;
use sqlx::{
    Connection as _, Execute as _, Executor as _, FromRow, PgConnection, PgPool, Postgres,
    Transaction,
    error::DatabaseError,
    postgres::{PgArguments, PgConnectOptions, PgDatabaseError, PgPoolOptions, PgRow, PgSeverity},
    query::Query,
};
use tokio::time::timeout;
use trace::Span;

/// Longest time of one call. PostgreSQL answers in milliseconds, and gives up a lock wait by itself
/// after 5 s (see `sql/reserve.sql`): silence beyond this is a network that swallows packets.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Longest time of a check: those who ask whether all is well wait for two seconds.
pub(crate) const CHECK_LIMIT: Duration = Duration::from_millis(1_500);

/// How long a connection may have been idle and still be used without a test. PostgreSQL may have gone
/// in this time too: that is a call whose answer is lost, as if it had gone a moment later.
const TRUSTED_IDLE: Duration = Duration::from_millis(10);

/// Settings of every process that talks to PostgreSQL.
#[derive(clap::Args, Clone)]
// Flattened beside other groups of the same name.
#[group(skip)]
pub struct Args {
    /// Where PostgreSQL is. Through PgBouncer (1.21 or later) transaction mode works.
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "postgres://flashsale:flashsale@127.0.0.1:5432/flashsale"
    )]
    pub database_url: String,

    /// Most connections that this process opens to PostgreSQL for its work; an API has three more, for its health and the live page.
    #[arg(long, env = "DATABASE_MAX_CONNECTIONS", default_value_t = 16)]
    pub database_max_connections: u32,

    /// How long a call waits for a free connection, in milliseconds, before it counts as overload.
    #[arg(long, env = "DATABASE_ACQUIRE_MILLISECONDS", default_value_t = 1000)]
    pub database_acquire_milliseconds: u64,
}

/// A pool that connects when it is first used: a process starts also while PostgreSQL is away.
pub fn connect(args: &Args, application_name: &str) -> anyhow::Result<PgPool> {
    let options = options(&args.database_url)?.application_name(application_name);
    Ok(PgPoolOptions::new()
        .max_connections(args.database_max_connections)
        .acquire_timeout(Duration::from_millis(args.database_acquire_milliseconds))
        // The pool's own test would cost every batch of a busy lane a round trip.
        .test_before_acquire(false)
        .before_acquire(|connection, usage| {
            Box::pin(async move {
                if usage.idle_for > TRUSTED_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_connect(|connection, _| {
            Box::pin(async move {
                // A database or role may have another default, under which a statement that waited for a lock does not
                // see what the lock's last holder has done. (A startup parameter would stop PgBouncer.)
                let isolation = "set default_transaction_isolation = 'read committed'";
                connection.execute(isolation).await.map(drop)
            })
        })
        .connect_lazy_with(options))
}

/// A pool beside another, with the same settings and so many connections: what goes by it does not wait for a
/// connection while the other one's are all in use.
pub fn beside(pool: &PgPool, connections: u32) -> PgPool {
    let options = pool.connect_options().as_ref().clone();
    let settings = pool.options().clone().max_connections(connections);
    settings.connect_lazy_with(options)
}

/// What a URL says. sqlx itself would take any scheme for PostgreSQL's.
pub fn options(url: &str) -> anyhow::Result<PgConnectOptions> {
    let known = ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    // The parser's own message could repeat the URL, and with it the password.
    known
        .then(|| PgConnectOptions::from_str(url).ok())
        .flatten()
        .context(
            "DATABASE_URL is not a PostgreSQL URL (postgres://user:password@host:port/database)",
        )
}

/// What a verb makes its call on.
pub enum Via<'a> {
    /// A connection of the pool: the call is a transaction of its own.
    Pool(&'a PgPool),
    /// A connection in a transaction, of which the call becomes a part. Whoever began it limits its time.
    Transaction(&'a mut PgConnection),
}

impl Via<'_> {
    /// The same for one call, so that another can follow.
    pub fn again(&mut self) -> Via<'_> {
        match self {
            Self::Pool(pool) => Via::Pool(pool),
            Self::Transaction(connection) => Via::Transaction(connection),
        }
    }
}

impl<'a> From<&'a mut PgConnection> for Via<'a> {
    fn from(connection: &'a mut PgConnection) -> Self {
        Self::Transaction(connection)
    }
}

impl<'a> From<&'a PgPool> for Via<'a> {
    fn from(pool: &'a PgPool) -> Self {
        Self::Pool(pool)
    }
}

/// Makes one call and reads its answer up to the end of its transaction, if that is its own, so that what is
/// answered has been committed. (A fetch of one row may return before the commit.)
pub async fn call(
    via: impl Into<Via<'_>>,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Vec<PgRow>, Error> {
    match via.into() {
        Via::Pool(pool) => {
            let sent = async |connection: &mut PgConnection| Ok(send(connection, query).await?);
            within(CALL_LIMIT, pool, sent).await
        }
        Via::Transaction(connection) => Ok(send(connection, query).await?),
    }
}

/// Makes one call that changes nothing, in a transaction that begins so and is rolled back. (PgBouncer's transaction
/// mode allows no setting for longer.)
pub(crate) async fn look<T>(
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
    let looked = within(CALL_LIMIT, pool, looked).await;
    looked.map_err(Error::before_commit)
}

/// What becomes of a transaction.
pub(crate) enum End {
    Commit,
    Rollback,
}

/// Works in a transaction of several calls, which PostgreSQL ends within two seconds of silence: a process that freezes
/// must not keep what it has locked.
///
/// [`Error::NotDone`]: nothing was done. [`Error::OutcomeUnknown`]: the answer to the commit was lost.
pub(crate) async fn transact<T>(
    pool: &PgPool,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<(End, T), Error>,
) -> Result<T, Error> {
    let mut connection = pool.acquire().await.map_err(Error::NotDone)?;
    let Ok(prepared) = timeout(CALL_LIMIT, prepare(&mut connection, work)).await else {
        // The pool would wait for the answer that does not come.
        drop(connection.detach());
        return Err(Error::NotDone(sqlx::Error::PoolTimedOut));
    };
    let (end, transaction, done) = prepared.map_err(Error::before_commit)?;
    if let End::Rollback = end {
        // Also when this fails, nothing is committed.
        let _ = timeout(CALL_LIMIT, transaction.rollback()).await;
        return Ok(done);
    }
    let commit = Span::of_statement("commit").scope(transaction.commit());
    let Ok(committed) = timeout(CALL_LIMIT, commit).await else {
        drop(connection.detach());
        return Err(Error::OutcomeUnknown(sqlx::Error::PoolTimedOut));
    };
    committed?;
    Ok(done)
}

/// Everything up to the end of a transaction.
async fn prepare<'c, T>(
    connection: &'c mut PgConnection,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<(End, T), Error>,
) -> Result<(End, Transaction<'c, Postgres>, T), Error> {
    // One simple query is one round trip.
    let begin = "begin; set local lock_timeout = '5s'; set local idle_in_transaction_session_timeout = '2s'";
    let began = Span::of_statement("begin").scope(connection.begin_with(begin));
    let mut transaction = began.await?;
    let (end, done) = work(&mut transaction).await?;
    Ok((end, transaction, done))
}

/// Works on a connection of the pool, for so long.
pub(crate) async fn within<T>(
    limit: Duration,
    pool: &PgPool,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Error>,
) -> Result<T, Error> {
    // Whatever goes wrong before there is a connection, nothing was sent.
    let mut connection = pool.acquire().await.map_err(Error::NotDone)?;
    match timeout(limit, work(&mut connection)).await {
        Ok(done) => done,
        Err(_) => {
            // The pool would wait for the answer that does not come.
            drop(connection.detach());
            Err(Error::OutcomeUnknown(sqlx::Error::PoolTimedOut))
        }
    }
}

async fn send(
    connection: &mut PgConnection,
    mut query: Query<'_, Postgres, PgArguments>,
) -> Result<Vec<PgRow>, sqlx::Error> {
    // sqlx tells the text of a query only to who takes it apart.
    let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?;
    let sql = query.sql();
    let span = Span::of_statement(sql.as_str());
    let query = sqlx::query_with(sql, arguments.unwrap_or_default());
    span.scope(query.fetch_all(connection)).await
}

/// Makes one call, and reads its rows as `T`.
pub async fn fetch<T>(
    via: impl Into<Via<'_>>,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Vec<T>, Error>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let rows = call(via, query).await?;
    Ok(rows.iter().map(T::from_row).collect::<Result<_, _>>()?)
}

/// A call that has no answer. The two cases differ in what a client may conclude.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection was to be had, or PostgreSQL refused and rolled back: nothing was done.
    #[error("PostgreSQL did not do it")]
    NotDone(#[source] sqlx::Error),
    /// The connection was lost after the call was sent, so that it may have been committed or not; or a part of what
    /// was asked for was committed.
    #[error("the answer of PostgreSQL was lost")]
    OutcomeUnknown(#[source] sqlx::Error),
}

impl Error {
    /// What lies behind it, in words for the log: as a field, an error shows its source in the text format only.
    pub fn cause(&self) -> String {
        let (Self::NotDone(cause) | Self::OutcomeUnknown(cause)) = self;
        cause.to_string()
    }

    /// Whether PostgreSQL has answered, and will not do it: it is there.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::NotDone(sqlx::Error::Database(_)))
    }

    /// Whether somebody else has a lock for longer than the call would wait.
    pub fn is_lock_timeout(&self) -> bool {
        self.is_code("55P03")
    }

    /// Whether somebody else has written the same key.
    pub(crate) fn is_unique_violation(&self) -> bool {
        self.is_code("23505")
    }

    /// Whether a table is not there.
    pub(crate) fn is_undefined_table(&self) -> bool {
        self.is_code("42P01")
    }

    fn is_code(&self, sqlstate: &str) -> bool {
        let Self::NotDone(sqlx::Error::Database(refusal)) = self else {
            return false;
        };
        refusal.code().as_deref() == Some(sqlstate)
    }

    /// The same of a call that is one of several, each a transaction of its own: whether others were done.
    pub fn after(self, others: bool) -> Self {
        match self {
            Self::NotDone(cause) if others => Self::OutcomeUnknown(cause),
            error => error,
        }
    }

    /// The same of a call within a transaction that was not committed.
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

/// An ERROR ends the transaction and keeps the connection: it was rolled back. A FATAL or PANIC ends
/// the connection, and can come between a commit and its answer.
fn rolled_back(refusal: &dyn DatabaseError) -> bool {
    refusal
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|error| error.severity() == PgSeverity::Error)
}
