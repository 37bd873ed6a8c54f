//! The verbs under `/admin`.

use axum::extract::State;
use futures_util::{FutureExt as _, future};
use inventory::{
    Timestamp,
    audit::{self, Audit, Tally},
    expire::{self, Commit},
    idempotency::Key,
    outbox::{self, Dead},
};
use live::Live;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use timer::Timer;

use crate::{
    Problem,
    answer::Answer,
    auth::Admin,
    bulkhead::{About, Bulkhead},
    extract::{Json, NoBody},
    faults::Fault,
    idempotency::{Keyed, Rendered},
    openapi::Operation,
    sale::Sale,
};

/// Most holds that one transaction expires. A larger transaction would lock the product's row for too long.
const EXPIRE_BATCH_ROWS: i32 = 250;

/// The number of holds that this request expired.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub(crate) struct Expired {
    #[schemars(example = 3)]
    expired: u64,
}

pub(crate) fn sync_expired_operation() -> Operation {
    Operation::new(
        "syncExpiredReservations",
        "Expire all holds whose deadline has passed",
    )
}

pub(crate) async fn sync_expired(
    _: Admin,
    State(bulkhead): State<&'static Bulkhead>,
    State(sale): State<&'static Sale>,
    Keyed(key, _): Keyed<NoBody>,
) -> Result<Rendered<Answer<Expired>>, Problem> {
    let (pool, after_commit) = (bulkhead.pool(), bulkhead.after_commit());
    let sweep = async move {
        let mut began = false;
        let after = |done: expire::Expired| {
            began = true;
            after_commit.tell(done.transitions());
            true
        };
        // The answer says what was done, so a crash must not undo it.
        let commit = Commit::Synchronous;
        let swept = expire::sweep(&pool, EXPIRE_BATCH_ROWS, commit, &sale.events, after).await;
        swept.map_err(|error| error.after(began))
    };
    let swept = bulkhead.execute("sync_expired", sweep).await?;
    let expired = swept.expired;
    stored(bulkhead, key, Expired { expired }).await
}

pub(crate) fn audit_operation() -> Operation {
    Operation::new(
        "auditInventory",
        "Compare the counters of every product with its reservations",
    )
}

pub(crate) async fn audit(
    _: Admin,
    State(bulkhead): State<&'static Bulkhead>,
    State(live): State<&'static Live>,
) -> Result<Answer<Audit>, Problem> {
    let pool = bulkhead.pool();
    let audit = bulkhead
        .execute("audit", async move { audit::audit(&pool).await })
        .await?;
    live.audited(&audit);
    Ok(Answer(audit))
}

pub(crate) fn rebuild_counters_operation() -> Operation {
    Operation::new(
        "rebuildCounters",
        "Set the counters in Redis to the values of the database",
    )
}

pub(crate) async fn rebuild_counters(
    _: Admin,
    State(bulkhead): State<&'static Bulkhead>,
    State(timer): State<&'static Timer>,
    Keyed(key, _): Keyed<NoBody>,
) -> Result<Rendered<Answer<Tally>>, Problem> {
    let pool = bulkhead.pool();
    let tally = bulkhead
        .execute("tally", async move { audit::tally(&pool).await })
        .await?;
    if let Err(error) = timer.set_counters(tally.counts()).await {
        tracing::warn!("the counters in Redis cannot be rebuilt: {error:#}");
        return Err(Problem::Overloaded);
    }
    stored(bulkhead, key, tally).await
}

/// Stores the answer of a request that needs more than one transaction. The work is already done, whether or not the
/// key is new. A repeat changes nothing more, and gets the stored answer of the first request.
async fn stored<T>(
    bulkhead: &Bulkhead,
    key: Option<Key>,
    answer: T,
) -> Result<Rendered<Answer<T>>, Problem>
where
    T: Serialize + Copy + Send + Sync + 'static,
{
    if key.is_none() {
        return Ok(Answer(answer).into());
    }
    let once = bulkhead.execute_once(
        "keep_answer",
        About::Nothing,
        key,
        move |_| future::ready(Ok(answer)).boxed(),
        |_, _| (),
        |answer| Ok(Answer(*answer)),
    );
    once.await
}

pub(crate) fn dead_events_operation() -> Operation {
    Operation::new(
        "listDeadEvents",
        "Dead letters: events that the broker refused too often. Oldest first, at most 100",
    )
}

pub(crate) async fn dead_events(
    _: Admin,
    State(bulkhead): State<&'static Bulkhead>,
) -> Result<Answer<Vec<Dead>>, Problem> {
    let pool = bulkhead.pool();
    let dead = bulkhead
        .execute(
            "list_dead_events",
            async move { outbox::list_dead(&pool).await },
        )
        .await?;
    Ok(Answer(dead))
}

/// The number of dead letters that will be tried again.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Requeued {
    #[schemars(example = 3)]
    requeued: u64,
}

pub(crate) fn requeue_operation() -> Operation {
    Operation::new(
        "requeueDeadEvents",
        "Requeue all dead letters: give them all their attempts again",
    )
}

pub(crate) async fn requeue(
    _: Admin,
    State(bulkhead): State<&'static Bulkhead>,
    Keyed(key, _): Keyed<NoBody>,
) -> Result<Rendered<Answer<Requeued>>, Problem> {
    let once = bulkhead.execute_once(
        "requeue_dead_events",
        About::Nothing,
        key,
        |executor| outbox::requeue_dead(executor).boxed(),
        |after_commit, _| after_commit.wake_relay(),
        |requeued| {
            let requeued = *requeued;
            Ok(Answer(Requeued { requeued }))
        },
    );
    once.await
}

/// A range of time.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayEvents {
    /// Start of the range. Events that were published at this time are included.
    #[schemars(example = &"2026-11-27T12:00:00Z")]
    from: Timestamp,
    /// End of the range. Events that were published at this time are not included. It must be later than `from`.
    #[schemars(example = &"2026-11-27T12:05:00Z")]
    to: Timestamp,
}

/// The number of events that will be published again.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Replayed {
    #[schemars(example = 3)]
    replayed: u64,
}

pub(crate) fn replay_operation() -> Operation {
    Operation::new(
        "replayEvents",
        "Publish the events of a time range again",
    )
    .explained(
        "The events keep their message ids. Events that were already deleted from the outbox are not included. The \
        relay publishes new events between the replayed ones.",
    )
}

pub(crate) async fn replay(
    _: Admin,
    State(bulkhead): State<&'static Bulkhead>,
    Keyed(key, Json(ReplayEvents { from, to })): Keyed<Json<ReplayEvents>>,
) -> Result<Rendered<Answer<Replayed>>, Problem> {
    if from >= to {
        return Err(Fault::of("/to", "to must be later than from").into());
    }
    let once = bulkhead.execute_once(
        "replay_events",
        About::Nothing,
        key,
        move |executor| outbox::replay(executor, from.get(), to.get()).boxed(),
        |after_commit, _| after_commit.wake_relay(),
        |replayed| {
            let replayed = *replayed;
            Ok(Answer(Replayed { replayed }))
        },
    );
    once.await
}
