//! What the verbs for whole orders share: the body's ids, the call, and the answer.

use std::{borrow::Cow, collections::HashSet, fmt};

use futures_util::future::BoxFuture;
use inventory::{
    Error, Executor, ReservationId, batch::AllOrNone, idempotency::Key, moved::Subject,
    reservation::Reservation,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, SeqAccess, Visitor},
};

use crate::{
    Problem,
    answer::Answer,
    bulkhead::{About, Bulkhead},
    idempotency::Rendered,
};

/// Most reservations in one request.
const MAX_IDS: usize = 100;

/// The reservations of a request: 1 to [`MAX_IDS`], none twice.
pub(crate) struct Ids(Vec<ReservationId>);

impl Ids {
    pub(crate) fn get(&self) -> &[ReservationId] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(IdsVisitor)
    }
}

struct IdsVisitor;

impl<'de> Visitor<'de> for IdsVisitor {
    type Value = Ids;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut given: A) -> Result<Ids, A::Error> {
        let (mut ids, mut seen) = (Vec::new(), HashSet::new());
        while let Some(id) = given.next_element_seed(NewId(&mut seen))? {
            ids.push(id);
            if ids.len() > MAX_IDS {
                break;
            }
        }
        match (1..=MAX_IDS).contains(&ids.len()) {
            true => Ok(Ids(ids)),
            false => Err(A::Error::custom(format!("expected 1 to {MAX_IDS} ids"))),
        }
    }
}

/// Reads an id that was not read before. An error of an element has the element's place.
struct NewId<'a>(&'a mut HashSet<i64>);

impl<'de> DeserializeSeed<'de> for NewId<'_> {
    type Value = ReservationId;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ReservationId, D::Error> {
        let id = ReservationId::deserialize(deserializer)?;
        match self.0.insert(id.get()) {
            true => Ok(id),
            false => Err(D::Error::custom(format!(
                "expected other ids: reservation {id} is given twice"
            ))),
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
    ids: Vec<ReservationId>,
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
        About::Reservations(ids),
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
