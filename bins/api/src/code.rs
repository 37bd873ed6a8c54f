//! The table of all problem codes. Error responses, the OpenAPI document and the page `/docs` are generated from it.

use std::borrow::Cow;

use axum::http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// Longest request body, in bytes. Every valid body is far smaller.
pub(crate) const BODY_MAX_BYTES: usize = 16 * 1024;

/// Longest `Idempotency-Key`, in characters.
pub(crate) const KEY_MAX_CHARACTERS: usize = 255;

/// The entry of a code in the table.
pub(crate) struct ProblemSpec {
    pub(crate) code: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    /// When the API answers with this code.
    pub(crate) when: &'static str,
    /// What the client should do. It is also the problem's `detail`, unless the problem has a more precise one.
    pub(crate) action: &'static str,
}

macro_rules! codes {
    ($($variant:ident $code:literal $status:ident $title:literal
        when $when:literal do $action:literal;)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum ProblemCode {
            $($variant),+
        }

        impl ProblemCode {
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),+];

            pub(crate) fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.spec().code == name)
            }

            pub(crate) const fn spec(self) -> &'static ProblemSpec {
                match self {
                    $(Self::$variant => &ProblemSpec {
                        code: $code,
                        status: StatusCode::$status,
                        title: $title,
                        when: $when,
                        action: $action,
                    }),+
                }
            }
        }
    };
}

