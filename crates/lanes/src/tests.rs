use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt as _;
use proptest::{collection::vec, prelude::*};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, advance},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{queue::FairQueue, *};

mod gathering;

/// One lane of a verb that doubles each request. The test decides when a batch is answered.
struct Bench {
    lanes: Arc<Lanes<i64, i64>>,
    batches: mpsc::UnboundedReceiver<Vec<i64>>,
    gate: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let (seen, batches) = mpsc::unbounded_channel();
        let gate = Arc::new(Semaphore::new(0));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let call_of_lane = || {
            let (passed, seen) = (Arc::clone(&gate), seen.clone());
            move |mut batch: Vec<i64>| {
                let passed = Arc::clone(&passed);
                let _ = seen.send(batch.clone());
                async move {
                    passed
                        .acquire()
                        .await
                        .map_err(|_| NoAnswer::OutcomeUnknown)?
                        .forget();
                    let mut waited = Duration::ZERO;
                    if batch.contains(&SLOW) {
                        advance(WAIT).await;
                        waited = WAIT;
                    }
                    assert!(!batch.contains(&13), "thirteen is a bug");
                    // The call gives no answer for 7.
                    batch.retain(|request| *request != 7);
                    let double = || {
                        assert!(!batch.contains(&17), "seventeen is a bug of the answers");
                        if batch.contains(&SLOW_ANSWER) {
                            let _ = advance(WAIT).now_or_never();
                        }
                        batch.into_iter().map(|request| request * 2).collect()
                    };
                    Ok(Answers::later(double).after_wait(waited))
                }
            }
        };
        let lanes = Lanes::start("double", 1, limits, &tasks, &stop, call_of_lane);
        Self {
            lanes: Arc::new(lanes),
            batches,
            gate,
            stop,
            tasks,
        }
    }

    /// Sends a request from a task of its own. Returns when the request is in the queue or in the running call.
    async fn ask(&self, request: i64) -> tokio::task::JoinHandle<Result<i64, NoAnswer>> {
        let asked = tokio::spawn(asked(&self.lanes, request));
        tokio::task::yield_now().await;
        asked
    }

    async fn batch(&mut self) -> Vec<i64> {
        self.batches.recv().await.unwrap_or_default()
    }
}

/// Sends a request.
fn asked(
    lanes: &Arc<Lanes<i64, i64>>,
    request: i64,
) -> impl Future<Output = Result<i64, NoAnswer>> + use<> {
    let lanes = Arc::clone(lanes);
    let key = match request {
        ..QUIET => 0,
        QUIET.. => request,
    };
    async move { lanes.ask(key, request).await }
}

/// A call with this request waits for a lock, for this time.
const SLOW: i64 = 1_000;
const WAIT: Duration = Duration::from_millis(10);

/// The answers of a batch with this request take as long.
const SLOW_ANSWER: i64 = 1_001;

/// Each request from this number on has a key of its own.
const QUIET: i64 = 2_000;

const LIMITS: Limits = Limits {
    batch: 3,
    depth: 4,
    wait: Duration::from_secs(60),
};

#[tokio::test]
async fn what_comes_during_a_batch_goes_together_in_the_next() {
    let mut bench = Bench::new(LIMITS);
    let mut asked = vec![bench.ask(1).await];
    assert_eq!(bench.batch().await, [1], "a lone request goes at once");
    for request in 2..=5 {
        asked.push(bench.ask(request).await);
    }
    bench.gate.add_permits(3);
    assert_eq!(bench.batch().await, [2, 3, 4], "at most three, in order");
    assert_eq!(bench.batch().await, [5]);
    for (request, asked) in (1..).zip(asked) {
        assert_eq!(asked.await.ok(), Some(Ok(request * 2)));
    }
}

/// The next batch, whose call runs meanwhile, is not affected.
#[tokio::test]
async fn a_panic_of_the_answers_affects_one_batch() {
    let mut bench = Bench::new(LIMITS);
    let bug = bench.ask(17).await;
    bench.batch().await;
    let next = bench.ask(1).await;
    bench.gate.add_permits(2);
    assert_eq!(bug.await.ok(), Some(Err(NoAnswer::OutcomeUnknown)));
    assert_eq!(next.await.ok(), Some(Ok(2)));
}

