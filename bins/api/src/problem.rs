//! Errors as clients see them: RFC 9457 problem details. Each kind of error has its own code.

use std::borrow::Cow;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use inventory::{
    ProductId, ReservationId, WaitlistEntryId,
    adjust_stock::InvalidAdjustment,
    cell,
    moved::Subject,
    product::{InvalidProduct, Rejected},
    reservation::Refusal,
    sku::Sku,
};
use lanes::NoAnswer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::Level;

use crate::{
    code::ProblemCode,
    faults::{self, Fault},
    json::{self, PROBLEM_JSON},
};

/// Every error that the API answers.
#[derive(Clone, Debug)]
pub enum Problem {
    InvalidJson(String),
    InvalidQuery(String),
    /// At least one fault.
    InvalidRequest(Vec<Fault>),
    /// At least one fault.
    InvalidProduct(Vec<InvalidProduct>),
    /// What is not supported, for people.
    UnsupportedMediaType(&'static str),
    BodyTooLarge,
    RequestTimeout,
    NotFound,
    MethodNotAllowed,
    /// The secret that this text names is missing or wrong.
    Unauthorized(&'static str),
    /// Why, for people.
    Forbidden(String),
    InvalidHost,
    /// Nothing can have the id in the path, because it is not a valid id. The refusal is that of an unknown id.
    InvalidId(Refusal),
    Refused(Refusal),
    /// The refusal of one part of a batch.
    RefusedOf(Subject, Refusal),
    /// The number of the cell where it is now.
    ProductMoved(i32),
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    IdempotencyKeyInUse,
    TooManyViewers,
    Overloaded,
    OutcomeUnknown,
    Internal,
}

/// The `Retry-After` header of every 503, in seconds. Most overloads are over by then.
const RETRY_AFTER_SECONDS: &str = "1";

/// An error, as RFC 9457 defines it. Programs should branch on `code`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct Body {
    /// `urn:flashsale:problem:` and the code. It is a name, not an address.
    #[schemars(extend("format" = "uri"))]
    r#type: String,
    /// What the code means. The same text for every problem with this code.
    title: &'static str,
    /// The HTTP status of the response.
    #[schemars(range(min = 400, max = 599))]
    status: u16,
    /// What went wrong with this request, for people.
    detail: String,
    code: ProblemCode,
    /// With `invalid_request` and `invalid_product`: what is wrong, and where in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Fault>", length(min = 1))]
    errors: Option<Vec<Fault>>,
    /// With `already_reserved` and `waitlist_entry_offered`: the hold that the user already has. For a batch of
    /// reservations: the first one for which the request cannot be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ReservationId")]
    reservation_id: Option<ReservationId>,
    /// For a batch: the first product that cannot be reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProductId")]
    product_id: Option<ProductId>,
    /// For a batch: the first SKU that no product has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Sku")]
    sku: Option<Sku>,
    /// With `sold_out`, `insufficient_stock` and `stock_changed`: the number of free units.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 0))]
    stock: Option<i32>,
    /// With `sold_out`: other users wait for the product, and get the units that come free. Missing if nobody waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool", extend("const" = true))]
    waitlist: Option<bool>,
    /// With `already_waiting`: the entry that the user already has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WaitlistEntryId")]
    entry_id: Option<WaitlistEntryId>,
    /// With `max_per_user_reached`: the number of units that the user may still reserve.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 0))]
    remaining: Option<i32>,
    /// With `product_moved`: the number of the cell where the product is now. With `sku_taken`: the number of the cell to
    /// which the product with this SKU has moved. Missing if it is in this cell.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 0, max = cell::MAX))]
    cell: Option<i32>,
}

impl Problem {
    pub(crate) fn code(&self) -> ProblemCode {
        match self {
            Self::InvalidJson(_) => ProblemCode::InvalidJson,
            Self::InvalidQuery(_) => ProblemCode::InvalidQuery,
            Self::InvalidRequest(_) => ProblemCode::InvalidRequest,
            Self::InvalidProduct(_) => ProblemCode::InvalidProduct,
            Self::UnsupportedMediaType(_) => ProblemCode::UnsupportedMediaType,
            Self::BodyTooLarge => ProblemCode::BodyTooLarge,
            Self::RequestTimeout => ProblemCode::RequestTimeout,
            Self::NotFound => ProblemCode::NotFound,
            Self::MethodNotAllowed => ProblemCode::MethodNotAllowed,
            Self::Unauthorized(_) => ProblemCode::Unauthorized,
            Self::Forbidden(_) => ProblemCode::Forbidden,
            Self::InvalidHost => ProblemCode::InvalidHost,
            Self::InvalidId(refusal) | Self::Refused(refusal) | Self::RefusedOf(_, refusal) => {
                ProblemCode::of(refusal)
            }
            Self::ProductMoved(_) => ProblemCode::ProductMoved,
            Self::IdempotencyKeyInvalid => ProblemCode::IdempotencyKeyInvalid,
            Self::IdempotencyKeyReused => ProblemCode::IdempotencyKeyReused,
            Self::IdempotencyKeyInUse => ProblemCode::IdempotencyKeyInUse,
            Self::TooManyViewers => ProblemCode::TooManyViewers,
            Self::Overloaded => ProblemCode::Overloaded,
            Self::OutcomeUnknown => ProblemCode::OutcomeUnknown,
            Self::Internal => ProblemCode::Internal,
        }
    }

