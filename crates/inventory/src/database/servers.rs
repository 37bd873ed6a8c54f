//! Several PostgreSQL servers, of which one can be written to: the pools are led to it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::select_all;
use sqlx::{Connection as _, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::time::{sleep, timeout};

use crate::session::{SESSION, session};

/// Time limit for a server to accept a session and say whether it can be written to. It delays no other server.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Time limit for the server in use to say whether it can still be written to.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// How often the server in use is asked this, and the pause before a server is asked again that could not be used.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// All servers, and the pools that use one of them. A process has one database.
pub(super) struct Servers {
    all: Vec<PgConnectOptions>,
    led: Mutex<Led>,
    /// When the pools were led to another server.
    moved: Mutex<Option<Instant>>,
}

/// One lock for both: a pool that is added at the moment of a change must not be left behind.
#[derive(Default)]
struct Led {
    pools: Vec<PgPool>,
    /// The index of the server that the pools use.
    server: usize,
}

impl Servers {
    pub(super) fn new(all: Vec<PgConnectOptions>) -> Arc<Self> {
        Arc::new(Self {
            all,
            led: Mutex::default(),
            moved: Mutex::default(),
        })
    }

    /// Leads a further pool, too. It may have the options of a server that is no longer in use.
    pub(super) fn add(&self, pool: &PgPool) {
        let mut led = locked(&self.led);
        lead(pool, &self.all[led.server]);
        led.pools.push(pool.clone());
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
            let (found, mut connection) = find(&self.all).await;
            if found != current {
                self.lead_to(found);
                current = found;
            }
            loop {
                sleep(LOOK_EVERY).await;
                let looked = timeout(ANSWER_LIMIT, session(&mut connection, SESSION)).await;
                if !matches!(looked, Ok(Ok(ref session)) if session.writable) {
                    break;
                }
            }
        }
    }

    fn lead_to(&self, found: usize) {
        let server = &self.all[found];
        let mut led = locked(&self.led);
        led.server = found;
        led.pools.iter().for_each(|pool| lead(pool, server));
        drop(led);
        // Later, so that no connection to the old server counts as one to the new server.
        *locked(&self.moved) = Some(Instant::now());
        tracing::info!(
            host = server.get_host(),
            port = server.get_port(),
            "PostgreSQL: this server can be written to, and is used"
        );
    }
}

fn lead(pool: &PgPool, server: &PgConnectOptions) {
    let name = pool.connect_options();
    let name = name.get_application_name().unwrap_or_default();
    pool.set_connect_options(server.clone().application_name(name));
}

/// The first server that says that it can be written to, and a session with it. All are asked again and again until
/// then, each by itself: one that does not answer must not delay the others.
pub(super) async fn find(servers: &[PgConnectOptions]) -> (usize, PgConnection) {
    let asked = servers.iter().map(|server| {
        Box::pin(async move {
            loop {
                if let Ok(Ok(Some(session))) = timeout(CONNECT_LIMIT, ask(server)).await {
                    return session;
                }
                sleep(LOOK_EVERY).await;
            }
        })
    });
    let (session, found, _) = select_all(asked).await;
    (found, session)
}

/// A session with this server, if it can be written to.
async fn ask(server: &PgConnectOptions) -> Result<Option<PgConnection>, sqlx::Error> {
    let mut connection = PgConnection::connect_with(server).await?;
    if session(&mut connection, SESSION).await?.writable {
        return Ok(Some(connection));
    }
    saw_read_only();
    Ok(None)
}

/// When this process last opened a session that cannot write. A process has one database. On a busy machine a health
/// check has no time to open a session of its own.
static READ_ONLY_SEEN: Mutex<Option<Instant>> = Mutex::new(None);

/// Remembers that a session cannot write.
pub(super) fn saw_read_only() {
    *locked(&READ_ONLY_SEEN) = Some(Instant::now());
}

/// Whether PostgreSQL was read-only a moment ago. The pool opens sessions all the time while it has none.
pub(crate) fn was_read_only() -> bool {
    locked(&READ_ONLY_SEEN).is_some_and(|seen| seen.elapsed() < Duration::from_secs(1))
}

#[expect(
    clippy::disallowed_methods,
    reason = "this crate does not depend on runtime"
)]
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgPoolOptions;

    use super::*;

    #[tokio::test]
    async fn pools_lead_to_the_server_in_use_whenever_they_were_added() {
        let all = ["a", "b"].map(|host| PgConnectOptions::new().host(host).application_name("x"));
        let servers = Servers::new(all.to_vec());
        let pool = || PgPoolOptions::new().connect_lazy_with(all[0].clone());
        // The third one read its options before the change, and is added after it.
        let pools = [pool(), pool(), pool()];
        let host = |pool: &PgPool| pool.connect_options().get_host().to_owned();
        servers.add(&pools[0]);
        servers.add(&pools[1]);
        assert_eq!(pools.each_ref().map(host), ["a", "a", "a"]);
        servers.lead_to(1);
        servers.add(&pools[2]);
        assert_eq!(pools.each_ref().map(host), ["b", "b", "b"]);
        let name = pools[2].connect_options();
        assert_eq!(name.get_application_name(), Some("x"));
    }
}