/// A batch is answered while the database works for the next one. The last one waits for no other.
#[tokio::test]
async fn the_next_call_starts_before_a_batch_is_answered() {
    let (log, mut entries) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let call_of_lane = || {
        let (log, gate) = (log.clone(), Arc::clone(&gate));
        move |batch: Vec<i64>| {
            let (log, gate) = (log.clone(), Arc::clone(&gate));
            async move {
                let _ = log.send(("called", batch.clone()));
                let permit = gate.acquire().await.map_err(|_| NoAnswer::Overloaded);
                permit?.forget();
                Ok(Answers::later(move || {
                    let _ = log.send(("answered", batch.clone()));
                    batch
                }))
            }
        }
    };
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let lanes = Lanes::start("log", 1, LIMITS, &tasks, &stop, call_of_lane);
    let second = async {
        let first_entry = entries.recv().await;
        let rest = async {
            gate.add_permits(2);
            [
                entries.recv().await,
                entries.recv().await,
                entries.recv().await,
            ]
        };
        let (answer, rest) = tokio::join!(lanes.ask(0, 2), rest);
        (answer, [first_entry].into_iter().chain(rest).flatten())
    };
    let (first, (second, seen)) = tokio::join!(lanes.ask(0, 1), second);
    assert_eq!((first, second), (Ok(1), Ok(2)));
    let wanted = [
        ("called", 1),
        ("called", 2),
        ("answered", 1),
        ("answered", 2),
    ];
    let wanted = wanted.map(|(what, request)| (what, vec![request]));
    assert_eq!(seen.collect::<Vec<_>>(), wanted);
}

#[tokio::test]
async fn a_full_lane_refuses_at_once() {
    let mut bench = Bench::new(LIMITS);
    let _sent = bench.ask(1).await;
    bench.batch().await;
    let waiting = [
        bench.ask(2).await,
        bench.ask(3).await,
        bench.ask(4).await,
        bench.ask(5).await,
    ];
    assert_eq!(
        bench.ask(6).await.await.ok(),
        Some(Err(NoAnswer::Overloaded))
    );
    bench.gate.add_permits(9);
    for asked in waiting {
        assert!(asked.await.is_ok_and(|answer| answer.is_ok()));
    }
}

#[tokio::test]
async fn a_quiet_key_is_in_the_next_batch_however_many_wait_for_a_busy_one() {
    let mut bench = Bench::new(LIMITS);
    let _sent = bench.ask(1).await;
    bench.batch().await;
    let mut asked = Vec::new();
    for request in [2, 3, 4, 5, QUIET] {
        asked.push(bench.ask(request).await);
    }
    bench.gate.add_permits(9);
    assert_eq!(bench.batch().await, [2, QUIET, 3]);
    assert_eq!(bench.batch().await, [4, 5]);
    for asked in asked {
        assert!(asked.await.is_ok_and(|answer| answer.is_ok()));
    }
}

#[tokio::test]
async fn a_lane_that_a_busy_key_has_filled_still_takes_each_quiet_key_up_to_its_share() {
    let mut bench = Bench::new(LIMITS);
    let _sent = bench.ask(1).await;
    bench.batch().await;
    let mut asked = Vec::new();
    // Four of the busy key fill the lane. The shares of two, three and four keys are two, one and one.
    for request in [2, 3, 4, 5, QUIET, QUIET + 1, QUIET + 2] {
        asked.push(bench.ask(request).await);
    }
    for refused in [6, QUIET, QUIET + 3] {
        let answer = bench.ask(refused).await.await;
        assert_eq!(answer.ok(), Some(Err(NoAnswer::Overloaded)), "{refused}");
    }
    bench.gate.add_permits(9);
    for asked in asked {
        assert!(asked.await.is_ok_and(|answer| answer.is_ok()));
    }
}

/// Sends a request whose key must be looked up. Returns when it is in the queue, in the running call, or refused.
async fn ask_unkeyed(
    bench: &Bench,
    looked_up: &Arc<Mutex<Vec<i64>>>,
    key: Result<i64, NoAnswer>,
    request: i64,
) -> tokio::task::JoinHandle<Result<i64, NoAnswer>> {
    let (lanes, looked_up) = (Arc::clone(&bench.lanes), Arc::clone(looked_up));
    let asked = tokio::spawn(async move {
        let find = async || {
            runtime::lock(&looked_up).push(request);
            key
        };
        lanes.ask_unkeyed(find, request).await
    });
    tokio::task::yield_now().await;
    asked
}

