//! reserve together: holds units of several products, or of none of them.

use crate::{
    Error, ProductId,
    database::Via,
    event::Events,
    reservation::{Refusal, Reservation},
    reserve::{Reserve, decide},
};

/// What requests that belong together came to.
#[derive(Debug)]
pub struct Together {
    /// All the holds, in the order of the requests; or the first refusal, and the product that it is about.
    pub answer: Result<Vec<Reservation>, (ProductId, Refusal)>,
    /// Due holds that this call ended on its way.
    pub expired: u64,
}

/// Reserves all of the requests, as [`reserve`](crate::reserve::reserve) does, or none.
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
        // What was undone has no answer, and then another was refused.
        answer: answers
            .filter_map(|(request, answer)| {
                answer.map(|answer| answer.map_err(|refusal| (request.product_id, refusal)))
            })
            .collect(),
        expired: decided.expired,
    })
}
