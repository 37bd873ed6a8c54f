//! One lane: a queue, and at most one running call.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::FutureExt as _;
use runtime::lock;
use tokio::{
    sync::{Notify, oneshot},
    task::yield_now,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trace::Span;

use crate::{
    answers::Answers,
    overload::{NoAnswer, Overload},
    pace::Pace,
    queue::{FairQueue, UNKEYED},
};

/// How often a lane lets other tasks run before it takes a batch. The requests that they bring go with it, instead of
/// with the next one: each call has costs of its own. The first time is for tasks that are ready, the second for those
/// whose sockets have become readable meanwhile.
const YIELDS: usize = 2;

/// The limits of a lane.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Most requests in one batch.
    pub batch: usize,
    /// Most requests that wait in one lane. A full lane still takes requests of a key that has less than its share,
    /// which is `depth` divided by the number of waiting keys.
    pub depth: usize,
    /// Longest time of a request in the queue.
    pub wait: Duration,
}

/// Several lanes of the same verb.
pub struct Lanes<Q, A> {
    lanes: Vec<Arc<Lane<Q, A>>>,
}

struct Lane<Q, A> {
    verb: &'static str,
    limits: Limits,
    queue: Mutex<Queue<Q, A>>,
    arrived: Notify,
    /// The channels for the answers of the running call, in the order of its requests.
    in_flight: Mutex<Vec<Reply<A>>>,
}

type Reply<A> = oneshot::Sender<Result<A, NoAnswer>>;

/// A batch whose call has ended, and whose requests wait for their answers.
struct Called<A> {
    replies: Vec<Reply<A>>,
    outcome: Result<Answers<A>, NoAnswer>,
}

impl<A: 'static> Called<A> {
    /// How long the call has waited for locks. A failed call may have waited, but does not say so.
    fn waited(&self) -> Duration {
        self.outcome
            .as_ref()
            .map_or(Duration::ZERO, Answers::waited)
    }
}

struct Queue<Q, A> {
    waiting: FairQueue<Waiting<Q, A>>,
    overload: Overload,
    /// While the lane gathers, it is woken when so many requests wait.
    wanted: usize,
}

struct Waiting<Q, A> {
    request: Q,
    reply: Reply<A>,
    since: Instant,
    span: Span,
}

/// The requests of one batch, and their spans.
type Batch<Q> = (Vec<Q>, Vec<Span>);