#[tokio::test]
async fn a_key_is_looked_up_only_when_the_next_batch_may_have_no_room() {
    let (busy, quiet) = (Ok(50), Ok(60));
    let looked_up = Arc::default();
    let mut bench = Bench::new(LIMITS);
    let mut asked = vec![ask_unkeyed(&bench, &looked_up, busy, 1).await];
    assert_eq!(bench.batch().await, [1]);
    // Half of the queue is for requests without a key.
    for request in [2, 3, 4, 5] {
        asked.push(ask_unkeyed(&bench, &looked_up, busy, request).await);
    }
    // The queue is full, and the busy key has its share.
    let refused = ask_unkeyed(&bench, &looked_up, busy, 6).await;
    assert_eq!(refused.await.ok(), Some(Err(NoAnswer::Overloaded)));
    asked.push(ask_unkeyed(&bench, &looked_up, quiet, QUIET).await);
    assert_eq!(*runtime::lock(&looked_up), [4, 5, 6, QUIET]);
    bench.gate.add_permits(9);
    assert_eq!(bench.batch().await, [2, 3, 4], "those without a key first");
    assert_eq!(bench.batch().await, [QUIET, 5], "then the keys take turns");
    for asked in asked {
        assert!(asked.await.is_ok_and(|answer| answer.is_ok()));
    }
}

#[tokio::test]
async fn a_request_whose_key_cannot_be_looked_up_is_never_sent() {
    let looked_up = Arc::default();
    let mut bench = Bench::new(LIMITS);
    let mut asked = vec![bench.ask(1).await];
    bench.batch().await;
    for request in [2, 3] {
        asked.push(ask_unkeyed(&bench, &looked_up, Ok(50), request).await);
    }
    let failed = ask_unkeyed(&bench, &looked_up, Err(NoAnswer::Overloaded), 4).await;
    assert_eq!(failed.await.ok(), Some(Err(NoAnswer::Overloaded)));
    bench.gate.add_permits(9);
    assert_eq!(bench.batch().await, [2, 3]);
    for asked in asked {
        assert!(asked.await.is_ok_and(|answer| answer.is_ok()));
    }
}