    /// A problem that has this code, as an example for the OpenAPI document.
    pub(crate) fn example(code: ProblemCode) -> Self {
        match code {
            ProblemCode::InvalidJson => {
                Self::InvalidJson("EOF while parsing an object at line 1 column 18".to_owned())
            }
            ProblemCode::InvalidQuery => {
                Self::InvalidQuery("limit must be a whole number from 1 to 100".to_owned())
            }
            ProblemCode::IdempotencyKeyInvalid => Self::IdempotencyKeyInvalid,
            ProblemCode::Unauthorized => Self::Unauthorized("an API key"),
            ProblemCode::Forbidden => Self::Forbidden(
                "no ADMIN_TOKEN is set, and the API does not listen on a loopback address"
                    .to_owned(),
            ),
            ProblemCode::InvalidHost => Self::InvalidHost,
            ProblemCode::NotFound => Self::NotFound,
            ProblemCode::ProductNotFound => Self::Refused(Refusal::ProductNotFound),
            ProblemCode::ReservationNotFound => Self::Refused(Refusal::ReservationNotFound),
            ProblemCode::MethodNotAllowed => Self::MethodNotAllowed,
            ProblemCode::SkuTaken => Self::Refused(Refusal::SkuTaken),
            ProblemCode::SkuFixed => Self::Refused(Refusal::SkuFixed),
            ProblemCode::SaleNotOpen => Self::Refused(Refusal::SaleNotOpen),
            ProblemCode::SaleClosed => Self::Refused(Refusal::SaleClosed),
            ProblemCode::AlreadyReserved => Self::Refused(Refusal::AlreadyReserved {
                reservation_id: ReservationId::ONE,
            }),
            ProblemCode::SoldOut => Self::Refused(Refusal::SoldOut { free: 0 }),
            ProblemCode::AlreadyWaiting => Self::Refused(Refusal::AlreadyWaiting {
                entry_id: WaitlistEntryId::ONE,
            }),
            ProblemCode::WaitlistEntryNotFound => Self::Refused(Refusal::WaitlistEntryNotFound),
            ProblemCode::WaitlistEntryOffered => Self::Refused(Refusal::WaitlistEntryOffered {
                reservation_id: ReservationId::ONE,
            }),
            ProblemCode::WaitlistEntryClosed => Self::Refused(Refusal::WaitlistEntryClosed),
            ProblemCode::MaxPerUserReached => {
                Self::Refused(Refusal::MaxPerUserReached { remaining: 1 })
            }
            ProblemCode::ReservationExpired => Self::Refused(Refusal::ReservationExpired),
            ProblemCode::ReservationCanceled => Self::Refused(Refusal::ReservationCanceled),
            ProblemCode::ReservationConfirmed => Self::Refused(Refusal::ReservationConfirmed),
            ProblemCode::ReservationReturned => Self::Refused(Refusal::ReservationReturned),
            ProblemCode::ReservationNotConfirmed => Self::Refused(Refusal::ReservationNotConfirmed),
            ProblemCode::ExpiredSoldOut => Self::Refused(Refusal::ExpiredSoldOut),
            ProblemCode::InsufficientStock => Self::Refused(Refusal::InsufficientStock { free: 3 }),
            ProblemCode::StockChanged => Self::Refused(Refusal::StockChanged { free: 78 }),
            ProblemCode::IdempotencyKeyInUse => Self::IdempotencyKeyInUse,
            ProblemCode::BodyTooLarge => Self::BodyTooLarge,
            ProblemCode::RequestTimeout => Self::RequestTimeout,
            ProblemCode::UnsupportedMediaType => {
                Self::UnsupportedMediaType("send Content-Type: application/json")
            }
            ProblemCode::ProductMoved => Self::ProductMoved(7),
            ProblemCode::InvalidRequest => Fault::of("/colour", "there is no such field").into(),
            ProblemCode::InvalidProduct => InvalidProduct::Window.into(),
            ProblemCode::IdempotencyKeyReused => Self::IdempotencyKeyReused,
            ProblemCode::TooManyViewers => Self::TooManyViewers,
            ProblemCode::Internal => Self::Internal,
            ProblemCode::Overloaded => Self::Overloaded,
            ProblemCode::OutcomeUnknown => Self::OutcomeUnknown,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::InvalidJson(detail) | Self::InvalidQuery(detail) | Self::Forbidden(detail) => {
                detail.clone()
            }
            Self::InvalidRequest(faults) => faults::detail(faults),
            Self::InvalidProduct(faults) => in_one_text(faults),
            Self::UnsupportedMediaType(detail) => (*detail).to_owned(),
            Self::Unauthorized(wanted) => format!("send Authorization: Bearer with {wanted}"),
            Self::InvalidId(refusal) => format!(
                "{refusal}: an id is a whole number from 1 to {}, in digits only",
                i64::MAX
            ),
            Self::Refused(refusal) | Self::RefusedOf(_, refusal) => refusal.to_string(),
            Self::ProductMoved(cell) => format!("the product has moved to cell {cell}"),
            _ => self.code().spec().action.to_owned(),
        }
    }

