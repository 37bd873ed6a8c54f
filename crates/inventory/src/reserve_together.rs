//! reserve together: holds units of several products, or of none.

use crate::{
    Error, ProductId,
    database::Via,
    event::Events,
    reservation::{Refusal, Reservation},
    reserve::{Reserve, decide},
};

/// Result of [`reserve_together`].
#[derive(Debug)]
pub struct Together {
    /// All holds, in the order of the requests. Or the first refusal and its product.
    pub answer: Result<Vec<Reservation>, (ProductId, Refusal)>,
    /// Number of due holds that this call expired.
    pub expired: u64,
}

/// Reserves all requests as [`reserve`](crate::reserve::reserve) does, or none of them.
pub async fn reserve_together(
    via: impl Into<Via<'_>>,
    requests: &[Reserve],
    hold_seconds: i32,
    events: &Events,
) -> Result<Together, Error> {
    let statement = "-- reserve together
        select outcomes, ids, numbers, reserved_at, expired, false as busy
        from reserve_together_v1($1, $2, $3, $4, $5, $6)";
    let decided = decide(via, statement, requests, hold_seconds, events).await?;
    let answers = requests.iter().zip(decided.answers);
    Ok(Together {
        // A request without an answer was rolled back because another one was refused.
        answer: answers
            .filter_map(|(request, answer)| {
                answer.map(|answer| answer.map_err(|refusal| (request.product_id, refusal)))
            })
            .collect(),
        expired: decided.expired,
    })
}
