//! Sends the events of the live page to all viewers. Each event is rendered once, for all of them.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use runtime::lock;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::view::View;

/// Most viewers of one process.
const VIEWERS_MAX: usize = 64;

/// Number of ticks that a viewer can get after a lost connection: one minute.
const TICKS_MAX: usize = 60;

pub(crate) struct Hub {
    /// A random number that makes event ids of this process different from those of others.
    epoch: u32,
    news: Mutex<News>,
    newest: watch::Sender<u64>,
    permits: Arc<Semaphore>,
    stop: CancellationToken,
}

#[derive(Default)]
struct News {
    /// The complete state as of the newest tick.
    state: Option<Arc<View>>,
    /// Number and message of each tick, oldest first.
    ticks: VecDeque<(u64, Bytes)>,
}

impl Hub {
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self {
            epoch: fastrand::u32(..),
            news: Mutex::default(),
            newest: watch::Sender::new(0),
            permits: Arc::new(Semaphore::new(VIEWERS_MAX)),
            stop,
        }
    }

    pub(crate) fn viewers(&self) -> usize {
        VIEWERS_MAX - self.permits.available_permits()
    }

    /// Publishes the result of a poll: the complete state, and the changes.
    pub(crate) fn publish(&self, state: View, tick: &View) {
        let number = *self.newest.borrow() + 1;
        let message = self.message(number, "tick", tick);
        {
            let mut news = lock(&self.news);
            if news.ticks.len() == TICKS_MAX {
                news.ticks.pop_front();
            }
            news.ticks.push_back((number, message));
            news.state = Some(Arc::new(state));
        }
        self.newest.send_replace(number);
    }

    /// The messages for a viewer that has read up to `last_id`. `None`: there are too many viewers.
    ///
    /// The hub stores nothing for a slow viewer. A viewer that is more than `TICKS_MAX` ticks behind gets the
    /// complete state again.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        last_id: Option<&str>,
    ) -> Option<impl Stream<Item = Bytes> + Send + 'static> {
        let permit = self.permits.clone().try_acquire_owned().ok()?;
        let viewer = Viewer {
            read: last_id.and_then(|id| self.number(id)),
            newest: self.newest.subscribe(),
            hub: self.clone(),
            _permit: permit,
        };
        Some(stream::unfold(viewer, async |mut viewer| {
            let message = viewer.next().await?;
            Some((message, viewer))
        }))
    }

    /// The first tick after `read`, if there is one, and its number. If that tick is not stored any more, the
    /// complete state.
    fn since(&self, read: Option<u64>) -> Option<(u64, Bytes)> {
        let news = lock(&self.news);
        let oldest = news.ticks.front()?.0;
        let newest = news.ticks.back()?.0;
        match read {
            Some(read) if (oldest - 1..=newest).contains(&read) => news
                .ticks
                .iter()
                .find(|(number, _)| *number > read)
                .cloned(),
            _ => {
                let state = news.state.clone()?;
                drop(news);
                Some((newest, self.message(newest, "state", &*state)))
            }
        }
    }

    fn message(&self, number: u64, event: &str, view: &impl Serialize) -> Bytes {
        let mut message = String::new();
        // Neither writing to a String nor serializing text and numbers can fail.
        let _ = write!(
            message,
            "id: {:08x}-{number}\nevent: {event}\ndata: ",
            self.epoch
        );
        message += &serde_json::to_string(view).unwrap_or_default();
        message += "\n\n";
        message.into()
    }

    /// The number in an event id of this process. `None` for ids of other processes.
    fn number(&self, id: &str) -> Option<u64> {
        let (epoch, number) = id.split_once('-')?;
        let ours = u32::from_str_radix(epoch, 16) == Ok(self.epoch);
        number.parse().ok().filter(|_| ours)
    }
}

struct Viewer {
    hub: Arc<Hub>,
    /// The number of the last tick or state that the viewer got.
    read: Option<u64>,
    newest: watch::Receiver<u64>,
    _permit: OwnedSemaphorePermit,
}

impl Viewer {
    async fn next(&mut self) -> Option<Bytes> {
        let hub = self.hub.clone();
        hub.stop
            .run_until_cancelled(async {
                loop {
                    // Marked as seen before the read. An event that is published during the read is not missed.
                    self.newest.borrow_and_update();
                    if let Some((number, message)) = hub.since(self.read) {
                        self.read = Some(number);
                        return Some(message);
                    }
                    self.newest.changed().await.ok()?;
                }
            })
            .await?
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::StreamExt as _;

    use super::*;
    use crate::{audits::LastAudit, monitor::Monitor};

    fn kind(message: &Bytes) -> &str {
        let text = str::from_utf8(message).expect("text");
        let mut lines = text.lines();
        let kind = lines.find_map(|line| line.strip_prefix("event: "));
        kind.expect("its kind")
    }

    fn publish(hub: &Hub, count: usize) {
        let mut watch = Monitor::new(LastAudit::default(), |_| false);
        for _ in 0..count {
            let (state, tick) = watch.update(None, None);
            hub.publish(state, &tick);
        }
    }

    #[tokio::test]
    async fn who_reads_slowly_is_given_what_is_kept_or_else_the_state() {
        let hub = Arc::new(Hub::new(CancellationToken::new()));
        publish(&hub, 1);
        let mut viewer = pin!(hub.subscribe(None).expect("a permit"));
        let mut read = async || viewer.next().await.expect("a message");
        assert_eq!(kind(&read().await), "state");
        publish(&hub, TICKS_MAX);
        for _ in 0..TICKS_MAX {
            assert_eq!(kind(&read().await), "tick");
        }
        publish(&hub, TICKS_MAX + 1);
        assert_eq!(kind(&read().await), "state");
        publish(&hub, 1);
        assert_eq!(kind(&read().await), "tick");
    }
}
