//! Calls without a lane: lists, admin requests, and reserves of several products. The number of concurrent calls is
//! limited, for one product to less than half of it, and each call has a task of its own.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::response::IntoResponse;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, try_join_all},
};
use inventory::{
    Error, Executor, ProductId, ReservationId,
    idempotency::{self, Executed, Key, WorkOutcome},
};
use lanes::{NoAnswer, Overload};
use runtime::lock;
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use trace::Span;

use crate::{
    Problem,
    after_commit::AfterCommit,
    failed_calls::FailedCalls,
    idempotency::{Rendered, from_stored, to_stored},
    lane_builder::ProductsOf,
    permits::{Permit, Permits, UNNAMED},
};

/// The products whose locks a call needs.
pub(crate) enum About {
    /// None: the call only reads, or creates.
    Nothing,
    Products(Vec<ProductId>),
    /// The products of these reservations. They are looked up if many such calls run.
    Reservations(Vec<ReservationId>),
    /// A product that is not known. All such calls together have the share of one product.
    Unknown,
}

pub(crate) struct Bulkhead {
    pool: PgPool,
    after_commit: AfterCommit,
    permits: Permits,
    products: ProductsOf,
    wait: Duration,
    overload: Mutex<Overload>,
    failed_calls: Arc<FailedCalls>,
    tasks: TaskTracker,
}

impl Bulkhead {
    /// The number of permits is half of the pool's number of connections. Lanes always have the other half, however
    /// long these calls wait.
    pub(crate) fn new(
        pool: PgPool,
        after_commit: AfterCommit,
        failed_calls: Arc<FailedCalls>,
        tasks: TaskTracker,
        products: ProductsOf,
    ) -> Self {
        let options = pool.options();
        let permits = options.get_max_connections().div_ceil(2) as usize;
        Self {
            permits: Permits::new(permits),
            products,
            wait: options.get_acquire_timeout(),
            overload: Mutex::new(Overload::new("others")),
            pool,
            after_commit,
            failed_calls,
            tasks,
        }
    }

    /// The pool for the calls.
    pub(crate) fn pool(&self) -> PgPool {
        self.pool.clone()
    }

    /// The followers to tell after a commit.
    pub(crate) fn after_commit(&self) -> AfterCommit {
        self.after_commit.clone()
    }

    /// As [`Self::execute_about`], for a call that locks no product.
    pub(crate) async fn execute<T, Fut>(&self, verb: &'static str, work: Fut) -> Result<T, Problem>
    where
        T: Send + 'static,
        Fut: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.execute_about(About::Nothing, verb, work).await
    }

    /// Runs database work in a task of its own. If a client disconnects, the future of its request is dropped. A call
    /// that is dropped halfway would leave its connection in an unknown state.
    pub(crate) async fn execute_about<T, Fut>(
        &self,
        about: About,
        verb: &'static str,
        work: Fut,
    ) -> Result<T, Problem>
    where
        T: Send + 'static,
        Fut: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let permit = self.permit(about).await?;
        let work = Span::current().scope(work);
        let work = async move {
            let done = work.await;
            drop(permit);
            done
        };
        match self.tasks.spawn(work).await {
            Ok(done) => Ok(self.failed_calls.answer(verb, 1, done)?),
            Err(panicked) => {
                tracing::error!(verb, error = %panicked, "a call panicked");
                Err(Problem::Internal)
            }
        }
    }

    /// Does the work of one request. If the request has a key, the work is part of the key's transaction. `tell` gets
    /// the result after the commit.
    pub(crate) async fn execute_once<T, A, W, B, R>(
        &self,
        verb: &'static str,
        about: About,
        key: Option<Key>,
        work: W,
        tell: B,
        render: R,
    ) -> Result<Rendered<A>, Problem>
    where
        T: Send + 'static,
        A: IntoResponse + Send + 'static,
        W: for<'a> FnOnce(Executor<'a>) -> BoxFuture<'a, Result<T, Error>> + Send + 'static,
        B: FnOnce(&AfterCommit, &T) + Send + 'static,
        R: FnOnce(&T) -> Result<A, Problem> + Send + 'static,
    {
        let (pool, after_commit) = (self.pool(), self.after_commit());
        let Some(key) = key else {
            let worked = async move {
                let done = work(Executor::from(&pool)).await?;
                tell(&after_commit, &done);
                Ok(done)
            };
            return render(&self.execute_about(about, verb, worked).await?).map(Rendered::from);
        };
        let kept = async move {
            let once = idempotency::execute_once(&pool, &[key], move |transaction, _| {
                let work = async move {
                    let done = work(Executor::Transaction(transaction)).await?;
                    Ok(match to_stored(render(&done)).await {
                        Ok(answer) => WorkOutcome::Keep(vec![answer], done),
                        Err(problem) => WorkOutcome::Undo(problem),
                    })
                };
                work.boxed()
            })
            .await?;
            Ok(match once {
                Executed::Undone(problem) => Err(problem),
                Executed::Kept(outcomes, done) => {
                    if let Some(done) = done {
                        tell(&after_commit, &done);
                    }
                    let outcome = outcomes.into_iter().next();
                    outcome.map_or(Err(Problem::Internal), from_stored)
                }
            })
        };
        self.execute_about(about, verb, kept).await?
    }

    /// Waits for a permit. The permit is free again when it is dropped.
    async fn permit(&self, about: About) -> Result<Permit, NoAnswer> {
        let permit = timeout(self.wait, self.permit_about(about)).await;
        let mut overload = lock(&self.overload);
        overload.settle();
        permit.ok().flatten().ok_or_else(|| overload.refused())
    }

    /// `None` if the products could not be looked up.
    async fn permit_about(&self, about: About) -> Option<Permit> {
        let keys = match about {
            About::Nothing => Vec::new(),
            About::Products(products) => products.into_iter().map(ProductId::get).collect(),
            About::Unknown => vec![UNNAMED],
            About::Reservations(ids) => {
                if let Some(permit) = self.permits.try_acquire(&[UNNAMED]) {
                    return Some(permit);
                }
                let products = ids.iter().map(|id| self.products.ask(id.get(), *id));
                let products = try_join_all(products).await.ok()?;
                products.into_iter().flatten().map(ProductId::get).collect()
            }
        };
        self.permits.acquire(keys).await
    }
}
