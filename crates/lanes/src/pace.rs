//! How long a lane gathers requests while others change the same rows.

use std::time::Duration;

use tokio::time::Instant;

/// Longest time for which a lane gathers. After a call that waited for longer, such as for a forgotten transaction, the time
/// soon is shorter again.
const LONGEST: Duration = Duration::from_millis(50);

/// A lane does not gather for a shorter time, which counts as none. The runtime's timers have a resolution of 1 ms.
const SHORTEST: Duration = Duration::from_micros(500);

/// After so long between two calls, the lane was idle, and what it knew is old.
const IDLE: Duration = Duration::from_millis(100);

/// How long a lane gathers requests between two calls. Zero as long as its calls need not wait for locks.
///
/// A call that waits for a lock would only do the same work later. Requests that come until then cannot join it, so it
/// is better to send it later, with more requests. The time follows the waits: it grows by each wait, and shrinks by a
/// sixteenth with each call. So it is at most sixteen times the mean wait. It is never longer than the last call took.
pub(crate) struct Pace {
    time: Duration,
    /// As many requests as the last batch had, and as waited when its call ended. Zero if that is one: then little is
    /// going on.
    expected: usize,
    /// When the last call started.
    started: Instant,
    /// When the last call ended, or when its answers were sent, if that was later: only then can their clients send more.
    since: Instant,
}

impl Pace {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            time: Duration::ZERO,
            expected: 0,
            started: now,
            since: now,
        }
    }

    /// For how many requests the lane gathers. Zero: it does not.
    pub(crate) fn expected(&self) -> usize {
        self.expected
    }

    pub(crate) fn end(&self) -> Instant {
        self.since + self.time
    }

    /// The answers of the last batch were sent before the next call.
    pub(crate) fn answered(&mut self) {
        self.since = Instant::now();
    }

    /// A call is sent.
    pub(crate) fn started(&mut self) {
        self.started = Instant::now();
        if self.started - self.since > IDLE {
            self.time = Duration::ZERO;
        }
    }

    /// The call of a batch of `requests` has ended. It has `waited` for locks, and more requests are `waiting` now.
    pub(crate) fn ended(&mut self, requests: usize, waiting: usize, waited: Duration) {
        let now = Instant::now();
        let time = (self.time * 15 / 16 + waited).min(now - self.started);
        self.expected = match requests + waiting {
            ..=1 => 0,
            more => more,
        };
        self.time = match self.expected > 0 && time >= SHORTEST {
            true => time.min(LONGEST),
            false => Duration::ZERO,
        };
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A call of two requests that starts when the lane has gathered, takes 8 ms, and leaves two more waiting.
    async fn call(pace: &mut Pace, waited: Duration) -> Duration {
        advance(pace.end().saturating_duration_since(Instant::now())).await;
        pace.started();
        advance(8 * MS).await;
        pace.ended(2, 2, waited);
        pace.time
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_follows_the_waits() {
        let mut pace = Pace::new();
        assert_eq!(pace.expected(), 0);
        assert_eq!(call(&mut pace, Duration::ZERO).await, Duration::ZERO);
        assert_eq!(call(&mut pace, 4 * MS).await, 4 * MS);
        assert_eq!(pace.expected(), 4);
        assert_eq!(pace.end(), Instant::now() + 4 * MS);
        assert_eq!(call(&mut pace, 2 * MS).await, 4 * MS * 15 / 16 + 2 * MS);
        assert_eq!(call(&mut pace, 4 * MS).await, 8 * MS, "as long as the call");
        assert_eq!(call(&mut pace, Duration::ZERO).await, 8 * MS * 15 / 16);
        for _ in 0..44 {
            call(&mut pace, Duration::ZERO).await;
        }
        assert_eq!(pace.time, Duration::ZERO, "too short for a timer");
    }

    /// Such as for the calls of another lane, which do not become fewer.
    #[tokio::test(start_paused = true)]
    async fn waits_that_do_not_become_shorter_do_not_add_up() {
        let mut pace = Pace::new();
        call(&mut pace, 4 * MS).await;
        for _ in 0..999 {
            let time = call(&mut pace, MS / 4).await;
            assert!(3 * MS < time && time <= 4 * MS, "{time:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_is_long_enough_for_more_than_the_longest_time() {
        let mut pace = Pace::new();
        pace.started();
        advance(1000 * MS).await;
        pace.ended(2, 2, 900 * MS);
        assert_eq!(pace.time, LONGEST);
    }

    /// Only then can their clients send the next requests.
    #[tokio::test(start_paused = true)]
    async fn the_time_counts_from_the_answers() {
        let mut pace = Pace::new();
        call(&mut pace, 4 * MS).await;
        advance(3 * MS).await;
        pace.answered();
        assert_eq!(pace.end(), Instant::now() + 4 * MS);
        advance(4 * MS).await;
        assert!(pace.end() <= Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn waits_of_long_ago_do_not_count() {
        let mut pace = Pace::new();
        call(&mut pace, 8 * MS).await;
        advance(IDLE + MS).await;
        assert_eq!(call(&mut pace, Duration::ZERO).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_request_ends_it() {
        for (requests, waiting, expected, time) in [(1, 0, 0, 0), (1, 1, 2, 8), (2, 0, 2, 8)] {
            let mut pace = Pace::new();
            call(&mut pace, 8 * MS).await;
            pace.started();
            advance(8 * MS).await;
            pace.ended(requests, waiting, 4 * MS);
            assert_eq!((pace.expected(), pace.time), (expected, time * MS));
        }
    }
}
