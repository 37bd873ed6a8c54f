//! Errors as clients see them: RFC 9457 problem details, each with a code of its own.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use inventory::{
    ProductId, ReservationId, adjust_stock::InvalidAdjustment, product::InvalidProduct,
    reservation::Refusal,
};
use serde::Serialize;

use crate::{answer, lanes::NoAnswer};

/// Everything that the API answers instead of what was asked for.
#[derive(Clone, Debug)]
pub enum Problem {
    InvalidJson(String),
    InvalidQuery(String),
    InvalidRequest(String),
    InvalidProduct(String),
    UnsupportedMediaType,
    BodyTooLarge,
    NotFound,
    MethodNotAllowed,
    /// What it takes is missing or wrong.
    Unauthorized(&'static str),
    Forbidden,
    Refused(Refusal),
    /// One of several products that were to be had together.
    RefusedOf(ProductId, Refusal),
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    IdempotencyKeyInUse,
    Overloaded,
    OutcomeUnknown,
    Internal,
}

/// What seconds to wait before a retry is worth it, on every 503.
const RETRY_AFTER_SECONDS: &str = "1";

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: String,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reservation_id: Option<ReservationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    product_id: Option<ProductId>,
    /// Units that are free.
    #[serde(skip_serializing_if = "Option::is_none")]
    stock: Option<i32>,
    /// Units that the user may still have.
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<i32>,
}

impl Problem {
    /// Status, code and title: the one table from problems to HTTP.
    fn terms(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::InvalidJson(_) => (
                StatusCode::BAD_REQUEST,
                "invalid_json",
                "The body is not JSON",
            ),
            Self::InvalidQuery(_) => (
                StatusCode::BAD_REQUEST,
                "invalid_query",
                "The query is not valid",
            ),
            Self::InvalidRequest(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_request",
                "The request is not valid",
            ),
            Self::InvalidProduct(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_product",
                "The product is not valid",
            ),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body must be application/json",
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "The body is too large",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "There is no such route"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "The route does not know this method",
            ),
            Self::Unauthorized(_) => (
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "The bearer token is missing or wrong",
            ),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "Admin acts are not allowed here",
            ),
            Self::Refused(refusal) | Self::RefusedOf(_, refusal) => refused(refusal),
            Self::IdempotencyKeyInvalid => (
                StatusCode::BAD_REQUEST,
                "idempotency_key_invalid",
                "The Idempotency-Key is not valid",
            ),
            Self::IdempotencyKeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "The Idempotency-Key is that of another request",
            ),
            Self::IdempotencyKeyInUse => (
                StatusCode::CONFLICT,
                "idempotency_key_in_use",
                "A request with this Idempotency-Key is under way",
            ),
            Self::Overloaded => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "The service cannot do it now; nothing was done",
            ),
            Self::OutcomeUnknown => (
                StatusCode::SERVICE_UNAVAILABLE,
                "outcome_unknown",
                "The answer was lost; it may have been done",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The service has a fault",
            ),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::InvalidJson(detail)
            | Self::InvalidQuery(detail)
            | Self::InvalidRequest(detail)
            | Self::InvalidProduct(detail) => detail.clone(),
            Self::UnsupportedMediaType => "send Content-Type: application/json".to_owned(),
            Self::BodyTooLarge => "a body has at most 16384 bytes".to_owned(),
            Self::NotFound => "see the README for the routes".to_owned(),
            Self::MethodNotAllowed => "the Allow header names the methods".to_owned(),
            Self::Unauthorized(wanted) => format!("send Authorization: Bearer with {wanted}"),
            Self::Forbidden => {
                "without ADMIN_TOKEN, admin acts are allowed only directly from the \
                machine itself, while the API listens on a loopback address"
                    .to_owned()
            }
            Self::Refused(refusal) | Self::RefusedOf(_, refusal) => refusal.to_string(),
            Self::IdempotencyKeyInvalid => {
                "send one Idempotency-Key of 1 to 255 visible ASCII characters, in quotes or not"
                    .to_owned()
            }
            Self::IdempotencyKeyReused => {
                "method, path, query and body must be those of the first request with this key"
                    .to_owned()
            }
            Self::IdempotencyKeyInUse => {
                "nothing was done for this one; repeat it to get the answer of the other".to_owned()
            }
            Self::Overloaded => "try again after Retry-After seconds".to_owned(),
            Self::OutcomeUnknown => {
                "repeat the request to find out: a repeat has no second effect, except for \
                POST /products and POST /products/{id}/stock without Idempotency-Key"
                    .to_owned()
            }
            Self::Internal => "it was logged; a repeat may fail again".to_owned(),
        }
    }
}

