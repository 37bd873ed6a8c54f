//! How pools open their connections, and when they use one again.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{PgConnection, PgPool, postgres::PgPoolOptions};

use super::servers::{self, Servers, locked};
use crate::{
    id_epoch,
    session::{Rehearsal, SESSION, SET_UP, session},
};

/// Time limit of a health check: callers such as Kubernetes probes wait for 2 s.
pub(crate) const CHECK_LIMIT: Duration = Duration::from_millis(1_500);

/// A connection that was idle for longer is tested before use. If PostgreSQL goes away within this time, the next
/// call fails with an unknown outcome.
const TRUSTED_IDLE: Duration = Duration::from_millis(10);

/// A connection is replaced after this time, so that connections find their way to another server when a load
/// balancer or a DNS name moves, even if nothing fails.
const MAX_LIFETIME: Duration = Duration::from_secs(300);

/// Why a session cannot be used for writes.
pub(crate) const READ_ONLY: &str =
    "PostgreSQL is read-only: it is a standby, or default_transaction_read_only is on";

/// The servers of this process, if there are several.
static SERVERS: Mutex<Option<Arc<Servers>>> = Mutex::new(None);

/// Leads this pool, and all that are opened beside it, to the server that can be written to.
pub(super) fn follow(servers: Arc<Servers>, pool: &PgPool) {
    servers.add(pool);
    locked(&SERVERS).replace(Arc::clone(&servers));
    tokio::spawn(servers.follow());
}

/// What decides whether a connection can be used again.
#[derive(Clone)]
pub(super) struct Checks {
    servers: Option<Arc<Servers>>,
    newest: Arc<Newest>,
}

/// The newest connection of a pool.
struct Newest {
    /// The timeline on which it has advanced the ids. 0: none yet.
    timeline: AtomicI32,
    /// When its pool was about to set it up.
    opened_at: Mutex<Instant>,
}

impl Checks {
    pub(super) async fn pass(
        &self,
        connection: &mut PgConnection,
        age: Duration,
        idle_for: Duration,
    ) -> Result<bool, sqlx::Error> {
        let servers = self.servers.as_ref();
        if age > MAX_LIFETIME || servers.is_some_and(|servers| servers.is_outdated(age)) {
            return Ok(false);
        }
        if idle_for <= TRUSTED_IDLE {
            return Ok(true);
        }
        let known = self.newest.timeline.load(Ordering::Relaxed);
        let session = session(connection, SESSION).await?;
        Ok(session.writable && session.timeline == known)
    }

    /// The age of the newest connection. In a pool of one, of the only one.
    pub(super) fn age(&self) -> Duration {
        locked(&self.newest.opened_at).elapsed()
    }
}

/// `wait` is the time limit of a call for a connection.
pub(super) fn options(
    wait: Duration,
    servers: Option<Arc<Servers>>,
    rehearsal: Rehearsal,
) -> (PgPoolOptions, Checks) {
    let newest = Arc::new(Newest {
        timeline: AtomicI32::new(0),
        opened_at: Mutex::new(Instant::now()),
    });
    let checks = Checks {
        servers,
        newest: Arc::clone(&newest),
    };
    let before_use = checks.clone();
    let options = PgPoolOptions::new()
        .acquire_timeout(wait)
        // The pool's own test would cost every call a round trip.
        .test_before_acquire(false)
        .max_lifetime(MAX_LIFETIME)
        .before_acquire(move |connection, usage| {
            let checks = before_use.clone();
            // The pool closes a connection that does not pass, and opens a new one.
            Box::pin(async move { checks.pass(connection, usage.age, usage.idle_for).await })
        })
        .after_connect(move |connection, _| {
            let newest = Arc::clone(&newest);
            Box::pin(async move {
                *locked(&newest.opened_at) = Instant::now();
                let session = session(connection, SET_UP).await?;
                // The pool tries again until the time limit of the call, and then only says that it ended.
                if !session.writable {
                    servers::saw_read_only();
                    return Err(sqlx::Error::Configuration(READ_ONLY.into()));
                }
                if session.advances_ids {
                    id_epoch::advance(connection).await?;
                }
                newest.timeline.store(session.timeline, Ordering::Relaxed);
                rehearsal.hold(connection).await;
                Ok(())
            })
        });
    (options, checks)
}

/// Options for a further pool with the settings of this one.
pub(super) fn options_beside(pool: &PgPool, rehearsal: Rehearsal) -> (PgPoolOptions, Checks) {
    let wait = pool.options().get_acquire_timeout();
    options(wait, locked(&SERVERS).clone(), rehearsal)
}

pub(super) fn open_beside(pool: &PgPool, options: PgPoolOptions) -> PgPool {
    let beside = options.connect_lazy_with(pool.connect_options().as_ref().clone());
    if let Some(servers) = &*locked(&SERVERS) {
        servers.add(&beside);
    }
    beside
}
