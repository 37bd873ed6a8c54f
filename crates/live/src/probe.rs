//! Reads one snapshot from PostgreSQL.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use inventory::{Error, expire, outbox, product, server, waitlist};
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool, postgres::PgConnectOptions,
};
use tokio::time::timeout;

use crate::snapshot::{
    EVENTS, HOLDS, PROCESSES, PRODUCTS, PRODUCTS_MAX, SERVER, Snapshot, WAITLISTS,
};

/// Without an answer for this long, PostgreSQL is shown as down. A slow statement ends earlier, after 1 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(2);

/// Has a connection of its own. If no answer comes, the probe drops the connection. A pool would wait for the answer.
pub(crate) struct Probe {
    /// Only says how to connect. With several servers, this changes when another one can be written to.
    pool: PgPool,
    /// With the options that it was opened with.
    connection: Option<(PgConnection, Arc<PgConnectOptions>)>,
    /// When to count the waiting events again. Counting takes at most 2 % of the time, for any number of events.
    count_at: Instant,
    /// When to read the due holds again, also for at most 2 % of the time. This read visits every product with holds.
    due_at: Instant,
}

impl Probe {
    pub(crate) fn new(pool: &PgPool) -> Self {
        Self {
            pool: pool.clone(),
            connection: None,
            count_at: Instant::now(),
            due_at: Instant::now(),
        }
    }

    /// `None`: PostgreSQL does not answer.
    pub(crate) async fn snapshot(&mut self) -> Option<Snapshot> {
        let options = self.pool.connect_options();
        let kept = self.connection.take();
        // A connection with other options leads to a server that the service has left.
        let kept = kept.filter(|(_, opened_with)| Arc::ptr_eq(opened_with, &options));
        let mut connection = match kept {
            Some((connection, _)) => connection,
            None => timeout(SILENCE_LIMIT, options.connect()).await.ok()?.ok()?,
        };
        let found = self.find(&mut connection).await?;
        // A connection to a read-only server is closed. The next one may lead to another server.
        if found.server.as_ref().is_none_or(|server| server.writable) {
            self.connection = Some((connection, options));
        }
        Some(found)
    }

    async fn find(&mut self, connection: &mut PgConnection) -> Option<Snapshot> {
        let mut found = Snapshot::default();
        let mut reader = Reader {
            connection,
            unreadable: Vec::new(),
        };
        found.server = reader
            .read(SERVER, |executor| server::state(executor).boxed())
            .await?;
        found.processes = reader
            .read(PROCESSES, |executor| presence::instances(executor).boxed())
            .await?;
        found.products = reader
            .read(PRODUCTS, |executor| {
                product::newest(executor, PRODUCTS_MAX as i64 + 1).boxed()
            })
            .await?;
        found.offered = reader
            .read(WAITLISTS, |executor| {
                waitlist::offers(executor, PRODUCTS_MAX as i64).boxed()
            })
            .await?;
        let began = Instant::now();
        if began >= self.due_at {
            let due = reader
                .read(HOLDS, |executor| expire::due(executor).boxed())
                .await?;
            found.lag_seconds = due.map(|due| due.lag_seconds);
            self.due_at = Instant::now() + began.elapsed() * 50;
        }
        let began = Instant::now();
        if began >= self.count_at {
            found.outbox = reader
                .read(EVENTS, |executor| outbox::status(executor).boxed())
                .await?;
            if found.outbox.is_some() {
                self.count_at = Instant::now() + began.elapsed() * 50;
            }
        }
        found.unreadable = reader.unreadable;
        Some(found)
    }
}

struct Reader<'a> {
    connection: &'a mut PgConnection,
    unreadable: Vec<&'static str>,
}

impl Reader<'_> {
    /// Runs one read. The inner `None`: PostgreSQL refuses the read, or the read takes more than 1 s. The outer
    /// `None`: PostgreSQL does not answer.
    async fn read<T, R>(&mut self, what: &'static str, read: R) -> Option<Option<T>>
    where
        R: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Error>>,
    {
        let reading = async {
            // `set local`, because PgBouncer's transaction mode allows no setting beyond the transaction.
            let begin = "begin; set local statement_timeout = '1s'";
            let mut transaction = self.connection.begin_with(begin).await?;
            let read = read(&mut transaction).await;
            transaction.rollback().await?;
            read
        };
        match timeout(SILENCE_LIMIT, reading).await.ok()? {
            Ok(read) => Some(Some(read)),
            Err(error) if error.is_refusal() => {
                tracing::debug!(what, cause = error.cause(), "the live page cannot read");
                self.unreadable.push(what);
                Some(None)
            }
            Err(_) => None,
        }
    }
}
