//! Where calls get their connections: from a pool, or from a session of their own.

use std::{
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio::time::{sleep, timeout};

use super::{
    pools::{CHECK_LIMIT, Checks, open_beside, options_beside},
    servers::locked,
};
use crate::{
    error::{Error, clearer},
    session::Rehearsal,
};

/// How often [`OwnSession::keep_open`] opens a connection, if there is none.
const OPEN_EVERY: Duration = Duration::from_secs(1);

/// How often an [`OwnSession`] gives its connection back, if it was idle for as long.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(1);

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
        let taken = match self {
            Self::Pool(pool) => pool.acquire().await,
            Self::Own(session) => session.take().await,
        };
        taken.map_err(clearer)
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
/// round trip, for which the next call waits. A second or two without calls, and it goes back to the pool, which replaces it when
/// it is old.
///
/// Only one call at a time.
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
    idle_since: Instant,
}

impl OwnSession {
    /// With the settings of this pool.
    pub fn beside(pool: &PgPool, rehearsal: Rehearsal) -> Self {
        let (options, checks) = options_beside(pool, rehearsal);
        let between_calls = Arc::new(Mutex::new(BetweenCalls {
            connection: None,
            idle_since: Instant::now(),
        }));
        tokio::spawn(give_back_when_idle(Arc::downgrade(&between_calls)));
        Self {
            pool: open_beside(pool, options.max_connections(1)),
            checks,
            between_calls,
        }
    }

    /// Opens the session, and again when it is gone, for ever: the first call must not wait for a new process of PostgreSQL,
    /// nor for its plans.
    pub async fn keep_open(&self) {
        // Not `min_connections`: while sqlx opens one for it, calls wait for minutes if PostgreSQL was away.
        loop {
            // The error is ignored: PostgreSQL may be away.
            if self.pool.size() == 0
                && let Ok(connection) = self.pool.acquire().await
            {
                return_to_pool(connection);
            }
            sleep(OPEN_EVERY).await;
        }
    }

    async fn take(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        match self.take_kept().await {
            Some(connection) => Ok(connection),
            None => self.pool.acquire().await,
        }
    }

    /// The connection of the call before, if it can be used.
    async fn take_kept(&self) -> Option<PoolConnection<Postgres>> {
        let (mut connection, idle_for) = {
            let mut kept = locked(&self.between_calls);
            (kept.connection.take()?, kept.idle_since.elapsed())
        };
        let age = self.checks.age();
        let limit = self.pool.options().get_acquire_timeout().min(CHECK_LIMIT);
        match timeout(limit, self.checks.pass(&mut connection, age, idle_for)).await {
            Ok(Ok(true)) => Some(connection),
            _ => {
                drop(connection.detach());
                None
            }
        }
    }

    fn keep(&self, connection: PoolConnection<Postgres>) {
        let mut kept = locked(&self.between_calls);
        kept.connection = Some(connection);
        kept.idle_since = Instant::now();
    }
}

/// Until the session is dropped.
async fn give_back_when_idle(between_calls: Weak<Mutex<BetweenCalls>>) {
    loop {
        sleep(GIVE_BACK_EVERY).await;
        let Some(between_calls) = between_calls.upgrade() else {
            return;
        };
        let mut kept = locked(&between_calls);
        if kept.idle_since.elapsed() >= GIVE_BACK_EVERY
            && let Some(connection) = kept.connection.take()
        {
            return_to_pool(connection);
        }
    }
}
