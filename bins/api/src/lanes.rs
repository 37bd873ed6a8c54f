//! Group commit: what makes one hot row fast.
//!
//! A transaction per request is bounded by one commit after the other on the product's row: some hundred a
//! second. A lane instead has at most one batch at the database. Requests that come meanwhile
//! gather, and when the answer is there, all of them go in the next round trip. There is no timer and no
//! added delay: with one request in flight a batch is one request, and a lane is a direct call. The
//! busier the lane, the larger its batches.
//!
//! What belongs to one row goes through one lane (the reserves of a product, say): two batches
//! in flight for the same row would only wait for each other's lock. Several lanes serve several rows.
//!
//! A batch that has to wait for its turn, because another process is at work on the same row, would leave behind all
//! that comes meanwhile. So a call may ask its lane for latecomers ([`Turn`]) once its turn has come.
//!
//! The queue of a lane is bounded, and so is the time in it. As long as a request is in the queue, nothing was
//! done for it: it can be refused with a clear conscience ([`NoAnswer::Overloaded`]), and it is
//! dropped if its client hung up.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use runtime::lock;
use tokio::sync::{Notify, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trace::Span;

use crate::overload::Overload;

/// How much a lane takes.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Most requests in one batch.
    pub(crate) batch: usize,
    /// Most requests that wait in one lane.
    pub(crate) depth: usize,
    /// Longest time in the queue.
    pub(crate) wait: Duration,
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum NoAnswer {
    /// Nothing was done for it.
    Overloaded,
    /// It was sent, and the answer was lost.
    OutcomeUnknown,
}

impl From<&inventory::Error> for NoAnswer {
    fn from(error: &inventory::Error) -> Self {
        match error {
            inventory::Error::NotDone(_) => Self::Overloaded,
            inventory::Error::OutcomeUnknown(_) => Self::OutcomeUnknown,
        }
    }
}

/// Several lanes to the same verb.
pub(crate) struct Lanes<Q, A> {
    lanes: Vec<Arc<Lane<Q, A>>>,
}

struct Lane<Q, A> {
    verb: &'static str,
    limits: Limits,
    queue: Mutex<Queue<Q, A>>,
    arrived: Notify,
    /// Those that wait for the answers of the call under way, in the order of its requests.
    in_flight: Mutex<Vec<Reply<A>>>,
    waits: AtomicU32,
    /// Whether some of them are latecomers.
    with_latecomers: AtomicBool,
}

type Reply<A> = oneshot::Sender<Result<A, NoAnswer>>;

/// What a call may ask of its lane while it is under way.
pub(crate) struct Turn<Q> {
    lane: Arc<dyn TakesAlong<Q>>,
}

impl<Q> Clone for Turn<Q> {
    fn clone(&self) -> Self {
        let lane = Arc::clone(&self.lane);
        Self { lane }
    }
}

impl<Q> Turn<Q> {
    /// How many calls in a row had to wait for their turn: kept for the calls by themselves.
    pub(crate) fn waits(&self) -> &AtomicU32 {
        self.lane.waits()
    }

    /// Whether the call under way has taken latecomers along. It cannot be made again then: they are not among its
    /// requests.
    pub(crate) fn has_latecomers(&self) -> bool {
        self.lane.has_latecomers()
    }

    /// The requests that came since the batch was taken and that `suits`, as far as the batch has room. Their answers
    /// come behind those of the batch.
    pub(crate) fn latecomers(&self, suits: &dyn Fn(&Q) -> bool) -> Vec<Q> {
        self.lane.latecomers(suits)
    }
}

trait TakesAlong<Q>: Send + Sync {
    fn waits(&self) -> &AtomicU32;
    fn has_latecomers(&self) -> bool;
    fn latecomers(&self, suits: &dyn Fn(&Q) -> bool) -> Vec<Q>;
}

struct Queue<Q, A> {
    waiting: VecDeque<Waiting<Q, A>>,
    overload: Overload,
}

struct Waiting<Q, A> {
    request: Q,
    reply: Reply<A>,
    since: Instant,
    span: Span,
}

/// Requests that go together, and their spans.
type Batch<Q> = (Vec<Q>, Vec<Span>);

impl<Q: Send + 'static, A: Send + 'static> Lanes<Q, A> {
    /// Starts `count` lanes to `verb`, each of which makes one `call` at a time, with one batch, and expects one
    /// answer for each request, in order, latecomers last. They end once `stop` is cancelled and their queues are empty.
    pub(crate) fn start<F, Fut>(
        verb: &'static str,
        count: usize,
        limits: Limits,
        tasks: &TaskTracker,
        stop: &CancellationToken,
        call: F,
    ) -> Self
    where
        F: Fn(Vec<Q>, Turn<Q>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Vec<A>, NoAnswer>> + Send + 'static,
    {
        let lanes: Vec<_> = (0..count)
            .map(|_| {
                Arc::new(Lane {
                    verb,
                    limits,
                    queue: Mutex::new(Queue {
                        waiting: VecDeque::new(),
                        overload: Overload::new(verb),
                    }),
                    arrived: Notify::new(),
                    in_flight: Mutex::default(),
                    waits: AtomicU32::new(0),
                    with_latecomers: AtomicBool::new(false),
                })
            })
            .collect();
        for lane in &lanes {
            tasks.spawn(Arc::clone(lane).run(call.clone(), stop.clone()));
        }
        Self { lanes }
    }

    /// Puts a request into the lane of its key, and waits for its answer.
    pub(crate) async fn ask(&self, key: i64, request: Q) -> Result<A, NoAnswer> {
        let position = key.unsigned_abs() % self.lanes.len() as u64;
        // A remainder of a usize fits a usize.
        let lane = &self.lanes[position as usize];
        let (reply, answer) = oneshot::channel();
        lane.push(Waiting {
            request,
            reply,
            since: Instant::now(),
            span: Span::current(),
        })?;
        // The lane answers everybody; it can vanish only with the process.
        answer.await.unwrap_or(Err(NoAnswer::OutcomeUnknown))
    }
}

impl<Q: Send + 'static, A: Send + 'static> Lane<Q, A> {
    async fn run<F, Fut>(self: Arc<Self>, call: F, stop: CancellationToken)
    where
        F: Fn(Vec<Q>, Turn<Q>) -> Fut,
        Fut: Future<Output = Result<Vec<A>, NoAnswer>>,
    {
        let turn = Turn {
            lane: Arc::clone(&self) as Arc<dyn TakesAlong<Q>>,
        };
        loop {
            let (requests, spans) = self.take_batch();
            if !requests.is_empty() {
                let span = Span::of_batch(self.verb, &spans);
                self.serve(span.scope(call(requests, turn.clone()))).await;
            } else if stop.is_cancelled() {
                return;
            } else {
                tokio::select! {
                    () = self.arrived.notified() => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    /// Waits for one batch, and meanwhile refuses what has been in the queue too long.
    async fn serve(&self, call: impl Future<Output = Result<Vec<A>, NoAnswer>>) {
        // A panic is a bug; it must cost its batch, not the lane.
        let call = AssertUnwindSafe(call).catch_unwind();
        tokio::pin!(call);
        let outcome = loop {
            tokio::select! {
                outcome = &mut call => break outcome.unwrap_or_else(|_| {
                    tracing::error!(verb = self.verb, "a call panicked");
                    Err(NoAnswer::OutcomeUnknown)
                }),
                () = tokio::time::sleep(self.limits.wait / 4) => self.refuse_overdue(),
            }
        };
        let replies = std::mem::take(&mut *lock(&self.in_flight));
        // Whose answer is whose goes by their order: with one too few or too many, nobody is told anybody else's.
        let outcome = outcome.and_then(|answers| {
            if answers.len() == replies.len() {
                return Ok(answers);
            }
            tracing::error!(
                verb = self.verb,
                "a call has not one answer for each request"
            );
            Err(NoAnswer::OutcomeUnknown)
        });
        // A failed send means that the client hung up; a retry will find out.
        match outcome {
            Ok(answers) => {
                for (reply, answer) in replies.into_iter().zip(answers) {
                    let _ = reply.send(Ok(answer));
                }
            }
            Err(no_answer) => {
                for reply in replies {
                    let _ = reply.send(Err(no_answer));
                }
            }
        }
    }

    fn push(&self, waiting: Waiting<Q, A>) -> Result<(), NoAnswer> {
        let mut queue = lock(&self.queue);
        if queue.waiting.len() >= self.limits.depth {
            return Err(queue.overload.refused());
        }
        queue.waiting.push_back(waiting);
        drop(queue);
        self.arrived.notify_one();
        Ok(())
    }

    fn take_batch(&self) -> Batch<Q> {
        self.refuse_overdue();
        let mut queue = lock(&self.queue);
        queue.overload.settle();
        let mut batch = Batch::default();
        let mut in_flight = lock(&self.in_flight);
        self.with_latecomers.store(false, Ordering::Relaxed);
        while batch.0.len() < self.limits.batch
            && let Some(next) = queue.waiting.pop_front()
        {
            // Whoever hung up takes nobody's place.
            if !next.reply.is_closed() {
                batch.0.push(next.request);
                in_flight.push(next.reply);
                batch.1.push(next.span);
            }
        }
        batch
    }

    fn refuse_overdue(&self) {
        let mut queue = lock(&self.queue);
        while queue
            .waiting
            .front()
            .is_some_and(|oldest| oldest.since.elapsed() > self.limits.wait)
        {
            if let Some(overdue) = queue.waiting.pop_front() {
                let _ = overdue.reply.send(Err(queue.overload.refused()));
            }
        }
    }
}

impl<Q: Send + 'static, A: Send + 'static> TakesAlong<Q> for Lane<Q, A> {
    fn waits(&self) -> &AtomicU32 {
        &self.waits
    }

    fn has_latecomers(&self) -> bool {
        self.with_latecomers.load(Ordering::Relaxed)
    }

    fn latecomers(&self, suits: &dyn Fn(&Q) -> bool) -> Vec<Q> {
        let mut queue = lock(&self.queue);
        let mut in_flight = lock(&self.in_flight);
        let room = self.limits.batch.saturating_sub(in_flight.len());
        let mut taken = Vec::new();
        for next in std::mem::take(&mut queue.waiting) {
            if taken.len() < room && !next.reply.is_closed() && suits(&next.request) {
                self.with_latecomers.store(true, Ordering::Relaxed);
                taken.push(next.request);
                in_flight.push(next.reply);
            } else {
                queue.waiting.push_back(next);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    /// One lane to a verb that answers each batch, doubled, when the test lets it.
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
            let passed = Arc::clone(&gate);
            let lanes = Lanes::start(
                "double",
                1,
                limits,
                &tasks,
                &stop,
                move |mut batch: Vec<i64>, turn| {
                    let passed = Arc::clone(&passed);
                    let _ = seen.send(batch.clone());
                    async move {
                        passed
                            .acquire()
                            .await
                            .map_err(|_| NoAnswer::OutcomeUnknown)?
                            .forget();
                        batch.extend(turn.latecomers(&|request| *request >= LATE));
                        assert!(!batch.contains(&13), "thirteen is a bug");
                        // Seven is forgotten.
                        let known = batch.iter().filter(|request| **request != 7);
                        Ok(known.map(|request| request * 2).collect())
                    }
                },
            );
            Self {
                lanes: Arc::new(lanes),
                batches,
                gate,
                stop,
                tasks,
            }
        }

        /// Asks in a task of its own, and returns once the request is in the queue or at the verb.
        async fn ask(&self, request: i64) -> tokio::task::JoinHandle<Result<i64, NoAnswer>> {
            let lanes = Arc::clone(&self.lanes);
            let asked = tokio::spawn(async move { lanes.ask(0, request).await });
            tokio::task::yield_now().await;
            asked
        }

        async fn batch(&mut self) -> Vec<i64> {
            self.batches.recv().await.unwrap_or_default()
        }
    }

    /// Requests from here on are taken along by the call that goes before them.
    const LATE: i64 = 1_000;

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

    #[tokio::test]
    async fn a_batch_takes_along_what_suits_it_as_far_as_it_has_room() {
        let mut bench = Bench::new(LIMITS);
        let mut asked = vec![bench.ask(1).await];
        assert_eq!(bench.batch().await, [1]);
        for request in [LATE, 2, LATE + 1, LATE + 2] {
            asked.push(bench.ask(request).await);
        }
        bench.gate.add_permits(1);
        // Two have gone with the first, which makes three; the others come in their order.
        assert_eq!(bench.batch().await, [2, LATE + 2]);
        bench.gate.add_permits(1);
        for (request, asked) in [1, LATE, 2, LATE + 1, LATE + 2].into_iter().zip(asked) {
            assert_eq!(asked.await.ok(), Some(Ok(request * 2)));
        }
    }

    #[tokio::test]
    async fn who_was_taken_along_shares_the_fate_of_the_batch() {
        let mut bench = Bench::new(LIMITS);
        let bug = bench.ask(13).await;
        bench.batch().await;
        let late = bench.ask(LATE).await;
        bench.gate.add_permits(9);
        for asked in [bug, late] {
            assert_eq!(asked.await.ok(), Some(Err(NoAnswer::OutcomeUnknown)));
        }
        assert_eq!(bench.ask(1).await.await.ok(), Some(Ok(2)));
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

    #[tokio::test(start_paused = true)]
    async fn what_waits_too_long_is_refused_and_never_sent() {
        let mut bench = Bench::new(Limits {
            wait: Duration::from_millis(1),
            ..LIMITS
        });
        let sent = bench.ask(1).await;
        bench.batch().await;
        // The verb is stuck: only the limit can answer this one.
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
        // Time passes once everybody waits.
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
}
