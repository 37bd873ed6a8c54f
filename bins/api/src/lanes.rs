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
//! The queue of a lane is bounded, and so is the time in it. As long as a request is in the queue, nothing was
//! done for it: it can be refused with a clear conscience ([`NoAnswer::Overloaded`]), and it is
//! dropped if its client hung up.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::sync::{Notify, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

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
    limits: Limits,
    waiting: Mutex<VecDeque<Waiting<Q, A>>>,
    arrived: Notify,
}

struct Waiting<Q, A> {
    request: Q,
    reply: oneshot::Sender<Result<A, NoAnswer>>,
    since: Instant,
}

impl<Q: Send + 'static, A: Send + 'static> Lanes<Q, A> {
    /// Starts `count` lanes, each of which calls `verb` with one batch at a time and expects one answer
    /// for each request, in order. They end once `stop` is cancelled and their queues are empty.
    pub(crate) fn start<F, Fut>(
        count: usize,
        limits: Limits,
        tasks: &TaskTracker,
        stop: &CancellationToken,
        verb: F,
    ) -> Self
    where
        F: Fn(Vec<Q>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Vec<A>, NoAnswer>> + Send + 'static,
    {
        let lanes: Vec<_> = (0..count)
            .map(|_| {
                Arc::new(Lane {
                    limits,
                    waiting: Mutex::new(VecDeque::new()),
                    arrived: Notify::new(),
                })
            })
            .collect();
        for lane in &lanes {
            tasks.spawn(Arc::clone(lane).run(verb.clone(), stop.clone()));
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
        })?;
        // The lane answers everybody; it can vanish only with the process.
        answer.await.unwrap_or(Err(NoAnswer::OutcomeUnknown))
    }
}

impl<Q: Send + 'static, A: Send + 'static> Lane<Q, A> {
    async fn run<F, Fut>(self: Arc<Self>, verb: F, stop: CancellationToken)
    where
        F: Fn(Vec<Q>) -> Fut,
        Fut: Future<Output = Result<Vec<A>, NoAnswer>>,
    {
        loop {
            let (requests, replies) = self.take_batch();
            if !requests.is_empty() {
                self.serve(verb(requests), replies).await;
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
    async fn serve(
        &self,
        call: impl Future<Output = Result<Vec<A>, NoAnswer>>,
        replies: Vec<oneshot::Sender<Result<A, NoAnswer>>>,
    ) {
        // A panic is a bug; it must cost its batch, not the lane.
        let call = AssertUnwindSafe(call).catch_unwind();
        tokio::pin!(call);
        let outcome = loop {
            tokio::select! {
                outcome = &mut call => break outcome.unwrap_or(Err(NoAnswer::OutcomeUnknown)),
                () = tokio::time::sleep(self.limits.wait / 4) => self.refuse_overdue(),
            }
        };
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
        let mut queue = self.queue();
        if queue.len() >= self.limits.depth {
            return Err(NoAnswer::Overloaded);
        }
        queue.push_back(waiting);
        drop(queue);
        self.arrived.notify_one();
        Ok(())
    }

    fn take_batch(&self) -> (Vec<Q>, Vec<oneshot::Sender<Result<A, NoAnswer>>>) {
        self.refuse_overdue();
        let mut queue = self.queue();
        let size = queue.len().min(self.limits.batch);
        queue
            .drain(..size)
            .filter(|waiting| !waiting.reply.is_closed())
            .map(|waiting| (waiting.request, waiting.reply))
            .unzip()
    }

    fn refuse_overdue(&self) {
        let mut queue = self.queue();
        while queue
            .front()
            .is_some_and(|oldest| oldest.since.elapsed() > self.limits.wait)
        {
            if let Some(overdue) = queue.pop_front() {
                let _ = overdue.reply.send(Err(NoAnswer::Overloaded));
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Waiting<Q, A>>> {
        // Nothing panics while it holds the lock; were it to, the queue would still be whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
