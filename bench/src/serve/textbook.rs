//! One transaction per request, which locks the product's row, and then Redis: the straightforward design, on the
//! product's own schema.

use axum::{Json, Router, extract::State, response::Response, routing::post};
use flashsale_api::Problem;
use inventory::reservation::{Refusal, Reservation};
use redis::aio::MultiplexedConnection;
use sqlx::PgPool;
use time::OffsetDateTime;

use super::contract::{HOLD, Reserve, created, failed, sold_out};

#[derive(Clone)]
struct Shop {
    pool: PgPool,
    redis: MultiplexedConnection,
}

pub(super) fn router(pool: PgPool, redis: MultiplexedConnection) -> Router {
    Router::new()
        .route("/reservations", post(reserve))
        .with_state(Shop { pool, redis })
}

async fn reserve(
    State(mut shop): State<Shop>,
    Json(request): Json<Reserve>,
) -> Result<Response, Problem> {
    let hold = hold(&shop.pool, &request).await?;
    redis::pipe()
        .cmd("SET")
        .arg(format!("reservation:{}", hold.id))
        .arg(1)
        .arg("EX")
        .arg(HOLD.whole_seconds())
        .cmd("INCR")
        .arg("metrics:reservations:created")
        .exec_async(&mut shop.redis)
        .await
        .map_err(failed)?;
    Ok(created(hold))
}

async fn hold(pool: &PgPool, request: &Reserve) -> Result<Reservation, Problem> {
    let mut transaction = pool.begin().await.map_err(failed)?;
    let stock: Option<i32> = sqlx::query_scalar(
        "-- textbook: lock\nselect stock from products where id = $1 for update",
    )
    .bind(request.product_id)
    .fetch_optional(&mut *transaction)
    .await
    .map_err(failed)?;
    let Some(stock) = stock else {
        return Err(Refusal::ProductNotFound.into());
    };
    // The condition on `user_id` alone is always true. It selects the partial index of the product's schema.
    let active = sqlx::query_scalar(
        "-- textbook: the user's hold
        select id from reservations
        where user_id = $1 and product_id = $2 and status = 'ACTIVE' and user_id > 0",
    )
    .bind(request.user_id)
    .bind(request.product_id)
    .fetch_optional(&mut *transaction)
    .await
    .map_err(failed)?;
    if let Some(reservation_id) = active {
        return Err(Refusal::AlreadyReserved { reservation_id }.into());
    }
    if stock == 0 {
        return Err(sold_out());
    }
    let (id, created_at): (i64, OffsetDateTime) = sqlx::query_as(
        "-- textbook: write the hold
        insert into reservations (product_id, user_id, expires_at)
        values ($1, $2, clock_timestamp() + make_interval(secs => $3)) returning id, created_at",
    )
    .bind(request.product_id)
    .bind(request.user_id)
    .bind(HOLD.as_seconds_f64())
    .fetch_one(&mut *transaction)
    .await
    .map_err(failed)?;
    let taken = sqlx::query(
        "-- textbook: take the stock
        update products set stock = stock - 1, held = held + 1 where id = $1 and stock > 0",
    )
    .bind(request.product_id)
    .execute(&mut *transaction)
    .await
    .map_err(failed)?;
    if taken.rows_affected() == 0 {
        return Err(sold_out());
    }
    transaction.commit().await.map_err(failed)?;
    request.held(id, created_at)
}
