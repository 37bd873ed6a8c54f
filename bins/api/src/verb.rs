//! A verb that handles many requests in one call, and its lanes. Requests with an idempotency key have lanes of their
//! own, because their batch is a transaction that also reads and writes keys.

use std::sync::Arc;

use axum::response::IntoResponse;
use futures_util::{FutureExt as _, future::BoxFuture};
use inventory::{
    Error, Executor,
    batch::Batch,
    idempotency::{self, Executed, Key, WorkOutcome},
    reservation::{Refusal, Reservation},
};
use lanes::Turn;

use crate::{
    Problem,
    answer::Answer,
    idempotency::{Rendered, from_stored, to_stored},
    lane_builder::{LaneBuilder, LockOf, VerbLanes},
};

/// The result of one request: the reservation, or a refusal.
pub(crate) type Outcome = Result<Reservation, Refusal>;

/// How a verb is answered over HTTP.
pub(crate) struct VerbSpec<Q, A> {
    pub(crate) name: &'static str,
    /// Number of lanes for requests without a key. Requests with a key get the same number of lanes.
    pub(crate) lanes: usize,
    pub(crate) lock_of: fn(&Q) -> LockOf,
    pub(crate) render: Render<A>,
}

type Render<A> = fn(Outcome) -> Result<A, Problem>;

/// A verb and its lanes.
pub(crate) struct Verb<Q, A> {
    plain: VerbLanes<Q, Outcome>,
    keyed: VerbLanes<(Key, Q), Result<Rendered<A>, Problem>>,
    render: Render<A>,
}

/// Runs the verb. It gets its turn in the lane if the call is a transaction of its own.
type Decide<Q> = Arc<
    dyn for<'a> Fn(Executor<'a>, Vec<Q>, Option<Turn<Q>>) -> BoxFuture<'a, Result<Batch, Error>>
        + Send
        + Sync,
>;

impl<Q, A> Verb<Q, A>
where
    Q: Clone + Send + Sync + 'static,
    A: IntoResponse + Send + 'static,
{
    /// Starts the lanes.
    pub(crate) fn start<F>(builder: &LaneBuilder, spec: VerbSpec<Q, A>, decide: F) -> Self
    where
        F: for<'a> Fn(Executor<'a>, Vec<Q>, Option<Turn<Q>>) -> BoxFuture<'a, Result<Batch, Error>>
            + Send
            + Sync
            + 'static,
    {
        let decide: Decide<Q> = Arc::new(decide);
        Self {
            plain: plain_lanes(builder, &spec, Arc::clone(&decide)),
            keyed: keyed_lanes(builder, &spec, decide),
            render: spec.render,
        }
    }

    /// Runs the request in the lane of its row, and returns the answer.
    pub(crate) async fn answer(
        &self,
        row: i64,
        key: Option<Key>,
        request: Q,
    ) -> Result<Rendered<A>, Problem> {
        match key {
            None => {
                let outcome = self.plain.ask(row, request).await??;
                (self.render)(outcome).map(Rendered::from)
            }
            Some(key) => self.keyed.ask(row, (key, request)).await??,
        }
    }
}

fn plain_lanes<Q, A>(
    builder: &LaneBuilder,
    spec: &VerbSpec<Q, A>,
    decide: Decide<Q>,
) -> VerbLanes<Q, Outcome>
where
    Q: Clone + Send + Sync + 'static,
{
    let after_commit = builder.after_commit.clone();
    let call = move |pool, requests, turn| {
        let (after_commit, decide) = (after_commit.clone(), decide.clone());
        async move {
            let batch = decide(Executor::Pool(&pool), requests, Some(turn)).await?;
            after_commit.tell(batch.transitions());
            Ok(batch.answers)
        }
    };
    builder.verb_lanes(spec.name, spec.lanes, spec.lock_of, call)
}

fn keyed_lanes<Q, A>(
    builder: &LaneBuilder,
    spec: &VerbSpec<Q, A>,
    decide: Decide<Q>,
) -> VerbLanes<(Key, Q), Result<Rendered<A>, Problem>>
where
    Q: Clone + Send + Sync + 'static,
    A: IntoResponse + Send + 'static,
{
    let (after_commit, render) = (builder.after_commit.clone(), spec.render);
    let call = move |pool, requests: Vec<(Key, Q)>, _| {
        let (after_commit, decide) = (after_commit.clone(), decide.clone());
        async move {
            let (keys, requests): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
            let once = idempotency::execute_batch_once(&pool, &keys, move |transaction, new| {
                let decide = decide.clone();
                let new = new.into_iter().map(|position| requests[position].clone());
                let new = new.collect();
                let work = async move {
                    let batch = decide(Executor::Transaction(transaction), new, None).await?;
                    let mut answers = Vec::with_capacity(batch.answers.len());
                    for outcome in &batch.answers {
                        match to_stored(render(outcome.clone())).await {
                            Ok(answer) => answers.push(answer),
                            Err(problem) => return Ok(WorkOutcome::Undo(problem)),
                        }
                    }
                    Ok(WorkOutcome::Keep(answers, batch))
                };
                work.boxed()
            });
            Ok(match once.await? {
                Executed::Undone(problem) => keys.iter().map(|_| Err(problem.clone())).collect(),
                Executed::Kept(outcomes, done) => {
                    if let Some(batch) = done {
                        after_commit.tell(batch.transitions());
                    }
                    outcomes.into_iter().map(from_stored).collect()
                }
            })
        }
    };
    let lock_of = spec.lock_of;
    let lock_of = move |(_, request): &(Key, Q)| lock_of(request);
    builder.verb_lanes(spec.name, spec.lanes, lock_of, call)
}

/// Renders the outcome of a verb that changes an existing reservation.
pub(crate) fn shown(outcome: Outcome) -> Result<Answer<Reservation>, Problem> {
    Ok(Answer(outcome?))
}
