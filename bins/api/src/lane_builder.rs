//! Builds lanes, with their connections, limits and metrics.

use std::sync::Arc;

use inventory::{
    Error, ProductId, ReservationId, compatibility,
    database::{self, OwnSession, Rehearsal},
    locked::{self, Holder},
};
use lanes::{Answers, Lanes, Limits, LockProbe, NoAnswer, Quarantine};
use sqlx::PgPool;
use tokio::sync::SetOnce;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{after_commit::AfterCommit, failed_calls::FailedCalls, metrics::Metrics};

/// Lanes of a verb. A request whose product is blocked gets `NoAnswer`.
pub(crate) type VerbLanes<Q, A> = Lanes<Q, Result<A, NoAnswer>>;

/// Reads of the products of reservations. `None`: no such reservation.
pub(crate) type ProductsOf = Lanes<ReservationId, Option<ProductId>>;

/// Which lanes share a connection.
#[derive(Clone)]
pub(crate) enum Sharing {
    /// Each call takes a connection from the pool.
    Pool,
    /// Each lane has one connection of its own, which is always open, and uses it for every batch, so that the data of
    /// its PostgreSQL process stays in the processor's cache. It is opened as soon as this is set: PostgreSQL can be used.
    OnePerLane(Arc<SetOnce<()>>),
}

/// The connections of one lane.
#[derive(Clone)]
pub(crate) enum LaneConnections {
    Shared(PgPool),
    Own(OwnSession),
}

impl<'a> From<&'a LaneConnections> for database::Connections<'a> {
    fn from(connections: &'a LaneConnections) -> Self {
        match connections {
            LaneConnections::Shared(pool) => pool.into(),
            LaneConnections::Own(session) => session.into(),
        }
    }
}