proptest! {
    /// Whatever is pushed comes out once, in the order of its key, and no key with items is left out of a batch with
    /// room for all keys.
    #[test]
    fn keys_take_turns_and_nothing_is_lost(
        pushed in vec((0_i64..6, 0_u32..100), 0..60),
        batches in vec((1_usize..9, any::<bool>()), 60),
    ) {
        let mut queue = FairQueue::default();
        let mut waiting: BTreeMap<i64, VecDeque<u32>> = BTreeMap::new();
        for (key, item) in pushed {
            queue.push(key, (key, item));
            waiting.entry(key).or_default().push_back(item);
        }
        for (count, is_batch) in batches {
            let mut taken = Vec::new();
            let take = |item: (i64, u32)| {
                // Odd items do not count, as requests of disconnected clients.
                let counts = item.1.is_multiple_of(2);
                taken.push(item);
                counts
            };
            match is_batch {
                true => queue.take(count, take),
                // The oldest items of each key, as long as they are small.
                false => queue.remove_overdue(|item| item.1 < 30, |item| taken.push(item)),
            }
            let served: BTreeSet<i64> = taken.iter().map(|(key, _)| *key).collect();
            if is_batch && waiting.len() <= count {
                prop_assert_eq!(&served, &waiting.keys().copied().collect());
            }
            let counted = taken.iter().filter(|(_, item)| item.is_multiple_of(2));
            prop_assert!(!is_batch || counted.count() <= count);
            for (key, item) in taken {
                let own = waiting.get_mut(&key);
                prop_assert_eq!(own.and_then(VecDeque::pop_front), Some(item));
            }
            waiting.retain(|_, own| !own.is_empty());
            // Keys without items have no share. A new key has one if each key may have at least one item.
            let len: usize = waiting.values().map(VecDeque::len).sum();
            let has_share = len / (waiting.len() + 1) > 0;
            prop_assert_eq!(queue.has_room(99, len), has_share);
        }
        let mut rest = Vec::new();
        queue.remove_overdue(|_| true, |item| rest.push(item));
        prop_assert_eq!(rest.len(), waiting.values().map(VecDeque::len).sum::<usize>());
        prop_assert!(queue.has_room(0, 1), "an empty queue");
        queue.take(9, |_| panic!("nothing is left"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_too_long_is_refused_and_never_sent() {
    let mut bench = Bench::new(Limits {
        wait: Duration::from_millis(1),
        ..LIMITS
    });
    let sent = bench.ask(1).await;
    bench.batch().await;
    // The call does not end, so only the time limit can answer this request.
    assert_eq!(
        bench.ask(2).await.await.ok(),
        Some(Err(NoAnswer::Overloaded))
    );
    bench.gate.add_permits(9);
    assert_eq!(sent.await.ok(), Some(Ok(2)), "what was sent is waited for");
    let _next = bench.ask(3).await;
    assert_eq!(bench.batch().await, [3]);
}

#[tokio::test]
async fn a_client_that_hung_up_is_dropped_before_it_is_sent() {
    let mut bench = Bench::new(LIMITS);
    let _sent = bench.ask(1).await;
    bench.batch().await;
    let gone = bench.ask(2).await;
    let _stays = bench.ask(3).await;
    gone.abort();
    assert!(gone.await.is_err());
    bench.gate.add_permits(9);
    assert_eq!(bench.batch().await, [3]);
}

#[tokio::test(start_paused = true)]
async fn many_that_hung_up_keep_nobody_waiting() {
    let mut bench = Bench::new(Limits {
        depth: 100,
        ..LIMITS
    });
    let _sent = bench.ask(1).await;
    bench.batch().await;
    let mut gone = Vec::new();
    for request in 2..2 + 3 * LIMITS.batch as i64 {
        gone.push(bench.ask(request).await);
    }
    let _stays = bench.ask(50).await;
    for gone in gone {
        gone.abort();
        assert!(gone.await.is_err());
    }
    bench.gate.add_permits(9);
    // The paused clock advances when all tasks wait.
    let next = tokio::time::timeout(Duration::from_secs(10), bench.batch());
    assert_eq!(next.await, Ok(vec![50]));
}

#[tokio::test]
async fn a_panic_costs_its_batch_not_the_lane() {
    let bench = Bench::new(LIMITS);
    bench.gate.add_permits(9);
    assert_eq!(
        bench.ask(13).await.await.ok(),
        Some(Err(NoAnswer::OutcomeUnknown))
    );
    assert_eq!(bench.ask(1).await.await.ok(), Some(Ok(2)));
}

#[tokio::test]
async fn nobody_gets_the_answer_of_another_where_one_is_missing() {
    let mut bench = Bench::new(LIMITS);
    let _sent = bench.ask(1).await;
    bench.batch().await;
    let asked = [bench.ask(7).await, bench.ask(2).await];
    bench.gate.add_permits(9);
    for asked in asked {
        assert_eq!(asked.await.ok(), Some(Err(NoAnswer::OutcomeUnknown)));
    }
}

#[tokio::test]
async fn a_stop_answers_everything_that_was_accepted() {
    let mut bench = Bench::new(LIMITS);
    let mut asked = vec![bench.ask(1).await];
    bench.batch().await;
    for request in 2..=5 {
        asked.push(bench.ask(request).await);
    }
    bench.stop.cancel();
    bench.gate.add_permits(9);
    bench.tasks.close();
    bench.tasks.wait().await;
    for asked in asked {
        assert!(asked.await.is_ok_and(|answer| answer.is_ok()));
    }
}

/// The locks of rows that nobody blocks.
struct NeverBlocked;

impl LockProbe for NeverBlocked {
    type Row = i64;
    type Need = i64;
    type Error = ();

    fn is_lock_timeout((): &()) -> bool {
        false
    }

    async fn rows(&self, needs: Vec<i64>) -> Result<Vec<Option<i64>>, ()> {
        Ok(needs.into_iter().map(Some).collect())
    }

    async fn locked(&self, _: Vec<i64>) -> Result<Vec<i64>, ()> {
        Ok(Vec::new())
    }

    async fn locked_by(&self, _: i64) -> Result<Option<&'static str>, ()> {
        Ok(None)
    }
}