    pub(crate) fn body(&self) -> Body {
        let code = self.code();
        let spec = code.spec();
        let mut body = Body {
            r#type: format!("urn:flashsale:problem:{}", spec.code),
            title: spec.title,
            status: spec.status.as_u16(),
            detail: self.detail(),
            code,
            errors: None,
            reservation_id: None,
            product_id: None,
            sku: None,
            stock: None,
            waitlist: None,
            entry_id: None,
            remaining: None,
            cell: None,
        };
        if let Self::ProductMoved(cell) = self {
            body.cell = Some(*cell);
        }
        match self {
            Self::InvalidRequest(faults) => body.errors = Some(faults.clone()),
            Self::InvalidProduct(faults) => {
                let faults = faults
                    .iter()
                    .map(|fault| Fault::of(&format!("/{}", fault.field()), &fault.to_string()));
                body.errors = Some(faults.collect());
            }
            _ => {}
        }
        match self {
            Self::RefusedOf(Subject::Product(id), _) => body.product_id = Some(*id),
            Self::RefusedOf(Subject::Reservation(id), _) => body.reservation_id = Some(*id),
            Self::RefusedOf(Subject::Sku(sku), _) => body.sku = Some(sku.clone()),
            _ => {}
        }
        if let Self::Refused(refusal) | Self::RefusedOf(_, refusal) = self {
            match refusal {
                Refusal::AlreadyReserved { reservation_id }
                | Refusal::WaitlistEntryOffered { reservation_id } => {
                    body.reservation_id = Some(*reservation_id);
                }
                Refusal::SoldOut { free }
                | Refusal::InsufficientStock { free }
                | Refusal::StockChanged { free } => {
                    body.stock = Some(*free);
                }
                Refusal::SoldOutToWaitlist { free } => {
                    body.stock = Some(*free);
                    body.waitlist = Some(true);
                }
                Refusal::AlreadyWaiting { entry_id } => body.entry_id = Some(*entry_id),
                Refusal::SkuMoved { to_cell } => body.cell = Some(*to_cell),
                Refusal::TotalTooLarge => {
                    body.errors = Some(vec![Fault::of("/delta", &refusal.to_string())]);
                }
                Refusal::MaxPerUserReached { remaining } => body.remaining = Some(*remaining),
                _ => {}
            }
        }
        body
    }
}

impl ProblemCode {
    pub(crate) fn of(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::ProductNotFound => Self::ProductNotFound,
            Refusal::ReservationNotFound => Self::ReservationNotFound,
            Refusal::SkuTaken | Refusal::SkuMoved { .. } => Self::SkuTaken,
            Refusal::SkuFixed => Self::SkuFixed,
            Refusal::SaleNotOpen => Self::SaleNotOpen,
            Refusal::SaleClosed => Self::SaleClosed,
            Refusal::MaxPerUserReached { .. } => Self::MaxPerUserReached,
            Refusal::SoldOut { .. } | Refusal::SoldOutToWaitlist { .. } => Self::SoldOut,
            Refusal::AlreadyWaiting { .. } => Self::AlreadyWaiting,
            Refusal::WaitlistEntryNotFound => Self::WaitlistEntryNotFound,
            Refusal::WaitlistEntryOffered { .. } => Self::WaitlistEntryOffered,
            Refusal::WaitlistEntryClosed => Self::WaitlistEntryClosed,
            Refusal::AlreadyReserved { .. } => Self::AlreadyReserved,
            Refusal::ReservationExpired => Self::ReservationExpired,
            Refusal::ReservationCanceled => Self::ReservationCanceled,
            Refusal::ReservationConfirmed => Self::ReservationConfirmed,
            Refusal::ReservationReturned => Self::ReservationReturned,
            Refusal::ReservationNotConfirmed => Self::ReservationNotConfirmed,
            Refusal::ExpiredSoldOut => Self::ExpiredSoldOut,
            Refusal::InsufficientStock { .. } => Self::InsufficientStock,
            Refusal::StockChanged { .. } => Self::StockChanged,
            Refusal::TotalTooLarge => Self::InvalidRequest,
        }
    }
}

