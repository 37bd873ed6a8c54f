//! `/admin`

use axum::extract::State;
use inventory::{
    audit::{self, Audit, Tally},
    expire,
    outbox::{self, Dead},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    AppState, Problem,
    answer::Answer,
    extract::{Admin, NoBody},
};

/// Most holds that one transaction expires: a pass must not keep the product's row for long.
const EXPIRE_BATCH_ROWS: i32 = 250;

/// How many holds were due.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Expired {
    expired: u64,
}

pub(crate) async fn sync_expired(
    _: Admin,
    State(state): State<AppState>,
    _: NoBody,
) -> Result<Answer<Expired>, Problem> {
    let (pool, books, events) = (
        state.pool.clone(),
        state.books.clone(),
        state.events.clone(),
    );
    let sweep = async move {
        expire::sweep(&pool, EXPIRE_BATCH_ROWS, &events, |expired| {
            books.expired(expired);
            true
        })
        .await
    };
    let swept = state.call("sync_expired", sweep).await?;
    Ok(Answer(Expired {
        expired: swept.expired,
    }))
}

pub(crate) async fn audit(
    _: Admin,
    State(state): State<AppState>,
) -> Result<Answer<Audit>, Problem> {
    let pool = state.pool.clone();
    let audit = state
        .call("audit", async move { audit::audit(&pool).await })
        .await?;
    Ok(Answer(audit))
}

/// Sets the counters in Redis to what the database says.
pub(crate) async fn rebuild_counters(
    _: Admin,
    State(state): State<AppState>,
    _: NoBody,
) -> Result<Answer<Tally>, Problem> {
    let pool = state.pool.clone();
    let tally = state
        .call("tally", async move { audit::tally(&pool).await })
        .await?;
    let counts = [
        tally.created,
        tally.confirmed,
        tally.canceled,
        tally.expired,
    ];
    if let Err(error) = state.timer.set_counters(counts).await {
        tracing::warn!("the counters in Redis cannot be rebuilt: {error:#}");
        return Err(Problem::Overloaded);
    }
    Ok(Answer(tally))
}

pub(crate) async fn dead_events(
    _: Admin,
    State(state): State<AppState>,
) -> Result<Answer<Vec<Dead>>, Problem> {
    let pool = state.pool.clone();
    let dead = state
        .call(
            "list_dead_events",
            async move { outbox::list_dead(&pool).await },
        )
        .await?;
    Ok(Answer(dead))
}

/// How many events were dead.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Requeued {
    requeued: u64,
}

pub(crate) async fn requeue(
    _: Admin,
    State(state): State<AppState>,
    _: NoBody,
) -> Result<Answer<Requeued>, Problem> {
    let pool = state.pool.clone();
    let requeued = state
        .call("requeue_dead_events", async move {
            outbox::requeue_dead(&pool).await
        })
        .await?;
    Ok(Answer(Requeued { requeued }))
}
