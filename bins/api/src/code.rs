//! Every code that a problem can have: the one table, from which answers, the contract and its page are made.

use std::borrow::Cow;

use axum::http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// Every body that the API understands is far smaller.
pub(crate) const BODY_MAX_BYTES: usize = 16 * 1024;

/// The longest `Idempotency-Key`.
pub(crate) const KEY_MAX_CHARACTERS: usize = 255;

/// What a code means.
pub(crate) struct ProblemSpec {
    pub(crate) code: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    /// When it is answered.
    pub(crate) when: &'static str,
    /// What the client does about it.
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
        when "the body is missing, broken or not UTF-8" do "send a JSON object";
    InvalidQuery "invalid_query" BAD_REQUEST "The query is not valid"
        when "a parameter of the query is unknown, given twice, or out of its limits" do "correct the parameter that `detail` names";
    IdempotencyKeyInvalid "idempotency_key_invalid" BAD_REQUEST "The Idempotency-Key is not valid"
        when "`Idempotency-Key` is given twice, or cannot be one"
        do "send one Idempotency-Key of 1 to 255 visible ASCII characters, in quotes or not";
    Unauthorized "unauthorized" UNAUTHORIZED "The bearer token is missing or wrong"
        when "an admin act lacks the `ADMIN_TOKEN` that is set, or, where `API_KEYS_FILE` is set, another request has no API key"
        do "send Authorization: Bearer with what `detail` names";
    Forbidden "forbidden" FORBIDDEN "Admin acts are not allowed here"
        when "no `ADMIN_TOKEN` is set, and the request comes from elsewhere or through a proxy"
        do "without ADMIN_TOKEN, admin acts are allowed only directly from the machine itself, while the API listens on a loopback address";
    NotFound "not_found" NOT_FOUND "There is no such route"
        when "the path is none of this document" do "see /docs for the routes";
    ProductNotFound "product_not_found" NOT_FOUND "There is no such product"
        when "no product has this id; what is no id at all names none, either" do "look the id up";
    ReservationNotFound "reservation_not_found" NOT_FOUND "There is no such reservation"
        when "no reservation has this id; what is no id at all names none, either" do "look the id up";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "The route does not know this method"
        when "the path is right, and the method is not" do "the Allow header names the methods";
    SaleNotOpen "sale_not_open" CONFLICT "The sale has not begun"
        when "`sale_starts_at` is still to come, by the database's clock" do "try again when it has come";
    SaleClosed "sale_closed" CONFLICT "The sale is over"
        when "`sale_ends_at` has come, by the database's clock" do "nothing: it stays so unless the product is changed";
    AlreadyReserved "already_reserved" CONFLICT "The user holds this product already"
        when "the user has an unexpired hold of the product: `reservation_id`" do "after a lost answer this is the hold that was made: go on with it";
    SoldOut "sold_out" CONFLICT "The product is sold out"
        when "fewer units are free than were asked for: `stock`" do "ask for fewer, or later again: holds expire";
    MaxPerUserReached "max_per_user_reached" CONFLICT "The user may not have so many units"
        when "with these the user would have more than the product's `max_per_user`" do "ask for at most `remaining`";
    ReservationExpired "reservation_expired" CONFLICT "The reservation has expired"
        when "the deadline has passed" do "reserve again; if the user has paid, confirm with `{\"reacquire\": true}`";
    ReservationCanceled "reservation_canceled" CONFLICT "The reservation was canceled"
        when "the hold was given up before" do "reserve again";
    ReservationConfirmed "reservation_confirmed" CONFLICT "The reservation was confirmed"
        when "the units are sold, and no longer held" do "to undo the sale, return it";
    ReservationReturned "reservation_returned" CONFLICT "The reservation was returned"
        when "the sale was taken back before" do "reserve again";
    ReservationNotConfirmed "reservation_not_confirmed" CONFLICT "The reservation was not confirmed"
        when "only what is sold can be returned, and this is still held" do "cancel it instead";
    ExpiredSoldOut "expired_sold_out" CONFLICT "The reservation has expired, and its units are gone"
        when "a late payment, and too few units are free to reserve again" do "pay back";
    InsufficientStock "insufficient_stock" CONFLICT "Fewer units are free"
        when "only free units can be taken away: `stock`" do "take fewer away, or wait until holds end";
    IdempotencyKeyInUse "idempotency_key_in_use" CONFLICT "A request with this Idempotency-Key is under way"
        when "the first request with this key has no answer yet, also after a second's wait"
        do "nothing was done for this one; repeat it to get the answer of the other";
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "The body is too large"
        when "the body is larger than any that the API understands" do "a body has at most 16384 bytes";
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "The body must be application/json"
        when "there is a body that is not declared as JSON" do "send Content-Type: application/json";
    InvalidRequest "invalid_request" UNPROCESSABLE_ENTITY "The request is not valid"
        when "a field is missing, unknown, or out of its limits" do "correct the field that `detail` names";
    InvalidProduct "invalid_product" UNPROCESSABLE_ENTITY "The product is not valid"
        when "the product cannot be as it is wanted" do "correct the field that `detail` names";
    IdempotencyKeyReused "idempotency_key_reused" UNPROCESSABLE_ENTITY "The Idempotency-Key is that of another request"
        when "the key came before, with another request"
        do "method, path, query and body must be those of the first request with this key";
    TooManyViewers "too_many_viewers" TOO_MANY_REQUESTS "Too many watch the live page"
        when "64 others read the stream of this process already" do "close pages that nobody looks at";
    Internal "internal" INTERNAL_SERVER_ERROR "The service has a fault"
        when "never, as far as its makers know" do "it was logged; a repeat may fail again";
    Overloaded "overloaded" SERVICE_UNAVAILABLE "The service cannot do it now; nothing was done"
        when "too much waits, or PostgreSQL is away; nothing was done" do "try again after Retry-After seconds";
    OutcomeUnknown "outcome_unknown" SERVICE_UNAVAILABLE "The answer was lost; it may have been done"
        when "the connection to PostgreSQL was lost after the call was sent"
        do "repeat the request to find out: a repeat has no second effect, except for POST /products and POST /products/{id}/stock without Idempotency-Key";
}

// The table's text cannot take its figures from the limits.
const _: () = assert!(BODY_MAX_BYTES == 16384 && KEY_MAX_CHARACTERS == 255);

impl Serialize for ProblemCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.spec().code)
    }
}

impl JsonSchema for ProblemCode {
    fn schema_name() -> Cow<'static, str> {
        "ProblemCode".into()
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

/// Whether a problem of this name is a failure of the service, and not a refusal.
pub(crate) fn is_failure(name: &str) -> bool {
    ProblemCode::named(name).is_some_and(|code| code.spec().status.is_server_error())
}