codes! {
    InvalidJson "invalid_json" BAD_REQUEST "The body is not JSON"
        when "the body is missing, is not valid JSON, or is not UTF-8" do "send a JSON object";
    InvalidQuery "invalid_query" BAD_REQUEST "The query is not valid"
        when "a query parameter is unknown, appears twice, or is out of range"
        do "correct the parameter that `detail` names";
    InvalidHost "invalid_host" BAD_REQUEST "The request does not name one host"
        when "an HTTP/1.1 request has no `Host` header, more than one, or one that is not valid"
        do "send one Host header";
    IdempotencyKeyInvalid "idempotency_key_invalid" BAD_REQUEST "The Idempotency-Key is not valid"
        when "the header `Idempotency-Key` appears twice, or its value is not a valid key"
        do "send one Idempotency-Key of 1 to 255 visible ASCII characters, with or without quotes";
    Unauthorized "unauthorized" UNAUTHORIZED "The bearer token is missing or wrong"
        when "an admin request does not have the configured `ADMIN_TOKEN`; or `API_KEYS_FILE` is set and another \
            request does not have a valid API key"
        do "send Authorization: Bearer with the secret that `detail` names";
    Forbidden "forbidden" FORBIDDEN "The request is not allowed"
        when "no `ADMIN_TOKEN` is set, and an admin request does not come directly from the same machine; or no \
            `API_KEYS_FILE` is set, and another site's page may have caused the request"
        do "set ADMIN_TOKEN for admin requests, and API_KEYS_FILE for all others; `detail` says what was noticed";
    NotFound "not_found" NOT_FOUND "There is no such route"
        when "no route has this path" do "see /docs for the routes";
    ProductNotFound "product_not_found" NOT_FOUND "There is no such product"
        when "no product has this id or SKU, or the path does not contain a valid id" do "check the id or the SKU";
    ReservationNotFound "reservation_not_found" NOT_FOUND "There is no such reservation"
        when "no reservation has this id, or the path does not contain a valid id" do "check the id";
    WaitlistEntryNotFound "waitlist_entry_not_found" NOT_FOUND "There is no such entry in a waitlist"
        when "no entry has this id, or the path does not contain a valid id" do "check the id";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "The route does not support this method"
        when "a route has this path, but does not support the method" do "use a method that the Allow header names";
    RequestTimeout "request_timeout" REQUEST_TIMEOUT "The body did not arrive in time"
        when "the body has not arrived within `HTTP_BODY_SECONDS`; nothing was done"
        do "send the whole request again, on a new connection";
    SkuTaken "sku_taken" CONFLICT "Another product has this SKU"
        when "another product has the same `sku`; if it has moved to another cell, `cell` has the number of that cell"
        do "use another SKU, or change the product that has it";
    SkuFixed "sku_fixed" CONFLICT "The product has another SKU"
        when "the product has a `sku` already, and a SKU never changes"
        do "leave the SKU as it is, or create a new product";
    SaleNotOpen "sale_not_open" CONFLICT "The sale has not begun"
        when "`sale_starts_at` is in the future, by the database's clock" do "try again at that time";
    SaleClosed "sale_closed" CONFLICT "The sale is over"
        when "`sale_ends_at` is in the past, by the database's clock"
        do "do not retry, unless the product's `sale_ends_at` is changed";
    AlreadyReserved "already_reserved" CONFLICT "The user already holds this product"
        when "the user has an unexpired hold of the product; `reservation_id` names the hold"
        do "if this is a retry after a lost answer, continue with that hold";
    SoldOut "sold_out" CONFLICT "The product is sold out"
        when "fewer units are free than the request asks for, or, with `waitlist`, other users wait for the product; \
            `stock` has the number of free units"
        do "ask for fewer units, join the waitlist, or try again later: units of expired holds become free";
    AlreadyWaiting "already_waiting" CONFLICT "The user already waits for this product"
        when "the user has a waiting entry in the product's waitlist; `entry_id` names the entry"
        do "if this is a retry after a lost answer, continue with that entry";
    WaitlistEntryOffered "waitlist_entry_offered" CONFLICT "The entry does not wait any more: a hold was offered"
        when "the user was offered a hold before the request; `reservation_id` names the hold"
        do "to give the units up, cancel the reservation";
    WaitlistEntryClosed "waitlist_entry_closed" CONFLICT "The entry does not wait any more: it was closed"
        when "the sale has ended, or the user could not have so many units any more" do "nothing: the entry has ended";
    MaxPerUserReached "max_per_user_reached" CONFLICT "The user may not have that many units"
        when "with these units the user would have more than the product's `max_per_user`"
        do "ask for at most `remaining` units";
    ReservationExpired "reservation_expired" CONFLICT "The reservation has expired"
        when "the hold's deadline has passed"
        do "reserve again; if the user has paid, confirm with `{\"reacquire\": true}`";
    ReservationCanceled "reservation_canceled" CONFLICT "The reservation was canceled"
        when "the hold was canceled earlier" do "reserve again";
    ReservationConfirmed "reservation_confirmed" CONFLICT "The reservation was confirmed"
        when "the units are already sold" do "to undo the sale, return the reservation";
    ReservationReturned "reservation_returned" CONFLICT "The reservation was returned"
        when "the sale was returned earlier" do "reserve again";
    ReservationNotConfirmed "reservation_not_confirmed" CONFLICT "The reservation was not confirmed"
        when "the reservation is still a hold; only a sale can be returned" do "cancel the reservation instead";
    ExpiredSoldOut "expired_sold_out" CONFLICT "The reservation has expired, and its units are gone"
        when "the payment came after the deadline, and too few units are free, or other users wait for them"
        do "refund the payment";
    InsufficientStock "insufficient_stock" CONFLICT "Too few units are free"
        when "the request removes more units than are free; `stock` has the number of free units"
        do "remove fewer units, or wait until holds end";
    StockChanged "stock_changed" CONFLICT "The stock has changed"
        when "another number of units is free than `expected`; `stock` has the number of free units"
        do "count again, or compare with `stock`, and send the request with the new numbers";
    IdempotencyKeyInUse "idempotency_key_in_use" CONFLICT "A request with this Idempotency-Key is in progress"
        when "the first request with this key is still in progress after 1 s"
        do "nothing was done for this request; repeat it to get the answer of the first one";
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "The body is too large"
        when "the body is larger than the limit" do "send a body of at most 16384 bytes";
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "The body must be application/json"
        when "the Content-Type of the body is not JSON in UTF-8, or another header says that the body is encoded, is a \
            part, or has a digest"
        do "send Content-Type: application/json, and the body without Content-Encoding";
    ProductMoved "product_moved" MISDIRECTED_REQUEST "The product is in another cell"
        when "the operator has moved the product, with all its reservations, to the cell whose number is `cell`; nothing \
            was done"
        do "send this request, and all later ones about the product, to that cell";
    InvalidRequest "invalid_request" UNPROCESSABLE_ENTITY "The request is not valid"
        when "a field is missing, unknown, or out of range" do "correct the fields that `errors` names";
    InvalidProduct "invalid_product" UNPROCESSABLE_ENTITY "The product is not valid"
        when "a field of the product is not valid, or contradicts another field"
        do "correct the field that `detail` names";
    IdempotencyKeyReused "idempotency_key_reused" UNPROCESSABLE_ENTITY
        "The Idempotency-Key belongs to another request"
        when "an earlier request with another method, path, query or body had this key"
        do "repeat the first request exactly, or use a new key";
    TooManyViewers "too_many_viewers" TOO_MANY_REQUESTS "Too many viewers of the live page"
        when "64 viewers already read the stream of this process" do "close live pages that are not in use";
    Internal "internal" INTERNAL_SERVER_ERROR "Unexpected server error"
        when "an unexpected error occurred in the service"
        do "report the X-Request-Id to the operator: the error is in the log; a retry may fail again";
    Overloaded "overloaded" SERVICE_UNAVAILABLE "The service is overloaded; nothing was done"
        when "too many requests wait, or PostgreSQL is not available; nothing was done"
        do "try again after Retry-After seconds";
    OutcomeUnknown "outcome_unknown" SERVICE_UNAVAILABLE "The outcome is unknown; the request may have been done"
        when "the connection to PostgreSQL was lost after the statement was sent, PostgreSQL did not answer within 10 s, or \
            only a part of the work was committed"
        do "repeat the request with the same Idempotency-Key; without a key, do not repeat POST /products, POST or PUT \
            /products/{id}/stock, or POST /admin/outbox/replay: a repeat can have a second effect";
}

// The texts of the table state these limits as numbers, because a literal cannot use a constant.
const _: () = assert!(BODY_MAX_BYTES == 16384 && KEY_MAX_CHARACTERS == 255);

impl Serialize for ProblemCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.spec().code)
    }
}

impl JsonSchema for ProblemCode {
    fn schema_name() -> Cow<'static, str> {
        "Code".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut description =
            "| code | status | when | what to do |\n|---|---|---|---|\n".to_owned();
        for code in Self::ALL {
            let ProblemSpec {
                code,
                status,
                when,
                action,
                ..
            } = code.spec();
            description += &format!("| `{code}` | {} | {when} | {action} |\n", status.as_u16());
        }
        json_schema!({ "type": "string", "enum": Self::ALL, "description": description })
    }
}

/// Whether the problem code with this name is a failure of the service (5xx), not a refusal.
pub(crate) fn is_failure(name: &str) -> bool {
    ProblemCode::named(name).is_some_and(|code| code.spec().status.is_server_error())
}
