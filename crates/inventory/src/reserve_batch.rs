//! reserve batch: holds units of several products, or of none.

use crate::{
    Error, ProductId,
    batch::AllOrNone,
    database::Executor,
    event::Events,
    reserve::{Reserve, decide},
    transition::Change,
};

/// Result of [`reserve_batch`]: all holds, or the first refusal and its product.
pub type ReservedBatch = AllOrNone<ProductId>;

/// Reserves all requests as [`reserve`](crate::reserve::reserve) does, or none of them. All holds have the same deadline,
/// the earliest that one of them would have alone.
pub async fn reserve_batch(
    executor: impl Into<Executor<'_>>,
    requests: &[Reserve],
    hold_seconds: i32,
    events: &Events,
) -> Result<ReservedBatch, Error> {
    let statement = "-- reserve batch
        select outcomes, ids, numbers, reserved_at, expired, false as busy, 0 as waited
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
        changes: vec![Change::Reserved; requests.len()],
        expired: decided.expired,
        offered: decided.offered,
    })
}