fn refused(refusal: &Refusal) -> (StatusCode, &'static str, &'static str) {
    match refusal {
        Refusal::ProductNotFound => (
            StatusCode::NOT_FOUND,
            "product_not_found",
            "There is no such product",
        ),
        Refusal::ReservationNotFound => (
            StatusCode::NOT_FOUND,
            "reservation_not_found",
            "There is no such reservation",
        ),
        Refusal::SaleNotOpen => (
            StatusCode::CONFLICT,
            "sale_not_open",
            "The sale has not begun",
        ),
        Refusal::SaleClosed => (StatusCode::CONFLICT, "sale_closed", "The sale is over"),
        Refusal::MaxPerUserReached { .. } => (
            StatusCode::CONFLICT,
            "max_per_user_reached",
            "The user may not have so many units",
        ),
        Refusal::SoldOut { .. } => (StatusCode::CONFLICT, "sold_out", "The product is sold out"),
        Refusal::AlreadyReserved { .. } => (
            StatusCode::CONFLICT,
            "already_reserved",
            "The user holds this product already",
        ),
        Refusal::ReservationExpired => (
            StatusCode::CONFLICT,
            "reservation_expired",
            "The reservation has expired",
        ),
        Refusal::ReservationCanceled => (
            StatusCode::CONFLICT,
            "reservation_canceled",
            "The reservation was canceled",
        ),
        Refusal::ReservationConfirmed => (
            StatusCode::CONFLICT,
            "reservation_confirmed",
            "The reservation was confirmed",
        ),
        Refusal::ReservationReturned => (
            StatusCode::CONFLICT,
            "reservation_returned",
            "The reservation was returned",
        ),
        Refusal::ReservationNotConfirmed => (
            StatusCode::CONFLICT,
            "reservation_not_confirmed",
            "The reservation was not confirmed",
        ),
        Refusal::ExpiredSoldOut => (
            StatusCode::CONFLICT,
            "expired_sold_out",
            "The reservation has expired, and its units are gone",
        ),
        Refusal::InsufficientStock { .. } => (
            StatusCode::CONFLICT,
            "insufficient_stock",
            "Fewer units are free",
        ),
        Refusal::TotalTooLarge => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_request",
            "The request is not valid",
        ),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, code, title) = self.terms();
        let mut body = Body {
            r#type: format!("urn:flashsale:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: self.detail(),
            code,
            reservation_id: None,
            product_id: None,
            stock: None,
            remaining: None,
        };
        if let Self::RefusedOf(product_id, _) = self {
            body.product_id = Some(product_id);
        }
        if let Self::Refused(refusal) | Self::RefusedOf(_, refusal) = self {
            match refusal {
                Refusal::AlreadyReserved { reservation_id } => {
                    body.reservation_id = Some(reservation_id);
                }
                Refusal::SoldOut { free } | Refusal::InsufficientStock { free } => {
                    body.stock = Some(free);
                }
                Refusal::MaxPerUserReached { remaining } => body.remaining = Some(remaining),
                _ => {}
            }
        }
        // Strings and numbers always serialise.
        let mut response = answer::body(answer::PROBLEM_JSON, &body).unwrap_or_default();
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from_static(RETRY_AFTER_SECONDS),
            );
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<InvalidProduct> for Problem {
    fn from(invalid: InvalidProduct) -> Self {
        Self::InvalidProduct(invalid.to_string())
    }
}

impl From<InvalidAdjustment> for Problem {
    fn from(invalid: InvalidAdjustment) -> Self {
        Self::InvalidRequest(invalid.to_string())
    }
}

impl From<NoAnswer> for Problem {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::Overloaded => Self::Overloaded,
            NoAnswer::OutcomeUnknown => Self::OutcomeUnknown,
        }
    }
}
