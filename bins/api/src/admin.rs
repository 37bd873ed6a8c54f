//! `/admin`

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt as _, future};
use inventory::{audit, expire, idempotency::Key, outbox};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    AppState, Problem,
    answer::Answer,
    extract::{Admin, Json, NoBody},
    idempotency::Keyed,
};

/// Most holds that one transaction expires: a pass must not keep the product's row for long.
const EXPIRE_BATCH_ROWS: i32 = 250;

pub(crate) async fn sync_expired(
    _: Admin,
    State(state): State<AppState>,
    Keyed(key, _): Keyed<NoBody>,
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
    kept(&state, key, json!({ "expired": swept.expired })).await
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
    Keyed(key, _): Keyed<NoBody>,
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
    kept(&state, key, json!(tally)).await
}

/// The answer of an act that is more than one transaction. It was done, whatever its key says: a repeat changes
/// nothing, and only the answer is that of the first time.
async fn kept(state: &AppState, key: Option<Key>, answer: Value) -> Result<Response, Problem> {
    if key.is_none() {
        return Ok(Answer(answer).into_response());
    }
    let once = state.once(
        "keep_answer",
        key,
        move |_| future::ready(Ok(answer)).boxed(),
        |_, _| (),
        |answer| Ok(Answer(answer).into_response()),
    );
    once.await
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
    Keyed(key, _): Keyed<NoBody>,
) -> Result<Response, Problem> {
    let once = state.once(
        "requeue_dead_events",
        key,
        |via| outbox::requeue_dead(via).boxed(),
        |_, _| (),
        |requeued| Ok(Answer(json!({ "requeued": requeued })).into_response()),
    );
    once.await
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
    Keyed(key, Json(Range { from, to })): Keyed<Json<Range>>,
) -> Result<Response, Problem> {
    if from >= to {
        let detail = "from must be before to".to_owned();
        return Err(Problem::InvalidRequest(detail));
    }
    let once = state.once(
        "replay_events",
        key,
        move |via| outbox::replay(via, from, to).boxed(),
        |_, _| (),
        |replayed| Ok(Answer(json!({ "replayed": replayed })).into_response()),
    );
    once.await
}
