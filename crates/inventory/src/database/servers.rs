//! Several PostgreSQL servers, of which one can be written to: the pools are led to it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use sqlx::{Connection as _, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::time::{sleep, timeout};

use super::{READ_ONLY_SEEN, WRITABLE, is_writable};

/// Time limit for a server to accept a session and say whether it can be written to.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// How often the server in use is asked whether it can still be written to, and pause while there is none.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// All servers, and the pools that use one of them. A process has one database.
pub(super) struct Servers {
    all: Vec<PgConnectOptions>,
    pools: Mutex<Vec<PgPool>>,
    /// When the pools were led to another server.
    moved: Mutex<Option<Instant>>,
}

impl Servers {
    pub(super) fn new(all: Vec<PgConnectOptions>) -> Arc<Self> {
        Arc::new(Self {
            all,
            pools: Mutex::default(),
            moved: Mutex::default(),
        })
    }

    /// Leads a further pool, too.
    pub(super) fn add(&self, pool: &PgPool) {
        locked(&self.pools).push(pool.clone());
    }

    /// Whether a connection of this age may lead to a server that is no longer in use. Such a server may be gone
    /// without a word, so that a test of the connection would wait for ever.
    pub(super) fn is_outdated(&self, age: Duration) -> bool {
        locked(&self.moved).is_some_and(|moved| age >= moved.elapsed())
    }

    /// Leads the pools to the server that can be written to, for ever. One session watches this server.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut current = 0;
        loop {
            let Some((found, mut session)) = find(&self.all).await else {
                sleep(LOOK_EVERY).await;
                continue;
            };
            if found != current {
                self.lead_to(found);
                current = found;
            }
            loop {
                sleep(LOOK_EVERY).await;
                let looked = timeout(ANSWER_LIMIT, is_writable(&mut session, WRITABLE)).await;
                if !matches!(looked, Ok(Ok(true))) {
                    break;
                }
            }
        }
    }

    fn lead_to(&self, found: usize) {
        let server = &self.all[found];
        let pools = locked(&self.pools).clone();
        for pool in pools {
            let name = pool.connect_options();
            let name = name.get_application_name().unwrap_or_default();
            pool.set_connect_options(server.clone().application_name(name));
        }
        // Later, so that no connection to the old server counts as one to the new server.
        *locked(&self.moved) = Some(Instant::now());
        tracing::info!(
            host = server.get_host(),
            port = server.get_port(),
            "PostgreSQL: this server can be written to, and is used"
        );
    }
}

/// The first server that says that it can be written to, and a session with it. All are asked at once: one that does
/// not answer must not delay the others.
pub(super) async fn find(servers: &[PgConnectOptions]) -> Option<(usize, PgConnection)> {
    let attempts = servers
        .iter()
        .enumerate()
        .map(|(index, server)| async move {
            let asking = async {
                let mut session = PgConnection::connect_with(server).await?;
                if is_writable(&mut session, WRITABLE).await? {
                    return Ok(Some((index, session)));
                }
                *locked(&READ_ONLY_SEEN) = Some(Instant::now());
                Ok::<_, sqlx::Error>(None)
            };
            timeout(ANSWER_LIMIT, asking).await.ok()?.ok()?
        });
    let mut attempts: FuturesUnordered<_> = attempts.collect();
    while let Some(attempt) = attempts.next().await {
        if attempt.is_some() {
            return attempt;
        }
    }
    None
}

#[expect(
    clippy::disallowed_methods,
    reason = "this crate does not depend on runtime"
)]
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
