//! The connection pools, and calls on their connections.

mod connections;
mod pools;
mod servers;
mod url;

use std::{io, time::Duration};

use anyhow::Context as _;
use sqlx::{
    Connection as _, Execute as _, FromRow, PgConnection, PgPool, Postgres, Transaction,
    error::DatabaseError,
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::Query,
};
use tokio::time::timeout;
use trace::Span;

use crate::{
    error::{Error, clearer},
    session::{SET_UP, session},
};
use servers::Servers;

pub use crate::session::Rehearsal;
pub use connections::{Connections, OwnSession};
pub(crate) use pools::{CHECK_LIMIT, READ_ONLY};
pub(crate) use servers::was_read_only;

/// Time limit of one call. PostgreSQL answers within milliseconds, and a lock wait ends by itself after 5 s (see
/// `sql/reserve.sql`). No answer for longer means that the network drops packets.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Time limit of [`connect_beside`].
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_millis(500);

/// Settings of every process that uses PostgreSQL.
#[derive(clap::Args, Clone)]
// Several flattened groups are called `Args`, and clap refuses groups of the same name.
#[group(skip)]
pub struct Args {
    /// URL of PostgreSQL. PgBouncer (1.21 or later) works in transaction mode. With several servers
    /// (`postgres://user:password@a:5432,b:5432/database`), the one that can be written to is used, and one connection
    /// more.
    #[arg(
        long,
        env = "DATABASE_URL",
        // Also after the name of a command: `flashsale-api migrate --database-url …`.
        global = true,
        hide_env_values = true,
        default_value = "postgres://flashsale:flashsale@127.0.0.1:5432/flashsale"
    )]
    pub database_url: String,

    /// Maximum number of PostgreSQL connections for the work of this process. An API opens two more for each of its
    /// RESERVE_LANES, and three for health checks, heartbeats and the live page. An expirer needs three.
    #[arg(long, env = "DATABASE_MAX_CONNECTIONS", default_value_t = 12)]
    pub database_max_connections: u32,

    /// Milliseconds that a call waits for a free connection before it fails as overload.
    #[arg(long, env = "DATABASE_ACQUIRE_MILLISECONDS", default_value_t = 1000)]
    pub database_acquire_milliseconds: u64,
}

