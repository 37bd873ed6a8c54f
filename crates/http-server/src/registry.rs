//! All open connections, and what each of them does.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;
use hyper::body::Incoming;
use runtime::lock;

use crate::{
    limits::Limits,
    metrics::{Closed, Metrics},
};

/// Only a connection that has been idle for this long is closed for a new one. A client that is about to send its next
/// request has usually sent it by then.
const REPLACE_AFTER: Duration = Duration::from_secs(1);

/// A client that does not read as fast as the server writes must take this many bytes within the limit for writes, or all
/// that is left.
const WRITE_MIN_BYTES: u32 = 64 * 1024;

/// The open connections, and what they share.
pub(crate) struct Registry {
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    /// Whether every answer says `Connection: close`.
    closing: AtomicBool,
    started: Instant,
    open: Mutex<HashMap<u64, Arc<Activity>>>,
    next: AtomicU64,
}

impl Registry {
    pub(crate) fn new(limits: Limits, metrics: Metrics) -> Self {
        Self {
            limits,
            metrics,
            closing: AtomicBool::new(false),
            started: Instant::now(),
            open: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    /// Adds a connection. It is removed when the result is dropped.
    pub(crate) fn open(self: &Arc<Self>) -> Open {
        let id = self.next.fetch_add(1, Relaxed);
        let activity = Arc::new(Activity::new(Arc::clone(self)));
        lock(&self.open).insert(id, Arc::clone(&activity));
        self.metrics.open.inc();
        Open { id, activity }
    }

    /// From now on, every answer is the last one of its connection.
    pub(crate) fn close_after_answers(&self) {
        self.closing.store(true, Relaxed);
    }

    /// Closes the connections without a request.
    pub(crate) fn close_idle(&self) {
        for activity in lock(&self.open).values() {
            activity.leave();
        }
    }

    /// Closes the connection that has been idle longest, if it has been idle for [`REPLACE_AFTER`].
    pub(crate) fn replace_one(&self) {
        let since = self.milliseconds(Instant::now());
        let latest = since.saturating_sub(REPLACE_AFTER.as_millis() as u64);
        let open = lock(&self.open);
        let staying = open.values().filter(|of| !of.leaves.load(Relaxed));
        let longest = staying.min_by_key(|of| of.idle_since.load(Relaxed));
        if let Some(longest) = longest.filter(|of| of.idle_since.load(Relaxed) <= latest) {
            self.metrics.closed(Closed::Replaced);
            longest.leave();
        }
    }

    fn milliseconds(&self, time: Instant) -> u64 {
        time.duration_since(self.started).as_millis() as u64
    }
}

/// A connection in the registry.
pub(crate) struct Open {
    id: u64,
    pub(crate) activity: Arc<Activity>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let registry = &self.activity.registry;
        lock(&registry.open).remove(&self.id);
        registry.metrics.open.dec();
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wait {
    /// For the process itself, or for a body, which has its own limit.
    Nothing,
    /// For the first byte of a request.
    Idle,
    /// For the rest of a head.
    Head,
    /// For the client to read.
    Write,
}

/// What a connection does. Its stream and its service write it, and its time limits read it, all in the connection's
/// own task. Therefore relaxed order suffices. Other tasks only see whether it is idle.
pub(crate) struct Activity {
    pub(crate) registry: Arc<Registry>,
    /// A request is in progress, up to the last byte of its answer that the server has produced.
    busy: AtomicBool,
    head_begun: AtomicBool,
    write_blocked: AtomicBool,
    /// Bytes of answers that the client took since `progress` changed.
    taken: AtomicU32,
    /// Number of requests, and of times that the client took [`WRITE_MIN_BYTES`]. Time limits start again when it changes.
    progress: AtomicU32,
    requests: AtomicU32,
    /// The client may send more bytes that nobody reads.
    unread: AtomicBool,
    /// The rest of a body that the handler did not want.
    rest: Mutex<Option<Incoming>>,
    ended: AtomicBool,
    /// Milliseconds from the server's start to the time since which it has been idle. The maximum: it is not idle.
    idle_since: AtomicU64,
    /// It is to be closed as soon as it is idle.
    leaves: AtomicBool,
    task: AtomicWaker,
}

impl Activity {
    fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            busy: AtomicBool::new(false),
            head_begun: AtomicBool::new(false),
            write_blocked: AtomicBool::new(false),
            taken: AtomicU32::new(0),
            progress: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            unread: AtomicBool::new(false),
            rest: Mutex::default(),
            ended: AtomicBool::new(false),
            idle_since: AtomicU64::new(u64::MAX),
            leaves: AtomicBool::new(false),
            task: AtomicWaker::new(),
        }
    }

    /// The task to wake if the connection is to be closed.
    pub(crate) fn watched_by(&self, task: &std::task::Waker) {
        self.task.register(task);
    }

    fn leave(&self) {
        self.leaves.store(true, Relaxed);
        self.task.wake();
    }

    pub(crate) fn leaves(&self) -> bool {
        self.leaves.load(Relaxed)
    }

    /// Whether the next answer is the last one of the connection.
    pub(crate) fn answers_last(&self) -> bool {
        self.registry.closing.load(Relaxed) || self.leaves() || self.unread.load(Relaxed)
    }

    pub(crate) fn request_began(&self) {
        self.busy.store(true, Relaxed);
        self.head_begun.store(false, Relaxed);
        add(&self.requests);
        add(&self.progress);
    }

    pub(crate) fn request_ended(&self) {
        self.busy.store(false, Relaxed);
    }

    /// Keeps the rest of a body for [`Self::take_rest`].
    pub(crate) fn leave_rest(&self, rest: Incoming) {
        *lock(&self.rest) = Some(rest);
    }

    pub(crate) fn take_rest(&self) -> Option<Incoming> {
        lock(&self.rest).take()
    }

    /// The client may send the rest of a body that nobody reads.
    pub(crate) fn body_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    /// Whether a close could discard bytes of the client. The reset that follows can destroy the last answer on its
    /// way.
    pub(crate) fn may_have_unread(&self) -> bool {
        self.unread.load(Relaxed) || self.head_begun.load(Relaxed)
    }

    pub(crate) fn received(&self) {
        if !self.busy.load(Relaxed) {
            self.head_begun.store(true, Relaxed);
        }
    }

    /// The client took bytes of an answer. Each byte alone would not be progress: a client that reads a few of them at a
    /// time could hold an answer, and its connection, for hours.
    pub(crate) fn written(&self, bytes: usize) {
        let taken = self.taken.load(Relaxed).saturating_add(bytes as u32);
        if taken < WRITE_MIN_BYTES {
            self.taken.store(taken, Relaxed);
        } else {
            self.taken.store(0, Relaxed);
            add(&self.progress);
        }
    }

    /// The client took everything that was written. In the middle of an answer, the next part can have to wait at once: that
    /// is the same wait.
    pub(crate) fn flushed(&self) {
        self.write_blocked.store(false, Relaxed);
    }

    pub(crate) fn write_blocked(&self) {
        self.write_blocked.store(true, Relaxed);
    }

    /// The stream is closing, with a time limit of its own.
    pub(crate) fn ended(&self) {
        self.ended.store(true, Relaxed);
    }

    /// What it waits for, and a number that changes when the wait starts again.
    pub(crate) fn waits_for(&self) -> (Wait, u32) {
        let wait = if self.ended.load(Relaxed) {
            Wait::Nothing
        } else if self.write_blocked.load(Relaxed) {
            Wait::Write
        } else if self.busy.load(Relaxed) {
            Wait::Nothing
        } else if self.head_begun.load(Relaxed) {
            Wait::Head
        } else {
            Wait::Idle
        };
        (wait, self.progress.load(Relaxed))
    }

    pub(crate) fn time_limit(&self, wait: Wait) -> Duration {
        let limits = &self.registry.limits;
        match wait {
            Wait::Idle if self.requests.load(Relaxed) > 0 => limits.idle(),
            Wait::Idle | Wait::Head => limits.head(),
            Wait::Write => limits.write(),
            Wait::Nothing => Duration::MAX,
        }
    }

    pub(crate) fn idle_since(&self, time: Option<Instant>) {
        let time = time.map_or(u64::MAX, |time| self.registry.milliseconds(time));
        self.idle_since.store(time, Relaxed);
    }
}

/// Adds 1. Only the connection's own task writes it, so this needs no locked instruction.
fn add(counter: &AtomicU32) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connection_that_has_been_idle_for_long_is_replaced() {
        let metrics = Metrics::register(&prometheus::Registry::new()).expect("new metrics");
        let mut registry = Registry::new(Limits::for_probes(), metrics);
        let now = Instant::now();
        let ago = |milliseconds| now.checked_sub(Duration::from_millis(milliseconds));
        registry.started = ago(60_000).expect("a time before now");
        let registry = Arc::new(registry);
        let idle = [Some(1_100), Some(30_000), Some(0), None].map(|milliseconds| {
            let open = registry.open();
            open.activity.idle_since(milliseconds.and_then(ago));
            open
        });
        let leave = || idle.each_ref().map(|open| open.activity.leaves());
        registry.replace_one();
        assert_eq!(leave(), [false, true, false, false]);
        // The first has closed by the next call, or not yet.
        registry.replace_one();
        assert_eq!(leave(), [true, true, false, false]);
        for _ in 0..4 {
            registry.replace_one();
        }
        assert_eq!(leave(), [true, true, false, false]);
    }

    #[test]
    fn a_few_bytes_of_an_answer_are_no_progress() {
        let metrics = Metrics::register(&prometheus::Registry::new()).expect("new metrics");
        let open = Arc::new(Registry::new(Limits::for_probes(), metrics)).open();
        let activity = &open.activity;
        activity.request_began();
        for (name, reads) in [
            ("many small reads", vec![1024; 64]),
            ("two halves", vec![40_000, 40_000]),
            ("one large read", vec![1 << 20]),
        ] {
            activity.write_blocked();
            let (wait, before) = activity.waits_for();
            assert_eq!(wait, Wait::Write, "{name}");
            let (last, others) = reads.split_last().expect("a read");
            for bytes in others {
                activity.written(*bytes);
                // There is more of the answer, and it has to wait again.
                activity.flushed();
                activity.write_blocked();
                assert_eq!(activity.waits_for(), (Wait::Write, before), "{name}");
            }
            activity.written(*last);
            assert_eq!(activity.waits_for(), (Wait::Write, before + 1), "{name}");
            activity.flushed();
            assert_eq!(activity.waits_for().0, Wait::Nothing, "{name}");
        }
    }
}
