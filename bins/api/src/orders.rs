//! What the verbs for whole orders share: the body's ids, the call, and the answer.

use std::{borrow::Cow, collections::HashSet};

use futures_util::future::BoxFuture;
use inventory::{
    Error, Executor, ReservationId, batch::AllOrNone, idempotency::Key, moved::Subject,
    reservation::Reservation,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;

use crate::{Problem, answer::Answer, bulkhead::Bulkhead, idempotency::Rendered};

/// Most reservations in one request.
const MAX_IDS: usize = 100;

/// The reservations of a request: 1 to [`MAX_IDS`], none twice.
#[derive(Deserialize)]
#[serde(try_from = "Vec<ReservationId>")]
pub(crate) struct Ids(Vec<ReservationId>);

impl Ids {
    pub(crate) fn get(&self) -> &[ReservationId] {
        &self.0
    }
}

impl TryFrom<Vec<ReservationId>> for Ids {
    type Error = String;

    fn try_from(ids: Vec<ReservationId>) -> Result<Self, String> {
        if !(1..=MAX_IDS).contains(&ids.len()) {
            return Err(format!("expected 1 to {MAX_IDS} ids"));
        }
        let mut seen = HashSet::new();
        match ids.iter().find(|id| !seen.insert(id.get())) {
            Some(twice) => Err(format!("reservation {twice} is given twice")),
            None => Ok(Self(ids)),
        }
    }
}

impl JsonSchema for Ids {
    fn schema_name() -> Cow<'static, str> {
        "Ids".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Vec::<ReservationId>::json_schema(generator);
        schema.insert("minItems".into(), 1.into());
        schema.insert("maxItems".into(), MAX_IDS.into());
        schema.insert("uniqueItems".into(), true.into());
        schema.insert("examples".into(), vec![vec![1]].into());
        schema
    }
}

/// Runs a verb for all reservations of a request, without a lane: a request for several products must not delay the lane
/// of each product.
pub(crate) async fn execute<W>(
    bulkhead: &Bulkhead,
    verb: &'static str,
    key: Option<Key>,
    work: W,
) -> Result<Rendered<Answer<Vec<Reservation>>>, Problem>
where
    W: for<'a> FnOnce(Executor<'a>) -> BoxFuture<'a, Result<AllOrNone<ReservationId>, Error>>
        + Send
        + 'static,
{
    let once = bulkhead.execute_once(
        verb,
        key,
        work,
        |after_commit, done| after_commit.tell(done.transitions()),
        render,
    );
    once.await
}

/// All reservations, or the refusal with the reservation that it is about.
fn render(done: &AllOrNone<ReservationId>) -> Result<Answer<Vec<Reservation>>, Problem> {
    match &done.answer {
        Ok(reservations) => Ok(Answer(reservations.clone())),
        Err((id, refusal)) => Err(Problem::RefusedOf(
            Subject::Reservation(*id),
            refusal.clone(),
        )),
    }
}
