//! reserve batch: holds units of several products, or of none of them.

use crate::{
    Error, ProductId,
    database::Via,
    event::Events,
    reservation::{Refusal, Reservation},
    reserve::{Reserve, decide},
    transition::{Change, Transition},
};

/// What requests that belong together came to.
#[derive(Debug)]
pub struct ReservedBatch {
    /// All the holds, in the order of the requests; or the first refusal, and the product that it is about.
    pub answer: Result<Vec<Reservation>, (ProductId, Refusal)>,
    /// Due holds that this call ended on its way.
    pub expired: u64,
}

impl ReservedBatch {
    /// The transitions that this call made.
    pub fn transitions(&self) -> impl Iterator<Item = Transition<'_>> + Clone {
        let holds = self.answer.iter().flatten();
        let expired = (self.expired > 0).then_some(Transition::Expired(self.expired));
        holds
            .map(|hold| Transition::Of(Change::Reserved, hold))
            .chain(expired)
    }
}

/// Reserves all of the requests, as [`reserve`](crate::reserve::reserve) does, or none.
pub async fn reserve_batch(
    via: impl Into<Via<'_>>,
    requests: &[Reserve],
    hold_seconds: i32,
    events: &Events,
) -> Result<ReservedBatch, Error> {
    let statement = "-- reserve batch
        select outcomes, ids, numbers, reserved_at, expired, false as busy
        from reserve_batch_v1($1, $2, $3, $4, $5, $6)";
    let decided = decide(via, statement, requests, hold_seconds, events).await?;
    let answers = requests.iter().zip(decided.answers);
    Ok(ReservedBatch {
        // What was undone has no answer, and then another was refused.
        answer: answers
            .filter_map(|(request, answer)| {
                answer.map(|answer| answer.map_err(|refusal| (request.product_id, refusal)))
            })
            .collect(),
        expired: decided.expired,
    })
}
