//! Timers and counters in Redis: a hint, never the truth.
//!
//! Every hold has a key that lives as long as the hold does; when it expires, Redis announces it and the
//! expirer looks at the database at once instead of a little later. Nothing here decides anything: every
//! call returns at once and cannot fail, and with Redis away the sweeps alone keep every promise.

mod link;
mod listener;
mod queue;
mod shared;
mod writer;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use runtime::{Process, lock};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use listener::Wakeups;
use queue::{Keys, Queue};
use shared::Shared;

pub use queue::Counter;

/// How long somebody waits who asks Redis.
const ASK_LIMIT: Duration = Duration::from_millis(500);

/// How Redis is reached, and how its keys are named.
#[derive(clap::Args, Clone)]
// Every crate calls its settings `Args`; without this, flattening two of them clashes by name.
#[group(skip)]
pub struct Args {
    /// Redis: `redis://[user:password@]host:port/database`, or `rediss://` for TLS.
    #[arg(
        long,
        env = "REDIS_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379/0"
    )]
    pub redis_url: String,

    /// Put before every key, so that several installations can share one Redis database.
    #[arg(long, env = "REDIS_KEY_PREFIX", default_value = "")]
    pub redis_key_prefix: String,
}

/// Arms and disarms timers, counts, and hears expiries. Clones are cheap and share one connection.
#[derive(Clone)]
pub struct Timer {
    shared: Arc<Shared>,
    closing: CancellationToken,
    /// The last clone to go tells the writer to send what is left and end.
    _open: Arc<DropGuard>,
}

impl Timer {
    /// Starts the writer. Succeeds at once whether or not Redis is there; the only errors are a
    /// malformed URL and a registry that has these metrics already.
    pub fn start(args: &Args, process: &Process) -> anyhow::Result<Self> {
        let (client, database) =
            link::client(&args.redis_url).context("REDIS_URL is not usable")?;
        let keys = Keys::new(&args.redis_key_prefix, database);
        let shared = Arc::new(Shared::new(client, keys, process)?);
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

    /// Tells the writer to send what is left and end, though clones may still be about.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Queues what `note` adds, in one go. Never waits for Redis.
    pub fn note(&self, note: impl FnOnce(&mut Notes<'_>)) {
        let overflow = {
            let mut queue = lock(&self.shared.queue);
            note(&mut Notes(&mut queue));
            queue.take_overflow()
        };
        if overflow > 0 {
            self.shared.dropped(overflow, &"its queue is full");
        }
        self.shared.queued.notify_one();
    }

    /// The counters: `[created, confirmed, canceled, expired]`. `None` where Redis does not answer, within half
    /// a second.
    pub async fn counters(&self) -> Option<[i64; 4]> {
        let connection = lock(&self.shared.connection).clone();
        let mut connection = connection?;
        let get = self.shared.keys.get_counters();
        let counts = get.query_async::<[Option<i64>; 4]>(&mut connection);
        let counts = tokio::time::timeout(ASK_LIMIT, counts).await.ok()?.ok()?;
        Some(counts.map(Option::unwrap_or_default))
    }

    /// Sets the counters, say after Redis lost them: `[created, confirmed, canceled, expired]`. What is on
    /// its way to Redis at this moment is counted on top.
    pub async fn set_counters(&self, counts: [i64; 4]) -> anyhow::Result<()> {
        let connection = lock(&self.shared.connection).clone();
        let mut connection = connection.context("there is no connection to Redis")?;
        let set = self.shared.keys.set_counters(counts);
        // It has the link's own time limit.
        Ok(set.exec_async(&mut connection).await?)
    }

    /// Wakes its owner when a hold's timer runs out, and after each (re)subscribe. Has a connection of
    /// its own: call it once and keep it.
    pub fn expiries(&self) -> Wakeups {
        listener::start(self.shared.clone(), listener::Topic::Expiries)
    }

    /// Wakes its owner when holds were confirmed, by any process, and after each (re)subscribe. Has a
    /// connection of its own: call it once and keep it.
    pub fn wakes(&self) -> Wakeups {
        listener::start(self.shared.clone(), listener::Topic::Outbox)
    }

    /// Whether Redis answers, within half a second.
    pub async fn is_up(&self) -> bool {
        let connection = lock(&self.shared.connection).clone();
        match connection {
            Some(mut connection) => {
                matches!(
                    tokio::time::timeout(ASK_LIMIT, link::ping(&mut connection)).await,
                    Ok(Ok(()))
                )
            }
            None => false,
        }
    }
}

/// What Redis is to be told.
pub struct Notes<'a>(&'a mut Queue);

impl Notes<'_> {
    /// A hold has this deadline, in Unix milliseconds: it gets a timer, or its timer anew.
    pub fn arm(&mut self, id: i64, deadline_unix_ms: i64) {
        self.0.arm((id, deadline_unix_ms));
    }

    /// A hold has ended before its deadline: its timer goes.
    pub fn disarm(&mut self, id: i64) {
        self.0.disarm(id);
    }

    /// Adds to a counter. [`Counter::Confirmed`] wakes the relay, too.
    pub fn count(&mut self, counter: Counter, by: u64) {
        self.0.count(counter, by);
    }
}
