//! What a request asks for, and how it is answered: the same for each comparator.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use flashsale_api::Problem;
use inventory::{
    ProductId, Quantity, UserId,
    reservation::{Refusal, Reservation, Status},
};
use serde::Deserialize;
use time::OffsetDateTime;

/// Duration of the comparators' holds: the product's default.
pub(super) const HOLD: time::Duration = time::Duration::minutes(5);

/// The body of `POST /reservations`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reserve {
    pub(super) product_id: ProductId,
    pub(super) user_id: UserId,
}

impl Reserve {
    /// The answer to this request after its hold was created.
    pub(super) fn held(&self, id: i64, created_at: OffsetDateTime) -> Result<Reservation, Problem> {
        Ok(Reservation {
            id: id.try_into().map_err(|_| Problem::Internal)?,
            product_id: self.product_id,
            user_id: self.user_id,
            quantity: Quantity::ONE,
            status: Status::Active,
            created_at,
            expires_at: created_at + HOLD,
            confirmed_at: None,
            canceled_at: None,
            expired_at: None,
            returned_at: None,
            reference: None,
            reacquired_from: None,
        })
    }
}

pub(super) fn created(hold: Reservation) -> Response {
    let location = [(header::LOCATION, format!("/reservations/{}", hold.id))];
    (StatusCode::CREATED, location, Json(hold)).into_response()
}

pub(super) fn sold_out() -> Problem {
    Refusal::SoldOut { free: 0 }.into()
}

/// A failure of PostgreSQL or Redis: logged, and answered with 503, which the load counts separately.
pub(super) fn failed(error: impl std::fmt::Display) -> Problem {
    tracing::warn!(%error, "a request failed");
    Problem::Overloaded
}
