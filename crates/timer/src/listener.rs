//! Notifications from Redis that there is work to do. They only reduce latency. They may be wrong or lost, so the
//! receiver always asks the database.

use std::{collections::HashMap, sync::Arc};

use redis::RedisResult;
use runtime::retry::Delays;
use tokio::sync::Notify;
use tokio_util::sync::DropGuard;

use crate::{
    link::{Link, RETRY_MAX},
    shared::Shared,
};

/// Wakes its owner. Several notifications since the last wake-up count as one.
pub struct Wakeups {
    heard: Arc<Notify>,
    _listening: DropGuard,
}

impl Wakeups {
    /// Waits for a notification since the last call, or for a reconnect, after which notifications may have been
    /// lost. Never returns while Redis is down, so use a time limit.
    pub async fn next(&self) {
        self.heard.notified().await;
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Topic {
    /// Timers that ran out.
    Expiries,
    /// Events for the relay.
    Outbox,
}

/// Listens through all outages, until the returned value is dropped or the process is told to stop.
pub(crate) fn start(shared: Arc<Shared>, topic: Topic) -> Wakeups {
    let heard = Arc::new(Notify::new());
    let stop = shared.process.shutdown.child_token();
    let wakeups = Wakeups {
        heard: heard.clone(),
        _listening: stop.clone().drop_guard(),
    };
    let tasks = shared.process.tasks.clone();
    tasks.spawn(async move {
        stop.run_until_cancelled(listen(&shared, topic, &heard))
            .await;
    });
    wakeups
}

async fn listen(shared: &Shared, topic: Topic, heard: &Arc<Notify>) {
    let purpose = match topic {
        Topic::Expiries => "expiries",
        Topic::Outbox => "outbox",
    };
    let reconnects = shared.metrics.reconnects.with_label_values(&[purpose]);
    let mut delays = Delays::up_to(RETRY_MAX);
    let mut state = State::default();
    loop {
        match subscribe(shared, topic, heard, &mut state).await {
            Ok(mut link) => {
                reconnects.inc_by(u64::from(state.subscribed_before));
                state.subscribed_before = true;
                delays.reset();
                tracing::info!(purpose, "listening to Redis");
                state.away = false;
                // Notifications before the subscription were lost.
                heard.notify_one();
                link.lost().await;
                tracing::debug!(purpose, "connection to Redis lost");
            }
            Err(error) if !state.away => {
                let error = shared.at_address(&error);
                tracing::warn!(
                    purpose,
                    error,
                    "cannot listen to Redis: only polling until it is back"
                );
                state.away = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(delays.next_delay()).await;
    }
}

/// Warnings that were already logged, so that each is logged once.
#[derive(Default)]
struct State {
    subscribed_before: bool,
    away: bool,
    events_denied: bool,
}

async fn subscribe(
    shared: &Shared,
    topic: Topic,
    heard: &Arc<Notify>,
    state: &mut State,
) -> RedisResult<Link> {
    // Other keys in this database also expire. They are ignored.
    let (channel, about) = match topic {
        Topic::Expiries => (
            &shared.keys.expired_channel,
            shared.keys.timer_prefix.clone(),
        ),
        Topic::Outbox => (&shared.keys.outbox_channel, String::new()),
    };
    let heard = heard.clone();
    let mut link = Link::open(&shared.servers, move |message| {
        if message.starts_with(about.as_bytes()) {
            heard.notify_one();
        }
    })
    .await?;
    if topic == Topic::Expiries
        && let Err(error) = announce_expiries(&mut link).await
        && !std::mem::replace(&mut state.events_denied, true)
    {
        tracing::warn!(
            %error,
            "cannot make Redis announce expired keys (notify-keyspace-events must include Ex): \
             continuing, at worst with periodic sweeps only"
        );
    }
    link.connection.subscribe(channel).await?;
    Ok(link)
}

/// Makes Redis announce expired keys. Repeated before each subscription, because a restarted Redis loses the setting.
async fn announce_expiries(link: &mut Link) -> RedisResult<()> {
    const SETTING: &str = "notify-keyspace-events";
    let settings: HashMap<String, String> = redis::cmd("CONFIG")
        .arg("GET")
        .arg(SETTING)
        .query_async(&mut link.connection)
        .await?;
    let flags = settings.get(SETTING).map_or("", String::as_str);
    match with_expiries(flags) {
        None => Ok(()),
        Some(flags) => {
            redis::cmd("CONFIG")
                .arg("SET")
                .arg(SETTING)
                .arg(flags)
                .exec_async(&mut link.connection)
                .await
        }
    }
}

/// The flags to set so that expired keys are announced, or `None` if they already are.
///
/// `E` enables keyevent channels, `x` expired events, and `A` includes `x`. Flags that others have set are kept.
fn with_expiries(flags: &str) -> Option<String> {
    let by_name = if flags.contains('E') { "" } else { "E" };
    let expired = if flags.contains(['x', 'A']) { "" } else { "x" };
    let missing = format!("{by_name}{expired}");
    (!missing.is_empty()).then(|| format!("{flags}{missing}"))
}

#[cfg(test)]
mod tests {
    use super::with_expiries;

    #[test]
    fn flags_are_added_and_none_is_taken_away() {
        assert_eq!(with_expiries("").as_deref(), Some("Ex"));
        assert_eq!(with_expiries("Kg").as_deref(), Some("KgEx"));
        assert_eq!(with_expiries("xK").as_deref(), Some("xKE"));
        assert_eq!(with_expiries("AK").as_deref(), Some("AKE"));
        assert_eq!(with_expiries("AKE"), None);
        assert_eq!(with_expiries("xE"), None);
    }
}
