//! `/admin`

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use inventory::{audit, expire, outbox};
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;

use crate::{
    AppState, Problem,
    answer::Answer,
    extract::{Admin, Json, NoBody},
};

/// Most holds that one transaction expires: a pass must not keep the product's row for long.
const EXPIRE_BATCH_ROWS: i32 = 250;

pub(crate) async fn sync_expired(
    _: Admin,
    State(state): State<AppState>,
    _: NoBody,
) -> Result<Response, Problem> {
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
    Ok(Answer(json!({ "expired": swept.expired })).into_response())
}

pub(crate) async fn audit(_: Admin, State(state): State<AppState>) -> Result<Response, Problem> {
    let pool = state.pool.clone();
    let audit = state
        .call("audit", async move { audit::audit(&pool).await })
        .await?;
    Ok(Answer(audit).into_response())
}

/// Sets the counters in Redis to what the database says.
pub(crate) async fn rebuild_counters(
    _: Admin,
    State(state): State<AppState>,
    _: NoBody,
) -> Result<Response, Problem> {
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
    Ok(Answer(tally).into_response())
}

pub(crate) async fn dead_events(
    _: Admin,
    State(state): State<AppState>,
) -> Result<Response, Problem> {
    let pool = state.pool.clone();
    let dead = state
        .call(
            "list_dead_events",
            async move { outbox::list_dead(&pool).await },
        )
        .await?;
    Ok(Answer(dead).into_response())
}

pub(crate) async fn requeue(
    _: Admin,
    State(state): State<AppState>,
    _: NoBody,
) -> Result<Response, Problem> {
    let pool = state.pool.clone();
    let requeued = state
        .call("requeue_dead_events", async move {
            outbox::requeue_dead(&pool).await
        })
        .await?;
    Ok(Answer(json!({ "requeued": requeued })).into_response())
}

/// A range of time: `from` is in it, `to` is not.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    #[serde(with = "time::serde::rfc3339")]
    from: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    to: OffsetDateTime,
}

pub(crate) async fn replay(
    _: Admin,
    State(state): State<AppState>,
    Json(Range { from, to }): Json<Range>,
) -> Result<Response, Problem> {
    if from >= to {
        let detail = "from must be before to".to_owned();
        return Err(Problem::InvalidRequest(detail));
    }
    let pool = state.pool.clone();
    let replayed = state
        .call("replay_events", async move {
            outbox::replay(&pool, from, to).await
        })
        .await?;
    Ok(Answer(json!({ "replayed": replayed })).into_response())
}
