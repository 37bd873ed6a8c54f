//! Waits for products that other transactions have locked, beside the sweeps. A sweep itself waits for no lock, so that one
//! locked product does not delay the holds of all others.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Mutex,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use inventory::{
    Error, ProductId,
    database::OwnSession,
    expire::{self, Commit, Turn},
};
use runtime::lock;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use trace::Span;

use crate::context::Context;

/// How many locks are waited for at once. Each takes a connection. If more products are locked, the others queue. Each sweep
/// tries them as well, so their holds end soon after their locks.
const WAITS: u32 = 4;

/// Number of connections for waits of a process that has so many.
pub(crate) fn connections(max: u32) -> u32 {
    (max / 3).clamp(1, WAITS)
}

/// The products that sweeps have left to others who use them.
pub(crate) struct Locked {
    found: UnboundedSender<Turn>,
    /// Products that were still locked when the lock timeout had passed, with the cause for the log.
    failed: Mutex<HashMap<Turn, String>>,
}

impl Locked {
    /// Also returns what [`Self::wait`] needs.
    pub(crate) fn new() -> (Self, UnboundedReceiver<Turn>) {
        let (found, queue) = unbounded_channel();
        let failed = Mutex::default();
        (Self { found, failed }, queue)
    }

    /// A sweep has left this product to others. A busy product often is locked, for a moment.
    pub(crate) fn add(&self, turn: Turn) {
        // The error is ignored: nobody waits for locks any more after the signal to stop.
        let _ = self.found.send(turn);
    }

    /// The products whose waits have failed, and the causes. `locked` are all that the last sweep has found locked. What is not
    /// among them is not due any more.
    pub(crate) fn failures(&self, locked: &HashSet<Turn>) -> Vec<(ProductId, String)> {
        let mut failed = lock(&self.failed);
        failed.retain(|turn, _| locked.contains(turn));
        let failures = failed.iter();
        failures
            .map(|(turn, cause)| (turn.product_id(), cause.clone()))
            .collect()
    }

    /// Waits for the locks of products, and does what is due, until `shutdown`. Each wait takes one of the `sessions`, so
    /// that all transactions of a product with many due holds are made in one. The one that was used last is taken first.
    pub(crate) async fn wait(
        &self,
        mut found: UnboundedReceiver<Turn>,
        mut sessions: Vec<OwnSession>,
        context: &Context,
        shutdown: &CancellationToken,
    ) {
        let (mut known, mut queue) = (HashSet::new(), VecDeque::new());
        let mut waits = FuturesUnordered::new();
        while !shutdown.is_cancelled() {
            while !queue.is_empty()
                && let Some(session) = sessions.pop()
                && let Some(turn) = queue.pop_front()
            {
                waits.push(wait_for(turn, session, context, shutdown));
            }
            tokio::select! {
                Some(turn) = found.recv() => {
                    if known.insert(turn) {
                        queue.push_back(turn);
                    }
                }
                Some((turn, session, done)) = waits.next() => {
                    sessions.push(session);
                    known.remove(&turn);
                    self.note(turn, done, context);
                }
                () = shutdown.cancelled() => {}
            }
        }
        // A transaction in flight is finished.
        while waits.next().await.is_some() {}
    }

    fn note(&self, turn: Turn, done: Result<(), Error>, context: &Context) {
        let mut failed = lock(&self.failed);
        match done {
            Ok(()) => {
                failed.remove(&turn);
            }
            Err(error) => {
                context.metrics.errors.inc();
                failed.insert(turn, error.cause());
            }
        }
    }
}

/// Waits for the lock of one product.
async fn wait_for(
    turn: Turn,
    session: OwnSession,
    context: &Context,
    shutdown: &CancellationToken,
) -> (Turn, OwnSession, Result<(), Error>) {
    let span = Span::of_work("sweep_locked");
    let wait = expire::sweep_locked(
        &session,
        turn,
        context.batch_rows,
        Commit::Asynchronous,
        &context.events,
        |done| {
            context.tell(done);
            !shutdown.is_cancelled()
        },
    );
    let done = span.scope(wait).await;
    if let Err(error) = &done {
        span.failed(error.kind(), &error.cause());
    }
    (turn, session, done)
}
