//! Parses the request and returns a made-up reservation: the limit of HTTP and JSON alone.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use axum::{Json, Router, response::Response, routing::post};
use flashsale_api::Problem;
use time::OffsetDateTime;

use super::{Reserve, created};

pub(super) fn router() -> Router {
    Router::new().route("/reservations", post(reserve))
}

async fn reserve(Json(request): Json<Reserve>) -> Result<Response, Problem> {
    static LAST_ID: AtomicI64 = AtomicI64::new(0);
    let id = LAST_ID.fetch_add(1, Relaxed) + 1;
    Ok(created(request.held(id, OffsetDateTime::now_utc())?))
}