/// Builds lanes.
#[derive(Clone)]
pub(crate) struct LaneBuilder {
    pub(crate) sharing: Sharing,
    pub(crate) limits: Limits,
    pub(crate) pool: PgPool,
    pub(crate) after_commit: AfterCommit,
    pub(crate) blocked: BlockedProducts,
    pub(crate) metrics: &'static Metrics,
    pub(crate) failed_calls: Arc<FailedCalls>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl LaneBuilder {
    /// Lanes whose calls lock products. Requests of blocked products are not part of the calls.
    pub(crate) fn verb_lanes<Q, A, L, F, Fut>(
        &self,
        verb: &'static str,
        count: usize,
        lock_of: L,
        call: F,
    ) -> VerbLanes<Q, A>
    where
        L: Fn(&Q) -> LockOf + Clone + Send + Sync + 'static,
        Q: Clone + Send + Sync + 'static,
        A: Send + 'static,
        F: Fn(LaneConnections, Vec<Q>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Answers<A>, Error>> + Send + 'static,
    {
        let blocked = self.blocked.clone();
        let call = move |connections: LaneConnections, requests| {
            let (blocked, lock_of, call) = (blocked.clone(), lock_of.clone(), call.clone());
            async move {
                let call = |requests| call(connections.clone(), requests);
                blocked.run_without(requests, &lock_of, &call).await
            }
        };
        self.start(verb, count, || self.connections_of_lane(), call)
    }

    fn connections_of_lane(&self) -> LaneConnections {
        match &self.sharing {
            Sharing::Pool => LaneConnections::Shared(self.pool.clone()),
            Sharing::OnePerLane(usable) => {
                let session = OwnSession::beside(&self.pool, Rehearsal::Reserve);
                let (opened, usable) = (session.clone(), Arc::clone(usable));
                tokio::spawn(async move {
                    usable.wait().await;
                    opened.keep_open().await;
                });
                LaneConnections::Own(session)
            }
        }
    }

    /// The same builder, but for lanes with connections of their own.
    pub(crate) fn with_own_connections(&self, monitoring_pool: &PgPool) -> Self {
        let (usable, pool) = (Arc::new(SetOnce::new()), monitoring_pool.clone());
        let found = Arc::clone(&usable);
        tokio::spawn(async move {
            compatibility::until_usable(&pool).await;
            found.set(())
        });
        Self {
            sharing: Sharing::OnePerLane(usable),
            ..self.clone()
        }
    }

    /// Reads of the products of reservations.
    pub(crate) fn products_of(&self) -> ProductsOf {
        let find = async |pool, ids: Vec<ReservationId>| locked::products_of(&pool, &ids).await;
        self.lanes("product_of", 1, find)
    }

    /// Lanes whose calls only read. They share the pool.
    pub(crate) fn lanes<Q, A, F, Fut>(
        &self,
        verb: &'static str,
        count: usize,
        call: F,
    ) -> Lanes<Q, A>
    where
        Q: Send + 'static,
        A: Send + 'static,
        F: Fn(PgPool, Vec<Q>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Vec<A>, Error>> + Send + 'static,
    {
        let call = move |pool, requests| {
            let call = call(pool, requests);
            async move { Ok(call.await?.into()) }
        };
        self.start(verb, count, || self.pool.clone(), call)
    }

    fn start<Q, A, C, F, Fut>(
        &self,
        verb: &'static str,
        count: usize,
        connections_of_lane: impl Fn() -> C,
        call: F,
    ) -> Lanes<Q, A>
    where
        Q: Send + 'static,
        A: Send + 'static,
        C: Clone + Send + 'static,
        F: Fn(C, Vec<Q>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Answers<A>, Error>> + Send + 'static,
    {
        let (size, duration) = self.metrics.batches(verb);
        let call_of_lane = || {
            let connections = connections_of_lane();
            let (size, duration, call) = (size.clone(), duration.clone(), call.clone());
            let failed_calls = Arc::clone(&self.failed_calls);
            move |requests: Vec<Q>| {
                let count = requests.len();
                let (size, failed_calls) = (size.clone(), Arc::clone(&failed_calls));
                let timed = duration.start_timer();
                let call = call(connections.clone(), requests);
                async move {
                    let answers = call.await;
                    timed.observe_duration();
                    size.observe(count as f64);
                    failed_calls.answer(verb, count, answers)
                }
            }
        };
        Lanes::start(
            verb,
            count,
            self.limits,
            &self.tasks,
            &self.stop,
            call_of_lane,
        )
    }
}

/// The quarantine of products whose row another session keeps locked.
pub(crate) type BlockedProducts = Quarantine<ProductLocks>;

/// The product whose lock a request needs.
pub(crate) enum LockOf {
    Product(ProductId),
    /// The product of this reservation.
    ProductOf(ReservationId),
}

/// Reads the locks of products.
pub(crate) struct ProductLocks(pub(crate) PgPool);

impl LockProbe for ProductLocks {
    type Row = ProductId;
    type Need = LockOf;
    type Error = Error;

    fn is_lock_timeout(error: &Error) -> bool {
        error.is_lock_timeout()
    }

    async fn rows(&self, needs: Vec<LockOf>) -> Result<Vec<Option<ProductId>>, Error> {
        let mut ids = Vec::new();
        let mut products: Vec<Option<ProductId>> = Vec::with_capacity(needs.len());
        for need in needs {
            match need {
                LockOf::Product(product) => products.push(Some(product)),
                LockOf::ProductOf(id) => ids.push(id),
            }
        }
        // All requests of a verb have the same kind of `LockOf`, so `needs` has either products or reservations.
        if products.is_empty() {
            products = locked::products_of(&self.0, &ids).await?;
        }
        Ok(products)
    }

    async fn locked(&self, products: Vec<ProductId>) -> Result<Vec<ProductId>, Error> {
        locked::now(&self.0, &products).await
    }

    async fn locked_by(&self, product: ProductId) -> Result<Option<&'static str>, Error> {
        let holder = locked::for_long(&self.0, product).await?;
        Ok(holder.map(|holder| match holder {
            Holder::Session => "another session",
            Holder::WaitingCommit => "a commit that waits for a synchronous standby",
        }))
    }
}
