//! Stock and holders in Redis, with one Lua script per request: a common choice when PostgreSQL seems too slow.
//! Nothing is durable, and nothing is written to PostgreSQL.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

use axum::{Json, Router, extract::State, response::Response, routing::post};
use flashsale_api::Problem;
use inventory::reservation::Refusal;
use redis::aio::MultiplexedConnection;
use time::OffsetDateTime;

use super::contract::{HOLD, Reserve, created, failed, sold_out};

/// Returns 1 when the user has a new hold, 0 when sold out, and -1 when the user already had one.
const SCRIPT: &str = "\
local held = redis.call('SISMEMBER', KEYS[2], ARGV[1])
if held == 1 then return -1 end
if redis.call('DECR', KEYS[1]) < 0 then
  redis.call('INCR', KEYS[1])
  return 0
end
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('SET', KEYS[3], ARGV[1], 'EX', ARGV[2])
return 1";

struct Gate {
    /// Concurrent requests share the connection: their commands are pipelined.
    redis: MultiplexedConnection,
    script_sha: String,
    last_id: AtomicI64,
}

pub(super) async fn router(mut redis: MultiplexedConnection) -> anyhow::Result<Router> {
    let script_sha = redis::cmd("SCRIPT")
        .arg("LOAD")
        .arg(SCRIPT)
        .query_async(&mut redis)
        .await?;
    let gate = Gate {
        redis,
        script_sha,
        // Ids come from the process: a counter in Redis would be another command per request.
        last_id: AtomicI64::new(0),
    };
    Ok(Router::new()
        .route("/reservations", post(reserve))
        .with_state(Arc::new(gate)))
}

async fn reserve(
    State(gate): State<Arc<Gate>>,
    Json(request): Json<Reserve>,
) -> Result<Response, Problem> {
    let id = gate.last_id.fetch_add(1, Relaxed) + 1;
    let created_at = OffsetDateTime::now_utc();
    let outcome: i64 = redis::cmd("EVALSHA")
        .arg(&gate.script_sha)
        .arg(3)
        .arg(format!("stock:{}", request.product_id))
        .arg(format!("holders:{}", request.product_id))
        .arg(format!("reservation:{id}"))
        .arg(request.user_id.get())
        .arg(HOLD.whole_seconds())
        .query_async(&mut gate.redis.clone())
        .await
        .map_err(failed)?;
    match outcome {
        1 => Ok(created(request.held(id, created_at)?)),
        0 => Err(sold_out()),
        // The hold's id is not stored by user. The request's own number replaces it.
        _ => Err(Refusal::AlreadyReserved {
            reservation_id: request.held(id, created_at)?.id,
        }
        .into()),
    }
}
