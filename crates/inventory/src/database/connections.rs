//! Where calls get their connections: from a pool, or from a session of their own.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio::time::{sleep, timeout};

use super::{
    CHECK_LIMIT, Checks, MAX_LIFETIME, Rehearsal, open_beside, options_beside, servers::locked,
};
use crate::error::Error;

/// How often [`OwnSession::keep_open`] opens a connection, if there is none.
const OPEN_EVERY: Duration = Duration::from_secs(1);

/// Where calls get their connections.
#[derive(Clone, Copy)]
pub enum Connections<'a> {
    /// From a pool.
    Pool(&'a PgPool),
    /// All have the same one.
    Own(&'a OwnSession),
}

impl<'a> From<&'a PgPool> for Connections<'a> {
    fn from(pool: &'a PgPool) -> Self {
        Self::Pool(pool)
    }
}

impl<'a> From<&'a OwnSession> for Connections<'a> {
    fn from(session: &'a OwnSession) -> Self {
        Self::Own(session)
    }
}

impl Connections<'_> {
    /// A connection for one call.
    pub(super) async fn take(self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        match self {
            Self::Pool(pool) => pool.acquire().await,
            Self::Own(session) => session.take().await,
        }
    }

    /// Gives the connection back after a call with this result. A connection with an outstanding answer would block what
    /// follows, and must be dropped instead.
    pub(super) fn give_back<T>(
        self,
        connection: PoolConnection<Postgres>,
        done: Result<T, Error>,
    ) -> Result<T, Error> {
        match (self, &done) {
            // The server was demoted, or the connection leads to the wrong one. A new connection may lead to the right one.
            (_, Err(error)) if error.is_read_only() => drop(connection.detach()),
            (Self::Own(session), Ok(_)) => session.keep(connection),
            _ => return_to_pool(connection),
        }
        done
    }
}

/// The pool tests the connection with a round trip.
fn return_to_pool(mut connection: PoolConnection<Postgres>) {
    // If the connection were only dropped, its pool would wait for this test until the system gives the connection up,
    // for a quarter of an hour. A pool of one connection has no other.
    tokio::spawn(timeout(CHECK_LIMIT, connection.return_to_pool()));
}

/// One session for calls that follow each other, opened on first use. It keeps its plans, finds its data in the processor's
/// cache, and has rehearsed. Between two calls it stays out of its pool, whose test of the connection would cost each call a
/// round trip, for which the next call waits.
#[derive(Clone)]
pub struct OwnSession {
    /// Opens the connection.
    pool: PgPool,
    checks: Checks,
    between_calls: Arc<Mutex<BetweenCalls>>,
}

struct BetweenCalls {
    /// `None` during a call, and when there is no connection.
    connection: Option<PoolConnection<Postgres>>,
    /// When the pool opened the connection or checked it.
    since: Instant,
    idle_since: Instant,
}

impl OwnSession {
    /// With the settings of this pool.
    pub fn beside(pool: &PgPool, rehearsal: Rehearsal) -> Self {
        let (options, checks) = options_beside(pool, rehearsal);
        let between_calls = BetweenCalls {
            connection: None,
            since: Instant::now(),
            idle_since: Instant::now(),
        };
        Self {
            pool: open_beside(pool, options.max_connections(1)),
            checks,
            between_calls: Arc::new(Mutex::new(between_calls)),
        }
    }

    /// Opens the session, and again when it is gone, for ever: the first call must not wait for a new process of PostgreSQL,
    /// nor for its plans.
    pub async fn keep_open(&self) {
        // Not `min_connections`: while sqlx opens one for it, calls wait for minutes if PostgreSQL was away.
        loop {
            if self.pool.size() == 0 {
                // The error is ignored: PostgreSQL may be away.
                let _ = self.pool.acquire().await;
            }
            sleep(OPEN_EVERY).await;
        }
    }

    async fn take(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        if let Some(connection) = self.take_kept().await {
            return Ok(connection);
        }
        let connection = self.pool.acquire().await?;
        locked(&self.between_calls).since = Instant::now();
        Ok(connection)
    }

    /// The connection of the call before, if it can be used.
    async fn take_kept(&self) -> Option<PoolConnection<Postgres>> {
        let (mut connection, age, idle_for) = {
            let mut kept = locked(&self.between_calls);
            let connection = kept.connection.take()?;
            (connection, kept.since.elapsed(), kept.idle_since.elapsed())
        };
        if age > MAX_LIFETIME {
            connection.close_on_drop();
            return None;
        }
        let limit = self.pool.options().get_acquire_timeout();
        let checked = timeout(limit, self.checks.pass(&mut connection, age, idle_for));
        if let Ok(Ok(true)) = checked.await {
            return Some(connection);
        }
        drop(connection.detach());
        None
    }

    fn keep(&self, connection: PoolConnection<Postgres>) {
        let mut kept = locked(&self.between_calls);
        kept.connection = Some(connection);
        kept.idle_since = Instant::now();
    }
}
