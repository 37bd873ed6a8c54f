//! A verb that handles many requests in one call, and its lanes. Requests with an idempotency key have lanes of their
//! own, because their batch also reads and writes keys.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::response::IntoResponse;
use futures_util::{FutureExt as _, future::BoxFuture};
use inventory::{
    Error, Executor, ProductId, ReservationId,
    batch::Batch,
    database::Connections,
    idempotency::{self, Executed, Key, KeyOutcome, StoredOutcome, WorkOutcome},
    reservation::{Refusal, Reservation},
};
use lanes::{Answers, NoAnswer};
use sqlx::PgConnection;

use crate::{
    Problem,
    after_commit::AfterCommit,
    answer::Answer,
    idempotency::{Rendered, from_stored, render_again, to_stored},
    lane_builder::{LaneBuilder, LaneConnections, LockOf, ProductsOf, VerbLanes},
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

/// How a verb handles requests with new keys in one call, instead of in a transaction of several calls.
pub(crate) struct AtOnce<Q> {
    /// Does the work and stores the outcomes. `None`: nothing was done, because a key is not new.
    pub(crate) work: Box<Work<Q>>,
    /// The outcome of an earlier request, from what `work` has stored.
    pub(crate) restore: fn(&StoredOutcome, &Q) -> Result<Outcome, Error>,
}

type Work<Q> = dyn for<'a> Fn(Connections<'a>, &'a [Key], &'a [Q]) -> BoxFuture<'a, Result<Option<Batch>, Error>>
    + Send
    + Sync;

/// A verb and its lanes.
pub(crate) struct Verb<Q, A> {
    plain: VerbLanes<Q, Outcome>,
    keyed: VerbLanes<(Key, Q), Result<Rendered<A>, Problem>>,
    render: Render<A>,
}

/// Runs the verb, in a call of its own or as a part of a transaction.
type Decide<Q> =
    Arc<dyn for<'a> Fn(Executor<'a>, Vec<Q>) -> BoxFuture<'a, Result<Batch, Error>> + Send + Sync>;

impl<Q, A> Verb<Q, A>
where
    Q: Clone + Send + Sync + 'static,
    A: IntoResponse + Send + 'static,
{
    /// Starts the lanes.
    pub(crate) fn start<F>(builder: &LaneBuilder, spec: VerbSpec<Q, A>, decide: F) -> Self
    where
        F: for<'a> Fn(Executor<'a>, Vec<Q>) -> BoxFuture<'a, Result<Batch, Error>>
            + Send
            + Sync
            + 'static,
    {
        Self::start_with(builder, spec, decide, None)
    }

    /// As `start`, for a verb that can handle requests with keys `at_once`.
    pub(crate) fn start_with<F>(
        builder: &LaneBuilder,
        spec: VerbSpec<Q, A>,
        decide: F,
        at_once: Option<AtOnce<Q>>,
    ) -> Self
    where
        F: for<'a> Fn(Executor<'a>, Vec<Q>) -> BoxFuture<'a, Result<Batch, Error>>
            + Send
            + Sync
            + 'static,
    {
        let decide: Decide<Q> = Arc::new(decide);
        Self {
            plain: plain_lanes(builder, &spec, Arc::clone(&decide)),
            keyed: keyed_lanes(builder, &spec, decide, at_once),
            render: spec.render,
        }
    }

    /// Runs the request in the lane of its product, and returns the answer.
    pub(crate) async fn answer(
        &self,
        product: ProductId,
        key: Option<Key>,
        request: Q,
    ) -> Result<Rendered<A>, Problem> {
        let turn = product.get();
        match key {
            None => {
                let outcome = self.plain.ask(turn, request).await??;
                (self.render)(outcome).map(Rendered::from)
            }
            Some(key) => self.keyed.ask(turn, (key, request)).await??,
        }
    }
}

/// A verb for reservations that exist. Its requests do not name the product, whose turn it is in the queue. Therefore it
/// is looked up when the queue is long. It has one lane for requests without a key, and one for requests with a key.
pub(crate) struct ReservationVerb<Q, A> {
    verb: Verb<Q, A>,
    products: ProductsOf,
}