/// The problem of a response, for metrics and the log. It travels in the response's extensions.
#[derive(Clone)]
pub(crate) struct ProblemReport {
    pub(crate) code: ProblemCode,
    /// For the log. `None` if the log does not show problems, or if the detail quotes the client.
    pub(crate) detail: Option<String>,
    /// What the problem is about, if it is known and not in the path.
    pub(crate) subject: Option<Subject>,
}

impl ProblemReport {
    fn of(problem: &Problem) -> Self {
        // These details quote text of the client. That text can contain a misplaced secret, so it is not logged.
        let quotes = matches!(
            problem,
            Problem::InvalidQuery(_) | Problem::InvalidRequest(_)
        );
        Self {
            code: problem.code(),
            detail: (!quotes && logs_problems()).then(|| problem.detail()),
            subject: match problem {
                Problem::RefusedOf(subject, _) => Some(subject.clone()),
                _ => None,
            },
        }
    }

    /// Reads the report from a stored problem body.
    pub(crate) fn in_body(body: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Coded<'a> {
            code: &'a str,
            #[serde(borrow)]
            detail: Cow<'a, str>,
            product_id: Option<ProductId>,
            reservation_id: Option<ReservationId>,
            sku: Option<Sku>,
        }
        let coded: Coded<'_> = serde_json::from_str(body).ok()?;
        let subject = coded.product_id.map(Subject::Product);
        let subject = subject.or(coded.reservation_id.map(Subject::Reservation));
        Some(Self {
            code: ProblemCode::named(coded.code)?,
            detail: logs_problems().then(|| coded.detail.into_owned()),
            subject: subject.or(coded.sku.map(Subject::Sku)),
        })
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let report = ProblemReport::of(&self);
        let status = report.code.spec().status;
        // Serialization cannot fail: the body has only strings and numbers.
        let mut response = json::body(PROBLEM_JSON, &self.body()).unwrap_or_default();
        *response.status_mut() = status;
        response.extensions_mut().insert(report);
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
        Self::InvalidProduct(vec![invalid])
    }
}

impl From<Rejected> for Problem {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Invalid(invalid) => invalid.into(),
            Rejected::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<InvalidAdjustment> for Problem {
    fn from(invalid: InvalidAdjustment) -> Self {
        let pointer = match invalid {
            InvalidAdjustment::Delta => "/delta",
            InvalidAdjustment::Reason => "/reason",
        };
        Fault::of(pointer, &invalid.to_string()).into()
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::InvalidRequest(vec![fault])
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

/// All faults of a product in one text. Each names its field.
pub(crate) fn in_one_text(faults: &[InvalidProduct]) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    faults.join("; ")
}

/// Whether the log has one line for each problem.
fn logs_problems() -> bool {
    tracing::enabled!(Level::DEBUG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_example_has_its_code_and_each_code_its_own_name() {
        for (position, code) in ProblemCode::ALL.iter().enumerate() {
            assert_eq!(Problem::example(*code).code(), *code);
            let name = code.spec().code;
            let before = &ProblemCode::ALL[..position];
            assert!(
                before.iter().all(|other| other.spec().code != name),
                "{name}"
            );
        }
    }
}
