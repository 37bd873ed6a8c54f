//! Keeps requests out of the batches whose rows somebody else keeps locked.
//!
//! A batch waits for the locks of all its rows. One lock that cannot be had fails the whole batch, and the next one: a
//! forgotten transaction on one row would stop all others.

use std::{
    collections::HashSet,
    hash::Hash,
    sync::{Arc, Mutex},
};

use runtime::lock;

use crate::NoAnswer;

/// What the quarantine asks of the database.
pub trait LockProbe: Send + Sync {
    /// A row that can be locked.
    type Row: Copy + Eq + Hash + Into<i64> + Send + Sync;
    /// What tells the row of a request.
    type Need: Send;
    /// What a call fails with.
    type Error: Send;

    /// Whether a call failed because it could not have a lock in time.
    fn is_lock_timeout(error: &Self::Error) -> bool;

    /// The row of each need, in order; `None` where there is no such row.
    fn rows(
        &self,
        needs: Vec<Self::Need>,
    ) -> impl Future<Output = Result<Vec<Option<Self::Row>>, Self::Error>> + Send;

    /// Those of the rows that are locked now.
    fn locked(
        &self,
        rows: Vec<Self::Row>,
    ) -> impl Future<Output = Result<Vec<Self::Row>, Self::Error>> + Send;

    /// Whether a row stays locked for longer than one of our own calls would keep it.
    fn stays_locked(
        &self,
        row: Self::Row,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// The rows that are known to be blocked. Clones share them.
pub struct Quarantine<P: LockProbe> {
    probe: Arc<P>,
    blocked: Arc<Mutex<HashSet<P::Row>>>,
}

impl<P: LockProbe> Clone for Quarantine<P> {
    fn clone(&self) -> Self {
        Self {
            probe: Arc::clone(&self.probe),
            blocked: Arc::clone(&self.blocked),
        }
    }
}

impl<P: LockProbe> Quarantine<P> {
    /// With no row in it.
    pub fn new(probe: P) -> Self {
        Self {
            probe: Arc::new(probe),
            blocked: Arc::default(),
        }
    }

    /// Makes the call without the requests for blocked rows: these are refused, and nothing is done for them. A call
    /// that fails for want of a lock is made once more, unless it `has_latecomers`, which are not among the requests.
    /// Answers come in the order of the requests, those of latecomers last.
    pub async fn run_without<Q, A, Fut>(
        &self,
        requests: Vec<Q>,
        need: &impl Fn(&Q) -> P::Need,
        call: &impl Fn(Vec<Q>) -> Fut,
        has_latecomers: impl Fn() -> bool,
    ) -> Result<Vec<Result<A, NoAnswer>>, P::Error>
    where
        Q: Clone,
        Fut: Future<Output = Result<Vec<A>, P::Error>>,
    {
        match self.try_without(&requests, need, call).await {
            Err(error) if P::is_lock_timeout(&error) && !has_latecomers() => {}
            done => return done,
        }
        self.detect(&requests, need).await?;
        self.try_without(&requests, need, call).await
    }

    async fn try_without<Q, A, Fut>(
        &self,
        requests: &[Q],
        need: &impl Fn(&Q) -> P::Need,
        call: &impl Fn(Vec<Q>) -> Fut,
    ) -> Result<Vec<Result<A, NoAnswer>>, P::Error>
    where
        Q: Clone,
        Fut: Future<Output = Result<Vec<A>, P::Error>>,
    {
        let blocked = self.refresh().await?;
        if blocked.is_empty() {
            let answers = call(requests.to_vec()).await?;
            return Ok(answers.into_iter().map(Ok).collect());
        }
        let needs = requests.iter().map(need).collect();
        let rows = self.probe.rows(needs).await?;
        let is_blocked = |row: &Option<P::Row>| row.is_some_and(|row| blocked.contains(&row));
        let free = requests.iter().zip(&rows);
        let free = free.filter(|(_, row)| !is_blocked(row));
        let free: Vec<Q> = free.map(|(request, _)| request.clone()).collect();
        let mut answers = match free.is_empty() {
            true => Vec::new().into_iter(),
            false => call(free).await?.into_iter(),
        };
        let own = rows.iter().map(|row| match is_blocked(row) {
            true => Err(NoAnswer::Overloaded),
            false => answers.next().ok_or(NoAnswer::OutcomeUnknown),
        });
        let mut own: Vec<_> = own.collect();
        // The answers of latecomers.
        own.extend(answers.map(Ok));
        Ok(own)
    }

    /// The rows that are still blocked. The others are forgotten.
    async fn refresh(&self) -> Result<HashSet<P::Row>, P::Error> {
        let before: Vec<P::Row> = lock(&self.blocked).iter().copied().collect();
        if before.is_empty() {
            return Ok(HashSet::new());
        }
        let still = self.probe.locked(before.clone()).await?;
        let still: HashSet<P::Row> = still.into_iter().collect();
        for row in before.iter().filter(|row| !still.contains(row)) {
            if lock(&self.blocked).remove(row) {
                let product: i64 = (*row).into();
                tracing::info!(product, "a product is no longer locked");
            }
        }
        Ok(still)
    }

    /// Looks for the rows that made a batch of these requests fail.
    async fn detect<Q>(
        &self,
        requests: &[Q],
        need: &impl Fn(&Q) -> P::Need,
    ) -> Result<(), P::Error> {
        let needs = requests.iter().map(need).collect();
        let rows: HashSet<P::Row> = self
            .probe
            .rows(needs)
            .await?
            .into_iter()
            .flatten()
            .collect();
        let rows: Vec<P::Row> = rows.into_iter().collect();
        for row in self.probe.locked(rows).await? {
            // One of our own transactions may have it, which ends soon.
            if self.probe.stays_locked(row).await? && lock(&self.blocked).insert(row) {
                let product: i64 = row.into();
                tracing::warn!(
                    product,
                    "somebody keeps a product locked: its requests are refused meanwhile"
                );
            }
        }
        Ok(())
    }
}
