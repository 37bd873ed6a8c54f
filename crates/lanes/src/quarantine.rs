//! Keeps requests out of the batches if another session keeps their row locked.
//!
//! A batch waits for the locks of all its rows. If one lock is not available, the whole batch fails, and the next
//! batch as well. Without quarantine, one forgotten transaction on one row would stop the requests for all rows.

use std::{
    collections::HashSet,
    hash::Hash,
    sync::{Arc, Mutex},
};

use runtime::lock;

use crate::{Answers, NoAnswer};

/// The queries that the quarantine needs.
pub trait LockProbe: Send + Sync {
    /// A row that can be locked.
    type Row: Copy + Eq + Hash + Into<i64> + Send + Sync;
    /// Describes the row that a request needs.
    type Need: Send;
    /// The error of a call.
    type Error: Send;

    /// Whether a call failed because a lock was not available in time.
    fn is_lock_timeout(error: &Self::Error) -> bool;

    /// The row of each need, in the order of `needs`. `None` if the row does not exist.
    fn rows(
        &self,
        needs: Vec<Self::Need>,
    ) -> impl Future<Output = Result<Vec<Option<Self::Row>>, Self::Error>> + Send;

    /// The rows of `rows` that are locked now.
    fn locked(
        &self,
        rows: Vec<Self::Row>,
    ) -> impl Future<Output = Result<Vec<Self::Row>, Self::Error>> + Send;

    /// Who keeps the row locked for longer than one of the service's own calls would lock it, as words for the log.
    /// `None`: nobody.
    fn locked_by(
        &self,
        row: Self::Row,
    ) -> impl Future<Output = Result<Option<&'static str>, Self::Error>> + Send;
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
    /// An empty quarantine.
    pub fn new(probe: P) -> Self {
        Self {
            probe: Arc::new(probe),
            blocked: Arc::default(),
        }
    }

    /// Runs the call without the requests for blocked rows. Those requests are refused, and nothing is done for them.
    ///
    /// If the call fails with a lock timeout, blocked rows are detected and the call is repeated once without them.
    /// The answers are in the order of `requests`.
    ///
    /// # Errors
    ///
    /// The error of the call, or of a query of the probe.
    pub async fn run_without<Q, A, Fut>(
        &self,
        requests: Vec<Q>,
        need: &impl Fn(&Q) -> P::Need,
        call: &impl Fn(Vec<Q>) -> Fut,
    ) -> Result<Answers<Result<A, NoAnswer>>, P::Error>
    where
        Q: Clone,
        A: 'static,
        Fut: Future<Output = Result<Answers<A>, P::Error>>,
    {
        match self.try_without(&requests, need, call).await {
            Err(error) if P::is_lock_timeout(&error) => {}
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
    ) -> Result<Answers<Result<A, NoAnswer>>, P::Error>
    where
        Q: Clone,
        A: 'static,
        Fut: Future<Output = Result<Answers<A>, P::Error>>,
    {
        let blocked = self.refresh().await?;
        if blocked.is_empty() {
            let answers = call(requests.to_vec()).await?;
            return Ok(answers.map(|answers| answers.into_iter().map(Ok).collect()));
        }
        let needs = requests.iter().map(need).collect();
        let rows = self.probe.rows(needs).await?;
        let is_blocked = |row: &Option<P::Row>| row.is_some_and(|row| blocked.contains(&row));
        let free = requests.iter().zip(&rows);
        let free = free.filter(|(_, row)| !is_blocked(row));
        let free: Vec<Q> = free.map(|(request, _)| request.clone()).collect();
        let answers = match free.is_empty() {
            true => Answers::later(Vec::new),
            false => call(free).await?,
        };
        let blocked: Vec<bool> = rows.iter().map(is_blocked).collect();
        Ok(answers.map(move |answers| {
            let mut answers = answers.into_iter();
            let all = blocked.into_iter().map(|is_blocked| match is_blocked {
                true => Err(NoAnswer::Overloaded),
                false => answers.next().ok_or(NoAnswer::OutcomeUnknown),
            });
            all.collect()
        }))
    }

    /// Removes rows whose lock is free again. Returns the rows that are still blocked.
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

    /// Finds the blocked rows of these requests, after a lock timeout.
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
            // The lock may belong to one of the service's own transactions, which ends soon. Then the row is not
            // blocked.
            if let Some(holder) = self.probe.locked_by(row).await?
                && lock(&self.blocked).insert(row)
            {
                let product: i64 = row.into();
                tracing::warn!(
                    product,
                    "{holder} keeps a product locked: its requests are refused until the lock is free"
                );
            }
        }
        Ok(())
    }
}