/// The connections of a pool for metrics: the largest number, and a function that counts them by what they do.
pub fn connections(
    pool: &PgPool,
) -> (
    u32,
    impl Fn() -> [(&'static str, u32); 2] + Send + Sync + use<>,
) {
    let pool = pool.clone();
    let max = pool.options().get_max_connections();
    let count = move || {
        let open = pool.size();
        let idle = u32::try_from(pool.num_idle()).map_or(open, |idle| idle.min(open));
        [("busy", open - idle), ("idle", idle)]
    };
    (max, count)
}

/// A pool that connects on first use, so that a process can start while PostgreSQL is down. Fails if the URL is
/// invalid. With several servers, a task leads the pool to the one that can be written to.
pub fn connect(args: &Args, application_name: &str) -> anyhow::Result<PgPool> {
    let all = url::parse(&args.database_url)?.into_iter();
    let all: Vec<_> = all
        .map(|server| server.application_name(application_name))
        .collect();
    let first = all[0].clone();
    let servers = (all.len() > 1).then(|| Servers::new(all));
    let wait = Duration::from_millis(args.database_acquire_milliseconds);
    let (options, _) = pools::options(wait, servers.clone(), Rehearsal::None);
    let pool = options
        .max_connections(args.database_max_connections)
        .connect_lazy_with(first);
    if let Some(servers) = servers {
        pools::follow(servers, &pool);
    }
    Ok(pool)
}

/// Opens a connection that is not part of the pool, because a pool without connections only tells that its time limit
/// ended. The session may be read-only. The error is a text for the log, with the address of the server.
pub(crate) async fn connect_beside(pool: &PgPool) -> Result<PgConnection, String> {
    let options = pool.connect_options();
    let connecting = async {
        let mut connection = PgConnection::connect_with(&options).await?;
        session(&mut connection, SET_UP).await?;
        Ok(connection)
    };
    connect_within(CONNECT_LIMIT, &options, connecting).await
}

/// Opens the only connection of a program that has no pool, to the server of the URL that can be written to. The error
/// names the address of the server.
pub async fn connect_once(args: &Args) -> anyhow::Result<PgConnection> {
    let servers = url::parse(&args.database_url)?;
    match servers.as_slice() {
        [server] => connect_within(CALL_LIMIT, server, PgConnection::connect_with(server))
            .await
            .map_err(|cause| anyhow::anyhow!("cannot connect to PostgreSQL at {cause}")),
        several => {
            let found = timeout(FIND_LIMIT, servers::find(several)).await;
            let (_, connection) = found.context(
                "cannot connect to PostgreSQL: no server of DATABASE_URL can be written to",
            )?;
            Ok(connection)
        }
    }
}

/// Time limit of [`connect_once`] with several servers.
const FIND_LIMIT: Duration = Duration::from_secs(15);

async fn connect_within(
    limit: Duration,
    options: &PgConnectOptions,
    connecting: impl Future<Output = Result<PgConnection, sqlx::Error>>,
) -> Result<PgConnection, String> {
    let cause = match timeout(limit, connecting).await {
        Ok(Ok(connection)) => return Ok(connection),
        Ok(Err(error)) => clearer(error).to_string(),
        Err(_) => format!("no answer within {limit:?}"),
    };
    let address = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    Err(format!("{address}: {cause}"))
}

/// A second pool with the same settings and its own `connections`. Its calls do not wait when all connections of the
/// first pool are in use.
pub fn beside(pool: &PgPool, connections: u32) -> PgPool {
    let (options, _) = pools::options_beside(pool, Rehearsal::None);
    pools::open_beside(pool, options.max_connections(connections))
}

/// Where a verb makes its call.
pub enum Executor<'a> {
    /// The call is a transaction of its own.
    Alone(Connections<'a>),
    /// An open transaction: the call becomes a part of it. The owner of the transaction limits its time.
    Transaction(&'a mut PgConnection),
}

impl Executor<'_> {
    /// Reborrows it for one call, so that another call can follow.
    pub fn reborrow(&mut self) -> Executor<'_> {
        match self {
            Self::Alone(connections) => Executor::Alone(*connections),
            Self::Transaction(connection) => Executor::Transaction(connection),
        }
    }
}

impl<'a> From<&'a mut PgConnection> for Executor<'a> {
    fn from(connection: &'a mut PgConnection) -> Self {
        Self::Transaction(connection)
    }
}

impl<'a> From<Connections<'a>> for Executor<'a> {
    fn from(connections: Connections<'a>) -> Self {
        Self::Alone(connections)
    }
}

impl<'a> From<&'a PgPool> for Executor<'a> {
    fn from(pool: &'a PgPool) -> Self {
        Self::Alone(pool.into())
    }
}

impl<'a> From<&'a OwnSession> for Executor<'a> {
    fn from(session: &'a OwnSession) -> Self {
        Self::Alone(session.into())
    }
}

