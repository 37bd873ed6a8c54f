//! Timers and counters in Redis. They only reduce latency. Correctness never depends on them.
//!
//! Every hold has a key in Redis that expires at the hold's deadline. Redis announces the expiry, and the expirer
//! sweeps at once instead of at its next regular sweep. Notes to Redis return at once and cannot fail. Without Redis,
//! holds expire by the regular sweeps.

#![warn(missing_docs)]

mod link;
mod listener;
mod queue;
mod servers;
mod shared;
mod writer;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use runtime::{Process, lock};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use listener::Wakeups;
use queue::{Keys, Queue};
use servers::Servers;
use shared::Shared;

pub use queue::Counter;

/// Time limit for a read from Redis.
const ASK_LIMIT: Duration = Duration::from_millis(500);

/// Settings of the connection to Redis.
#[derive(clap::Args, Clone)]
// Every crate calls its settings `Args`. Without `skip`, two flattened groups would have the same name.
#[group(skip)]
pub struct Args {
    /// Redis: `redis://[user:password@]host:port/database`, or `rediss://` for TLS. Several URLs are separated by commas:
    /// the primary among them is used. `redis+sentinel://host:port,host:port/name/database` asks sentinels.
    #[arg(
        long,
        env = "REDIS_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379/0"
    )]
    pub redis_url: String,

    /// Prefix of every key, so that several installations can share one Redis database.
    #[arg(long, env = "REDIS_KEY_PREFIX", default_value = "")]
    pub redis_key_prefix: String,
}

/// Arms and disarms timers, counts, and listens for expiries. Clones are cheap and share one connection.
#[derive(Clone)]
pub struct Timer {
    shared: Arc<Shared>,
    closing: CancellationToken,
    /// When the last clone is dropped, the writer sends the rest of the queue and ends.
    _open: Arc<DropGuard>,
}

impl Timer {
    /// Starts the writer. It does not wait for a connection to Redis.
    ///
    /// # Errors
    ///
    /// The URL is malformed, or the registry already has these metrics.
    pub fn start(args: &Args, process: &Process) -> anyhow::Result<Self> {
        let servers = Servers::parse(&args.redis_url).context("REDIS_URL is not usable")?;
        let keys = Keys::new(&args.redis_key_prefix, servers.database());
        let shared = Arc::new(Shared::new(servers, keys, process)?);
        let handles_gone = CancellationToken::new();
        process
            .tasks
            .spawn(writer::run(shared.clone(), handles_gone.clone()));
        Ok(Self {
            shared,
            closing: handles_gone.clone(),
            _open: Arc::new(handles_gone.drop_guard()),
        })
    }

    /// Tells the writer to send the rest of the queue and to end, even if clones still exist.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Queues all notes that `note` adds, as one step. Never waits for Redis.
    pub fn note(&self, note: impl FnOnce(&mut Notes<'_>)) {
        let (overflow, urgent) = {
            let mut queue = lock(&self.shared.queue);
            note(&mut Notes(&mut queue));
            (queue.take_overflow(), queue.is_urgent())
        };
        if overflow > 0 {
            self.shared.dropped(overflow, &"its queue is full");
        }
        match urgent {
            true => self.shared.urgent.notify_one(),
            false => self.shared.queued.notify_one(),
        }
    }

    /// The counters: `[created, confirmed, canceled, expired]`. `None` if Redis does not answer within 0.5 s.
    pub async fn counters(&self) -> Option<[i64; 4]> {
        let connection = lock(&self.shared.connection).clone();
        let mut connection = connection?;
        let get = self.shared.keys.get_counters();
        let counts = get.query_async::<[Option<i64>; 4]>(&mut connection);
        let counts = tokio::time::timeout(ASK_LIMIT, counts).await.ok()?.ok()?;
        Some(counts.map(Option::unwrap_or_default))
    }

    /// Sets the counters, for example after Redis lost its data: `[created, confirmed, canceled, expired]`. Counts
    /// that are still in a queue at this moment are added later.
    ///
    /// # Errors
    ///
    /// Redis does not answer.
    pub async fn set_counters(&self, counts: [i64; 4]) -> anyhow::Result<()> {
        let connection = lock(&self.shared.connection).clone();
        let mut connection = connection.context("there is no connection to Redis")?;
        let set = self.shared.keys.set_counters(counts);
        // The connection has its own time limit.
        Ok(set.exec_async(&mut connection).await?)
    }

    /// Wakes its owner when the timer of a hold expires, and after each (re)subscribe. It has a connection of its
    /// own, so call it once and keep the result.
    pub fn expiries(&self) -> Wakeups {
        listener::start(self.shared.clone(), listener::Topic::Expiries)
    }

    /// Wakes its owner when any process has written events, and after each (re)subscribe. It has a connection of its
    /// own, so call it once and keep the result.
    pub fn wakes(&self) -> Wakeups {
        listener::start(self.shared.clone(), listener::Topic::Outbox)
    }

    /// Whether Redis answers within 0.5 s and accepts writes.
    pub async fn is_up(&self) -> bool {
        let connection = lock(&self.shared.connection).clone();
        match connection {
            Some(mut connection) => {
                matches!(
                    tokio::time::timeout(ASK_LIMIT, link::check(&mut connection)).await,
                    Ok(Ok(()))
                )
            }
            None => false,
        }
    }
}

/// Notes for Redis: timers and counters.
pub struct Notes<'a>(&'a mut Queue);

impl Notes<'_> {
    /// Sets the timer of a hold to its deadline, in Unix milliseconds.
    pub fn arm(&mut self, id: i64, deadline_unix_ms: i64) {
        self.0.arm((id, deadline_unix_ms));
    }

    /// Removes the timer of a hold that ended before its deadline.
    pub fn disarm(&mut self, id: i64) {
        self.0.disarm(id);
    }

    /// Adds to a counter.
    pub fn count(&mut self, counter: Counter, by: u64) {
        self.0.count(counter, by);
    }

    /// Tells relays that there are events to publish. Without it, they find the events at their next regular read.
    pub fn wake_relay(&mut self) {
        self.0.wake_relay();
    }
}
