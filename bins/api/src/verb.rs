//! A verb that takes many requests in one call, and its lanes: some for requests as they come, and some for
//! those with a key, whose batches are transactions of several calls.

use axum::response::IntoResponse;
use futures_util::{FutureExt as _, future::BoxFuture};
use inventory::{
    Error, Via,
    idempotency::{self, Key, Once, Worked},
    reservation::{Refusal, Reservation},
};

use crate::{
    Problem,
    books::Books,
    idempotency::{Rendered, answered, kept},
    lanes::{NoAnswer, Turn},
    state::Start,
    stuck::{Locks, VerbLanes},
};

pub(crate) type Verdict = Result<Reservation, Refusal>;

/// One verdict for each request, in order, and what is to be told of them once they are committed.
pub(crate) type Decided = Result<(Vec<Verdict>, Book), Error>;

type Book = Box<dyn FnOnce(&Books, &[Verdict]) + Send>;

/// What a verdict comes to.
type Render<A> = fn(Verdict) -> Result<A, Problem>;

pub(crate) struct Verb<Q, A> {
    plain: VerbLanes<Q, Verdict>,
    keyed: VerbLanes<(Key, Q), Result<Rendered<A>, Problem>>,
    render: Render<A>,
}

impl<Q, A> Verb<Q, A>
where
    Q: Locks + Clone + Send + Sync + 'static,
    A: IntoResponse + Send + 'static,
{
    /// Starts twice `count` lanes. `decide` gets its turn where the call is its own transaction.
    pub(crate) fn start<F>(
        start: &Start,
        name: &'static str,
        count: usize,
        render: Render<A>,
        decide: F,
    ) -> Self
    where
        F: for<'a> Fn(Via<'a>, Vec<Q>, Option<Turn<Q>>) -> BoxFuture<'a, Decided>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let (books, decide_keyed) = (start.books.clone(), decide.clone());
        let plain = start.verb_lanes(name, count, move |pool, requests, turn| {
            let (books, decide) = (books.clone(), decide.clone());
            async move {
                let (verdicts, book) = decide(Via::Pool(&pool), requests, Some(turn)).await?;
                book(&books, &verdicts);
                Ok(verdicts)
            }
        });
        let books = start.books.clone();
        let keyed = start.verb_lanes(name, count, move |pool, requests: Vec<(Key, Q)>, _| {
            let (books, decide) = (books.clone(), decide_keyed.clone());
            async move {
                let (keys, requests): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
                let once = idempotency::once_in_batch(&pool, &keys, move |transaction, new| {
                    let decide = decide.clone();
                    let new = new.into_iter().map(|position| requests[position].clone());
                    let new = new.collect();
                    let work = async move {
                        let (verdicts, book) =
                            decide(Via::Transaction(transaction), new, None).await?;
                        let mut answers = Vec::with_capacity(verdicts.len());
                        for verdict in &verdicts {
                            match kept(render(verdict.clone())).await {
                                Ok(answer) => answers.push(answer),
                                Err(problem) => return Ok(Worked::Undo(problem)),
                            }
                        }
                        Ok(Worked::Keep(answers, (verdicts, book)))
                    };
                    work.boxed()
                });
                Ok(match once.await? {
                    Once::Undone(problem) => keys.iter().map(|_| Err(problem.clone())).collect(),
                    Once::Kept(outcomes, done) => {
                        if let Some((verdicts, book)) = done {
                            book(&books, &verdicts);
                        }
                        outcomes.into_iter().map(answered).collect()
                    }
                })
            }
        });
        Self {
            plain,
            keyed,
            render,
        }
    }

    /// The answer to a request, in the lane of its row.
    pub(crate) async fn answer(
        &self,
        row: i64,
        key: Option<Key>,
        request: Q,
    ) -> Result<Rendered<A>, Problem> {
        match key {
            None => (self.render)(self.ask(row, request).await?).map(Rendered::from),
            Some(key) => self.keyed.ask(row, (key, request)).await??,
        }
    }

    /// The verdict on a request without a key, in the lane of its row.
    pub(crate) async fn ask(&self, row: i64, request: Q) -> Result<Verdict, NoAnswer> {
        self.plain.ask(row, request).await?
    }
}
