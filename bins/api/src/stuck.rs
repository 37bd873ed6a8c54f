//! Products that somebody keeps locked. A batch waits for the locks of all its products, and one that cannot be had
//! fails all of it, and the next one: a forgotten transaction on one product would end the sale of all. So whoever
//! is found to be locked for long is left out of the batches that follow, until the lock can be had.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use inventory::{
    Error, ProductId, ReservationId, extend::Extend, idempotency::Key, locked, reserve::Reserve,
};
use runtime::lock;
use sqlx::PgPool;

use crate::{
    lanes::{Lanes, NoAnswer},
    reservations::Confirm,
};

/// Lanes to a verb, with no answer for who needs the lock of a product that is stuck.
pub(crate) type VerbLanes<Q, A> = Lanes<Q, Result<A, NoAnswer>>;

/// Whose lock a request needs.
pub(crate) enum Needs {
    Product(ProductId),
    /// That of its product.
    Reservation(ReservationId),
}

pub(crate) trait Locks {
    fn needs(&self) -> Needs;
}

/// What is known of them. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Stuck(Arc<Mutex<HashSet<ProductId>>>);

impl Stuck {
    /// Makes the call without the requests whose products are stuck: nothing is done for these. A call that could not
    /// have a lock is made once more, unless it `has_latecomers`, which are not among the requests.
    pub(crate) async fn around<Q, A, Fut>(
        &self,
        pool: &PgPool,
        requests: Vec<Q>,
        call: &impl Fn(PgPool, Vec<Q>) -> Fut,
        has_latecomers: impl Fn() -> bool,
    ) -> Result<Vec<Result<A, NoAnswer>>, Error>
    where
        Q: Locks + Clone,
        Fut: Future<Output = Result<Vec<A>, Error>>,
    {
        match self.try_around(pool, &requests, call).await {
            Err(error) if error.is_lock_timeout() && !has_latecomers() => {}
            done => return done,
        }
        self.find(pool, &requests).await?;
        self.try_around(pool, &requests, call).await
    }

    async fn try_around<Q, A, Fut>(
        &self,
        pool: &PgPool,
        requests: &[Q],
        call: &impl Fn(PgPool, Vec<Q>) -> Fut,
    ) -> Result<Vec<Result<A, NoAnswer>>, Error>
    where
        Q: Locks + Clone,
        Fut: Future<Output = Result<Vec<A>, Error>>,
    {
        let stuck = self.still(pool).await?;
        if stuck.is_empty() {
            let answers = call(pool.clone(), requests.to_vec()).await?;
            return Ok(answers.into_iter().map(Ok).collect());
        }
        let products = products_of(pool, requests).await?;
        let is_stuck = |product: &Option<ProductId>| product.is_some_and(|id| stuck.contains(&id));
        let free = requests.iter().zip(&products);
        let free = free.filter(|(_, product)| !is_stuck(product));
        let free: Vec<Q> = free.map(|(request, _)| request.clone()).collect();
        let mut answers = match free.is_empty() {
            true => Vec::new().into_iter(),
            false => call(pool.clone(), free).await?.into_iter(),
        };
        let own = products.iter().map(|product| match is_stuck(product) {
            true => Err(NoAnswer::Overloaded),
            false => answers.next().ok_or(NoAnswer::OutcomeUnknown),
        });
        let mut own: Vec<_> = own.collect();
        // Those that the call took along.
        own.extend(answers.map(Ok));
        Ok(own)
    }

    /// Which products are stuck. What was and is not any more is forgotten.
    async fn still(&self, pool: &PgPool) -> Result<HashSet<ProductId>, Error> {
        let before: Vec<ProductId> = lock(&self.0).iter().copied().collect();
        if before.is_empty() {
            return Ok(HashSet::new());
        }
        let still: HashSet<ProductId> = locked::now(pool, &before).await?.into_iter().collect();
        for product in before.iter().filter(|product| !still.contains(product)) {
            if lock(&self.0).remove(product) {
                tracing::info!(product = product.get(), "a product is no longer locked");
            }
        }
        Ok(still)
    }

    /// A batch of these could not have a lock: looks for the reason.
    async fn find<Q: Locks>(&self, pool: &PgPool, requests: &[Q]) -> Result<(), Error> {
        let products = products_of(pool, requests).await?;
        let products: HashSet<ProductId> = products.into_iter().flatten().collect();
        let products: Vec<ProductId> = products.into_iter().collect();
        for product in locked::now(pool, &products).await? {
            // It may be one of our own transactions that has it.
            if locked::for_long(pool, product).await? && lock(&self.0).insert(product) {
                tracing::warn!(
                    product = product.get(),
                    "somebody keeps a product locked: its requests are refused meanwhile"
                );
            }
        }
        Ok(())
    }
}

async fn products_of<Q: Locks>(
    pool: &PgPool,
    requests: &[Q],
) -> Result<Vec<Option<ProductId>>, Error> {
    let mut ids = Vec::new();
    let mut products: Vec<Option<ProductId>> = Vec::with_capacity(requests.len());
    for request in requests {
        match request.needs() {
            Needs::Product(product) => products.push(Some(product)),
            Needs::Reservation(id) => ids.push(id),
        }
    }
    // A verb's requests are all alike.
    if products.is_empty() {
        products = locked::products_of(pool, &ids).await?;
    }
    Ok(products)
}

impl Locks for Reserve {
    fn needs(&self) -> Needs {
        Needs::Product(self.product_id)
    }
}

impl Locks for Confirm {
    fn needs(&self) -> Needs {
        Needs::Reservation(self.id)
    }
}

impl Locks for ReservationId {
    fn needs(&self) -> Needs {
        Needs::Reservation(*self)
    }
}

impl Locks for Extend {
    fn needs(&self) -> Needs {
        Needs::Reservation(self.id)
    }
}

impl<Q: Locks> Locks for (Key, Q) {
    fn needs(&self) -> Needs {
        self.1.needs()
    }
}