impl<Q: Send + 'static, A: Send + 'static> Lanes<Q, A> {
    /// Starts `count` lanes of `verb`. `call_of_lane` is called once per lane and returns the lane's call. A lane
    /// runs one call at a time, with one batch. It ends when `stop` is cancelled, its queue is empty, and its last batch
    /// is answered.
    pub fn start<F, Fut>(
        verb: &'static str,
        count: usize,
        limits: Limits,
        tasks: &TaskTracker,
        stop: &CancellationToken,
        call_of_lane: impl Fn() -> F,
    ) -> Self
    where
        F: Fn(Vec<Q>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Answers<A>, NoAnswer>> + Send + 'static,
    {
        let lanes: Vec<_> = (0..count)
            .map(|_| {
                Arc::new(Lane {
                    verb,
                    limits,
                    queue: Mutex::new(Queue {
                        waiting: FairQueue::default(),
                        overload: Overload::new(verb),
                        wanted: 0,
                    }),
                    arrived: Notify::new(),
                    in_flight: Mutex::default(),
                })
            })
            .collect();
        for lane in &lanes {
            tasks.spawn(Arc::clone(lane).run(call_of_lane(), stop.clone()));
        }
        Self { lanes }
    }

    /// Puts a request into the lane that `key` selects, and waits for its answer. The key is usually the id of the
    /// row. The keys of a lane take turns.
    ///
    /// # Errors
    ///
    /// [`NoAnswer::Overloaded`] if the queue is full or the request waited too long; the error of the call otherwise.
    pub async fn ask(&self, key: i64, request: Q) -> Result<A, NoAnswer> {
        let (waiting, answer) = Waiting::new(request);
        self.lane(key).push(key, waiting)?;
        received(answer).await
    }

    /// As [`Self::ask`], for a request whose key must be looked up first. `key` is only called if the queue is so long
    /// that the request may not be in the next batch. As long as the next batch takes all requests, no key has to wait
    /// for another one. For a verb with one lane, because requests of the same key would be in different lanes.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`], or the error of `key`: then the request was not sent.
    pub async fn ask_unkeyed<Fut>(
        &self,
        key: impl FnOnce() -> Fut,
        request: Q,
    ) -> Result<A, NoAnswer>
    where
        Fut: Future<Output = Result<i64, NoAnswer>>,
    {
        let (waiting, answer) = Waiting::new(request);
        if let Err(waiting) = self.lane(UNKEYED).push_unkeyed(waiting) {
            // In a box, because every request would otherwise have the memory that this needs.
            Box::pin(async {
                let key = key().await?;
                self.lane(key).push(key, waiting)
            })
            .await?;
        }
        received(answer).await
    }

    fn lane(&self, key: i64) -> &Lane<Q, A> {
        let position = key.unsigned_abs() % self.lanes.len() as u64;
        // The remainder is less than a usize, so the cast is exact.
        &self.lanes[position as usize]
    }
}

impl<Q, A> Waiting<Q, A> {
    fn new(request: Q) -> (Self, oneshot::Receiver<Result<A, NoAnswer>>) {
        let (reply, answer) = oneshot::channel();
        let waiting = Self {
            request,
            reply,
            since: Instant::now(),
            span: Span::current(),
        };
        (waiting, answer)
    }
}

/// The lane answers every request. The channel closes without an answer only when the process ends.
async fn received<A>(answer: oneshot::Receiver<Result<A, NoAnswer>>) -> Result<A, NoAnswer> {
    answer.await.unwrap_or(Err(NoAnswer::OutcomeUnknown))
}

impl<Q: Send + 'static, A: Send + 'static> Lane<Q, A> {
    async fn run<F, Fut>(self: Arc<Self>, call: F, stop: CancellationToken)
    where
        F: Fn(Vec<Q>) -> Fut,
        Fut: Future<Output = Result<Answers<A>, NoAnswer>>,
    {
        let mut pace = Pace::new();
        let mut unanswered: Option<Called<A>> = None;
        loop {
            self.gather(&mut pace, &mut unanswered, &stop).await;
            let (requests, spans) = self.take_batch();
            let before = unanswered.take();
            if !requests.is_empty() {
                let size = requests.len();
                let span = Span::of_batch(self.verb, &spans);
                pace.started();
                let call = self.run_call(span.scope(call(requests)));
                // The call sends its statement when it is first polled. While the database works on it, the batch before is
                // answered.
                let answer = async {
                    if let Some(before) = before {
                        self.answer(before);
                    }
                };
                let (called, ()) = tokio::join!(biased; call, answer);
                let waiting = lock(&self.queue).waiting.len();
                pace.ended(size, waiting, called.waited());
                unanswered = Some(called);
            } else if let Some(before) = before {
                self.answer(before);
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

    /// Waits until as many requests wait as `pace` expects, until its end, or for a quarter of the time that a request may
    /// wait. If it waits, it first answers the batch before. Then it takes in what has arrived, see [`YIELDS`].
    async fn gather(
        &self,
        pace: &mut Pace,
        before: &mut Option<Called<A>>,
        stop: &CancellationToken,
    ) {
        let Limits { batch, depth, wait } = self.limits;
        let wanted = pace.expected().min(batch).min(depth);
        let start = Instant::now();
        // The requests have a limit, too.
        let latest = start + wait / 4;
        while start < pace.end() && self.is_short_of(wanted) {
            if let Some(before) = before.take() {
                self.answer(before);
                pace.answered();
            }
            tokio::select! {
                () = self.arrived.notified() => {}
                () = sleep_until(pace.end().min(latest)) => break,
                () = stop.cancelled() => break,
            }
        }
        for _ in 0..YIELDS {
            if !self.is_short_of(wanted) {
                break;
            }
            yield_now().await;
        }
        lock(&self.queue).wanted = 0;
    }

    /// Whether fewer requests wait. Then the lane is woken when so many do.
    fn is_short_of(&self, wanted: usize) -> bool {
        let mut queue = lock(&self.queue);
        queue.wanted = wanted;
        queue.waiting.is_shorter_than(wanted)
    }

    /// Runs the call of one batch. Meanwhile it refuses requests that are in the queue for too long.
    async fn run_call(
        &self,
        call: impl Future<Output = Result<Answers<A>, NoAnswer>>,
    ) -> Called<A> {
        let call = AssertUnwindSafe(call).catch_unwind();
        tokio::pin!(call);
        let outcome = loop {
            tokio::select! {
                outcome = &mut call => break outcome.unwrap_or_else(|_| Err(self.panicked("a call"))),
                () = sleep(self.limits.wait / 4) => self.refuse_overdue(),
            }
        };
        let replies = std::mem::take(&mut *lock(&self.in_flight));
        Called { replies, outcome }
    }

    /// Answers the requests of a batch.
    fn answer(&self, called: Called<A>) {
        let Called { replies, outcome } = called;
        let answers = outcome.and_then(|answers| {
            let answers = catch_unwind(AssertUnwindSafe(|| answers.make()))
                .map_err(|_| self.panicked("an answer"))?;
            // Answers are matched to requests by order. With a wrong number of answers, no request gets an answer,
            // because it could be the answer of another request.
            if answers.len() == replies.len() {
                return Ok(answers);
            }
            tracing::error!(
                verb = self.verb,
                "a call returned a wrong number of answers"
            );
            Err(NoAnswer::OutcomeUnknown)
        });
        // A failed send means that the client has disconnected. A retry of the client finds the outcome.
        match answers {
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

    /// Logs a panic, which is a bug, and must only affect its batch.
    fn panicked(&self, what: &str) -> NoAnswer {
        tracing::error!(verb = self.verb, "{what} panicked");
        NoAnswer::OutcomeUnknown
    }

    fn push(&self, key: i64, waiting: Waiting<Q, A>) -> Result<(), NoAnswer> {
        let mut queue = lock(&self.queue);
        if !queue.waiting.has_room(key, self.limits.depth) {
            return Err(queue.overload.refused());
        }
        queue.waiting.push(key, waiting);
        self.wake(queue);
        Ok(())
    }

    /// Returns the request if the next batch may have no room for it. Requests without a key use at most half of the
    /// queue, so that those with a key can have their shares.
    fn push_unkeyed(&self, waiting: Waiting<Q, A>) -> Result<(), Waiting<Q, A>> {
        let mut queue = lock(&self.queue);
        let Limits { batch, depth, .. } = self.limits;
        if !queue.waiting.is_shorter_than(batch.min(depth / 2)) {
            return Err(waiting);
        }
        queue.waiting.push(UNKEYED, waiting);
        self.wake(queue);
        Ok(())
    }

    fn wake(&self, queue: MutexGuard<'_, Queue<Q, A>>) {
        let is_wanted = !queue.waiting.is_shorter_than(queue.wanted);
        drop(queue);
        if is_wanted {
            self.arrived.notify_one();
        }
    }

    fn take_batch(&self) -> Batch<Q> {
        self.refuse_overdue();
        let mut queue = lock(&self.queue);
        queue.overload.settle();
        let mut batch = Batch::default();
        let mut in_flight = lock(&self.in_flight);
        queue.waiting.take(self.limits.batch, |next| {
            // Requests of disconnected clients do not use the room in the batch.
            if next.reply.is_closed() {
                return false;
            }
            batch.0.push(next.request);
            in_flight.push(next.reply);
            batch.1.push(next.span);
            true
        });
        batch
    }

    fn refuse_overdue(&self) {
        let Queue {
            waiting, overload, ..
        } = &mut *lock(&self.queue);
        let now = Instant::now();
        waiting.remove_overdue(
            |oldest| now.duration_since(oldest.since) > self.limits.wait,
            |overdue| {
                let _ = overdue.reply.send(Err(overload.refused()));
            },
        );
    }
}
