//! Parses the request and returns a made-up reservation or product: the limit of HTTP and JSON alone.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use axum::{
    Json, Router,
    extract::Path,
    response::Response,
    routing::{get, post},
};
use flashsale_api::Problem;
use inventory::{ProductId, product::Product};
use time::OffsetDateTime;

use super::contract::{Reserve, created};
use crate::database::PLENTY;

pub(super) fn router() -> Router {
    Router::new()
        .route("/reservations", post(reserve))
        .route("/products/{id}", get(product))
}

async fn reserve(Json(request): Json<Reserve>) -> Result<Response, Problem> {
    static LAST_ID: AtomicI64 = AtomicI64::new(0);
    let id = LAST_ID.fetch_add(1, Relaxed) + 1;
    Ok(created(request.held(id, OffsetDateTime::now_utc())?))
}

async fn product(Path(id): Path<ProductId>) -> Json<Product> {
    Json(Product {
        id,
        name: "on sale".to_owned(),
        stock: PLENTY,
        held: 0,
        sold: 0,
        total: PLENTY,
        waiting: 0,
        created_at: OffsetDateTime::now_utc(),
        sku: None,
        hold_seconds: None,
        max_hold_seconds: None,
        max_per_user: None,
        sale_starts_at: None,
        sale_ends_at: None,
    })
}