/// Makes one call. In a transaction of its own, it reads up to the end of the transaction: an answer proves the
/// commit. (Fetching one row may return before the commit.)
pub async fn execute(
    executor: impl Into<Executor<'_>>,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Vec<PgRow>, Error> {
    match executor.into() {
        Executor::Alone(connections) => {
            let sent = async |connection: &mut PgConnection| Ok(send(connection, query).await?);
            with_timeout(CALL_LIMIT, connections, sent).await
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
    let read = async |connection: &mut PgConnection| {
        let mut transaction = connection.begin_with(begin).await?;
        let rows = fetch(&mut *transaction, query).await;
        transaction.rollback().await?;
        rows
    };
    let rows = with_timeout(CALL_LIMIT, pool, read).await;
    rows.map_err(Error::before_commit)
}

/// PostgreSQL did not answer in time.
fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(io::ErrorKind::TimedOut.into())
}

/// How a transaction ends.
pub(crate) enum End {
    Commit,
    Rollback,
}

/// Starts each transaction. Several statements in one simple query cost one round trip.
const BEGIN: &str =
    "begin; set local lock_timeout = '5s'; set local idle_in_transaction_session_timeout = '2s'";

/// Runs several calls in one transaction. PostgreSQL ends the transaction when it is idle for 2 s, so that a frozen
/// process does not keep its locks.
///
/// [`Error::NotDone`]: nothing was done. [`Error::OutcomeUnknown`]: the answer to the commit was lost.
pub(crate) async fn transact<T>(
    connections: impl Into<Connections<'_>>,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<(End, T), Error>,
) -> Result<T, Error> {
    let connections = connections.into();
    let mut connection = connections.take().await.map_err(Error::NotDone)?;
    match run(&mut connection, work).await {
        Ok(done) => connections.give_back(connection, done),
        Err(Unusable(done)) => {
            drop(connection.detach());
            done
        }
    }
}

/// Nothing is known of the connection's state, and it may have an outstanding answer.
struct Unusable<T>(Result<T, Error>);

async fn run<T>(
    connection: &mut PgConnection,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<(End, T), Error>,
) -> Result<Result<T, Error>, Unusable<T>> {
    let timely = timeout(CALL_LIMIT, prepare(connection, work)).await;
    let timely = timely.map_err(|_| Unusable(Err(Error::NotDone(timed_out()))))?;
    let (end, transaction, done) = match timely? {
        Ok(prepared) => prepared,
        Err(error) => return Ok(Err(error)),
    };
    if let End::Rollback = end {
        // Without a commit nothing is done, whatever becomes of the rollback.
        return match timeout(CALL_LIMIT, transaction.rollback()).await {
            Ok(Ok(())) => Ok(Ok(done)),
            _ => Err(Unusable(Ok(done))),
        };
    }
    let commit = Span::of_statement("commit").scope(transaction.commit());
    let committed = timeout(CALL_LIMIT, commit).await;
    let committed = committed.map_err(|_| Unusable(Err(Error::OutcomeUnknown(timed_out()))))?;
    Ok(committed.map(|()| done).map_err(Error::from))
}

/// A transaction, how it is to end, and what it is to return.
type Prepared<'c, T> = (End, Transaction<'c, Postgres>, T);

/// Everything before the commit or rollback.
async fn prepare<T>(
    connection: &mut PgConnection,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<(End, T), Error>,
) -> Result<Result<Prepared<'_, T>, Error>, Unusable<T>> {
    let begun = {
        let span = Span::of_statement("begin");
        noted(&span, span.scope(connection.begin_with(BEGIN)).await)
    };
    // The transaction may be open all the same: PostgreSQL begins it before it sets the limits.
    let mut transaction =
        begun.map_err(|error| Unusable(Err(Error::from(error).before_commit())))?;
    let worked = work(&mut transaction).await;
    let prepared = worked.map(|(end, done)| (end, transaction, done));
    Ok(prepared.map_err(Error::before_commit))
}

/// Runs `work` on a connection, with a time limit.
pub async fn with_timeout<T>(
    limit: Duration,
    connections: impl Into<Connections<'_>>,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Error>,
) -> Result<T, Error> {
    let connections = connections.into();
    // An error before there is a connection means that nothing was sent.
    let connection = connections.take().await.map_err(Error::NotDone)?;
    on_connection(limit, connections, connection, work).await
}

/// Runs `work` on this one of the `connections`, with a time limit.
pub(crate) async fn on_connection<T>(
    limit: Duration,
    connections: Connections<'_>,
    mut connection: PoolConnection<Postgres>,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Error>,
) -> Result<T, Error> {
    match timeout(limit, work(&mut connection)).await {
        Ok(done) => connections.give_back(connection, done),
        Err(_) => {
            drop(connection.detach());
            Err(Error::OutcomeUnknown(timed_out()))
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
    noted(&span, span.scope(query.fetch_all(connection)).await)
}

/// Notes in the span of a statement that it failed.
fn noted<T>(span: &Span, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
    if let Err(error) = &done {
        let refusal = error.as_database_error();
        span.statement_failed(refusal.and_then(DatabaseError::code).as_deref());
    }
    done
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

/// A function of this version answered with an outcome that this program does not know.
pub(crate) fn no_such_outcome(outcome: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("no such outcome: {outcome}").into())
}
