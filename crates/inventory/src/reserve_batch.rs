//! reserve batch: holds units of several products, or of none.

use crate::{
    Error, ProductId,
    database::Executor,
    event::Events,
    reservation::{Refusal, Reservation},
    reserve::{Reserve, decide},
    transition::{Change, Transition, expired, offered},
};

/// Result of [`reserve_batch`].
#[derive(Debug)]
pub struct ReservedBatch {
    /// All holds, in the order of the requests. Or the first refusal and its product.
    pub answer: Result<Vec<Reservation>, (ProductId, Refusal)>,
    /// Number of due holds that this call expired.
    pub expired: u64,
    /// Number of holds that this call offered to users who waited for units.
    pub offered: u64,
}

impl ReservedBatch {
    /// The transitions that this call made.
    pub fn transitions(&self) -> impl Iterator<Item = Transition<'_>> + Clone {
        let holds = self.answer.iter().flatten();
        holds
            .map(|hold| Transition::Of(Change::Reserved, hold))
            .chain(expired(self.expired))
            .chain(offered(self.offered))
    }
}

/// Reserves all requests as [`reserve`](crate::reserve::reserve) does, or none of them.
pub async fn reserve_batch(
    executor: impl Into<Executor<'_>>,
    requests: &[Reserve],
    hold_seconds: i32,
    events: &Events,
) -> Result<ReservedBatch, Error> {
    let statement = "-- reserve batch
        select outcomes, ids, numbers, reserved_at, expired, false as busy
        from reserve_batch_v1($1, $2, $3, $4, $5, $6)";
    let decided = decide(executor, statement, requests, hold_seconds, events).await?;
    let answers = requests.iter().zip(decided.answers);
    Ok(ReservedBatch {
        // A request without an answer was rolled back because another one was refused.
        answer: answers
            .filter_map(|(request, answer)| {
                answer.map(|answer| answer.map_err(|refusal| (request.product_id, refusal)))
            })
            .collect(),
        expired: decided.expired,
        offered: decided.offered,
    })
}
