//! The task that sends queued timers and counters to Redis.

use std::{sync::Arc, time::Duration};

use redis::{ServerErrorKind, Value};
use runtime::{lock, retry::Delays};
use tokio_util::sync::CancellationToken;

use crate::{
    link::{Link, RETRY_MAX},
    queue::Batch,
    shared::Shared,
};

/// How long after the signal to stop the writer waits until all handles are dropped. Requests in flight may still
/// queue messages until then, and a leaked handle cannot block the shutdown.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(10);

/// Time limit of the final flush.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// How long timers and counters wait for more of them. Without it, each commit on a busy product causes a round trip of its
/// own. That costs the API 3 % of its processor time for a reserve. A timer has at least a second left.
const GATHER: Duration = Duration::from_millis(20);

/// Connects, sends and reconnects, until all handles are dropped or the process is told to stop.
pub(crate) async fn run(shared: Arc<Shared>, handles_gone: CancellationToken) {
    let ending = CancellationToken::new();
    let watch = async {
        tokio::select! {
            () = handles_gone.cancelled() => {}
            () = async {
                shared.process.shutdown.cancelled().await;
                tokio::time::sleep(LAST_WORDS_LIMIT).await;
            } => {}
        }
        ending.cancel();
        std::future::pending().await
    };
    tokio::select! {
        () = write(&shared, &ending) => {}
        () = watch => {}
    }
}

async fn write(shared: &Shared, ending: &CancellationToken) {
    let reconnects = shared.metrics.reconnects.with_label_values(&["timers"]);
    let mut delays = Delays::up_to(RETRY_MAX);
    let mut connected_before = false;
    loop {
        match Link::open(&shared.servers, |_| {}).await {
            Ok(link) => {
                reconnects.inc_by(u64::from(connected_before));
                connected_before = true;
                delays.reset();
                shared.recovered();
                *lock(&shared.connection) = Some(link.connection.clone());
                serve(shared, link, ending).await;
                *lock(&shared.connection) = None;
            }
            Err(error) => {
                // Late timers are nearly worthless: the sweep has expired most of the holds by then.
                let timers = lock(&shared.queue).discard_timers();
                shared.dropped(timers, &shared.at_address(&error));
            }
        }
        tokio::select! {
            () = ending.cancelled() => return,
            () = tokio::time::sleep(delays.next_delay()) => {}
        }
    }
}

/// Sends until the connection is lost. When ending, stops once the queue is empty or the time is over.
async fn serve(shared: &Shared, mut link: Link, ending: &CancellationToken) {
    // What the last connection left.
    shared.queued.notify_one();
    loop {
        tokio::select! {
            () = gathered(shared) => {}
            () = link.lost() => return,
            () = ending.cancelled() => {
                let _ = tokio::time::timeout(FLUSH_LIMIT, drain(shared, &mut link)).await;
                return;
            }
        }
        if drain(shared, &mut link).await.is_err() {
            return;
        }
    }
}

/// Waits for notes, and then for those that follow soon. A wake-up of the relay is sent at once.
async fn gathered(shared: &Shared) {
    tokio::select! {
        () = shared.urgent.notified() => {}
        () = async {
            shared.queued.notified().await;
            tokio::time::sleep(GATHER).await;
        } => {}
    }
}

/// Sends what is queued now. After the last handle is dropped, that is everything.
async fn drain(shared: &Shared, link: &mut Link) -> redis::RedisResult<()> {
    loop {
        let (batch, more) = {
            let mut queue = lock(&shared.queue);
            (queue.take(), queue.timers() > 0)
        };
        if let Some(batch) = batch {
            send(shared, link, &batch).await?;
        }
        if !more {
            return Ok(());
        }
    }
}

/// Sends one batch, at most once: an INCRBY without a reply may have been applied.
async fn send(shared: &Shared, link: &mut Link, batch: &Batch) -> redis::RedisResult<()> {
    shared.metrics.pipeline.observe(batch.commands() as f64);
    let pipeline = shared.keys.pipeline(batch);
    match link
        .connection
        .send_packed_commands(&pipeline, 0, pipeline.len())
        .await
    {
        Ok(replies) => {
            // Redis is up but refuses: out of memory, read-only, loading, ….
            let refused = replies.iter().filter_map(|reply| match reply {
                Value::ServerError(error) => Some(error),
                _ => None,
            });
            let Some(error) = refused.clone().next() else {
                shared.recovered();
                return Ok(());
            };
            let is_replica = error.kind() == Some(ServerErrorKind::ReadOnly);
            shared.dropped(refused.count() as u64, &error);
            match is_replica {
                // The connection leads to a server that was demoted. A new one may lead to its successor.
                true => {
                    shared.servers.leave();
                    Err(error.clone().into())
                }
                false => Ok(()),
            }
        }
        Err(error) => {
            shared.dropped(batch.commands() as u64, &error);
            Err(error)
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use runtime::Process;
    use tokio::time::Instant;

    use super::*;
    use crate::{Counter, Notes, Timer, queue::Keys, servers::Servers};

    /// A timer without a writer.
    fn timer() -> Timer {
        let servers = Servers::parse("redis://127.0.0.1:1/0").unwrap();
        let shared = Shared::new(servers, Keys::new("", 0), &Process::detached()).unwrap();
        let closing = CancellationToken::new();
        Timer {
            shared: Arc::new(shared),
            closing: closing.clone(),
            _open: Arc::new(closing.drop_guard()),
        }
    }

    /// How long the writer waits after these notes.
    async fn wait_after(timer: &Timer, notes: impl FnOnce(&mut Notes<'_>)) -> Duration {
        let start = Instant::now();
        timer.note(notes);
        gathered(&timer.shared).await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn notes_wait_for_more_of_them() {
        let timer = timer();
        assert_eq!(wait_after(&timer, |notes| notes.arm(1, 1)).await, GATHER);
        assert_eq!(wait_after(&timer, |notes| notes.disarm(1)).await, GATHER);
        let created = |notes: &mut Notes<'_>| notes.count(Counter::Created, 1);
        assert_eq!(wait_after(&timer, created).await, GATHER);
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_is_woken_at_once() {
        let timer = timer();
        let wake = |notes: &mut Notes<'_>| notes.wake_relay();
        assert_eq!(wait_after(&timer, wake).await, Duration::ZERO);
        // Also while timers gather. They go with it.
        lock(&timer.shared.queue).take();
        timer.note(|notes| notes.arm(1, 1));
        let wakes = async {
            tokio::time::sleep(GATHER / 2).await;
            timer.note(|notes| notes.wake_relay());
        };
        let start = Instant::now();
        tokio::join!(gathered(&timer.shared), wakes);
        assert_eq!(start.elapsed(), GATHER / 2);
        let sent = lock(&timer.shared.queue).take().unwrap();
        // The timer and the wake-up, which is not counted as a command.
        assert_eq!(sent.commands(), 1);
        assert!(!lock(&timer.shared.queue).is_urgent());
    }
}