impl<Q, A> ReservationVerb<Q, A>
where
    Q: Clone + Send + Sync + 'static,
    A: IntoResponse + Send + 'static,
{
    /// Starts the lanes.
    pub(crate) fn start<F>(
        builder: &LaneBuilder,
        name: &'static str,
        lock_of: fn(&Q) -> LockOf,
        render: Render<A>,
        decide: F,
    ) -> Self
    where
        F: for<'a> Fn(Executor<'a>, Vec<Q>) -> BoxFuture<'a, Result<Batch, Error>>
            + Send
            + Sync
            + 'static,
    {
        let spec = VerbSpec {
            name,
            lanes: 1,
            lock_of,
            render,
        };
        Self {
            verb: Verb::start(builder, spec, decide),
            products: builder.products_of(),
        }
    }

    /// Runs the request about this reservation, and returns the answer.
    pub(crate) async fn answer(
        &self,
        id: ReservationId,
        key: Option<Key>,
        request: Q,
    ) -> Result<Rendered<A>, Problem> {
        let turn = || self.turn(id);
        match key {
            None => {
                let outcome = self.verb.plain.ask_unkeyed(turn, request).await??;
                (self.verb.render)(outcome).map(Rendered::from)
            }
            Some(key) => self.verb.keyed.ask_unkeyed(turn, (key, request)).await??,
        }
    }

    async fn turn(&self, id: ReservationId) -> Result<i64, NoAnswer> {
        match self.products.ask(id.get(), id).await {
            // Requests for unknown ids share one turn, because no product has the id 0.
            Ok(product) => Ok(product.map_or(0, ProductId::get)),
            // Whatever happened to the read: nothing was done for the request.
            Err(_) => Err(NoAnswer::Overloaded),
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
    let call = move |connections: LaneConnections, requests| {
        let (after_commit, decide) = (after_commit.clone(), decide.clone());
        async move {
            let batch = decide(Executor::Alone((&connections).into()), requests).await?;
            Ok(answers_of(batch, after_commit, |outcomes| outcomes))
        }
    };
    builder.verb_lanes(spec.name, spec.lanes, spec.lock_of, call)
}

fn keyed_lanes<Q, A>(
    builder: &LaneBuilder,
    spec: &VerbSpec<Q, A>,
    decide: Decide<Q>,
    at_once: Option<AtOnce<Q>>,
) -> VerbLanes<(Key, Q), Result<Rendered<A>, Problem>>
where
    Q: Clone + Send + Sync + 'static,
    A: IntoResponse + Send + 'static,
{
    let (after_commit, render) = (builder.after_commit.clone(), spec.render);
    let at_once = at_once.map(Arc::new);
    // Whether the previous batch had keys that were not new. After an overload, many clients repeat their requests.
    // Then an attempt as if all keys were new would mostly be work that is rolled back.
    let had_repeats = Arc::new(AtomicBool::new(false));
    let call = move |connections: LaneConnections, requests: Vec<(Key, Q)>| {
        let (after_commit, decide) = (after_commit.clone(), decide.clone());
        let (at_once, had_repeats) = (at_once.clone(), Arc::clone(&had_repeats));
        async move {
            let (keys, requests): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
            let work = || execute_in_transaction(requests.clone(), decide.clone(), render);
            let mut executed = None;
            if !had_repeats.load(Relaxed) {
                if let Some(at_once) = &at_once {
                    if let Some(batch) =
                        (at_once.work)((&connections).into(), &keys, &requests).await?
                    {
                        let answer = move |outcome| render(outcome).map(Rendered::from);
                        return Ok(answers_of(batch, after_commit, move |outcomes| {
                            outcomes.into_iter().map(answer).collect()
                        }));
                    }
                } else {
                    executed = idempotency::execute_new(&connections, &keys, work()).await?;
                }
            }
            let executed = match executed {
                Some(executed) => executed,
                None => idempotency::execute_once(&connections, &keys, work()).await?,
            };
            let (outcomes, done) = match executed {
                Executed::Undone(problem) => {
                    let answers: Vec<_> = keys.iter().map(|_| Err(problem.clone())).collect();
                    return Ok(answers.into());
                }
                Executed::Kept(outcomes, done) => (outcomes, done),
            };
            let mut waited = Duration::ZERO;
            if let Some(batch) = done {
                waited = batch.waited;
                after_commit.tell(batch.transitions());
            }
            let is_new = |outcome| matches!(outcome, &KeyOutcome::Done(_));
            had_repeats.store(!outcomes.iter().all(is_new), Relaxed);
            let answers = outcomes.into_iter().zip(&requests);
            let answers = answers.map(|(outcome, request)| match (outcome, &at_once) {
                (KeyOutcome::ReplayedReserve(stored), Some(at_once)) => {
                    let outcome = (at_once.restore)(&stored, request)?;
                    Ok(Ok(render_again(render(outcome))))
                }
                (outcome, _) => Ok(from_stored(outcome)),
            });
            let answers: Vec<_> = answers.collect::<Result<_, Error>>()?;
            Ok(Answers::from(answers).after_wait(waited))
        }
    };
    let lock_of = spec.lock_of;
    let lock_of = move |(_, request): &(Key, Q)| lock_of(request);
    builder.verb_lanes(spec.name, spec.lanes, lock_of, call)
}

/// The answers that `make` makes of the outcomes of a batch. Before, they tell its transitions.
fn answers_of<A: 'static>(
    batch: Batch,
    after_commit: AfterCommit,
    make: impl FnOnce(Vec<Outcome>) -> Vec<A> + Send + 'static,
) -> Answers<A> {
    let waited = batch.waited;
    let answers = move || {
        after_commit.tell(batch.transitions());
        make(batch.answers)
    };
    Answers::later(answers).after_wait(waited)
}

type WorkFuture<'a> = BoxFuture<'a, Result<WorkOutcome<Batch, Problem>, Error>>;

/// The work of [`idempotency::execute_once`] for those of `requests` that are new.
fn execute_in_transaction<Q, A>(
    requests: Vec<Q>,
    decide: Decide<Q>,
    render: Render<A>,
) -> impl for<'a> FnOnce(&'a mut PgConnection, Vec<usize>) -> WorkFuture<'a>
where
    Q: Clone + Send + Sync + 'static,
    A: IntoResponse + Send + 'static,
{
    move |transaction, new| {
        let new = new.into_iter().map(|position| requests[position].clone());
        let new = new.collect();
        let work = async move {
            let batch = decide(Executor::Transaction(transaction), new).await?;
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
    }
}

/// Renders the outcome of a verb that changes an existing reservation.
pub(crate) fn shown(outcome: Outcome) -> Result<Answer<Reservation>, Problem> {
    Ok(Answer(outcome?))
}
