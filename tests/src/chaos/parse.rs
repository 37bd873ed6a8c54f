//! What answers, events and the live page have in common: parts of a history as JSON. Never the server's own types.

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    clock::{Micros, micros},
    history::{Entry, EntryStatus, Hold, Product, Status, Told},
};

pub(crate) fn hold(body: &Value) -> Option<Hold> {
    let status = Status::parse(body["status"].as_str()?)?;
    let ended = match status {
        Status::Active => None,
        Status::Confirmed => Some(instant(&body["confirmed_at"])?),
        Status::Canceled => Some(instant(&body["canceled_at"])?),
        Status::Expired => Some(instant(&body["expired_at"])?),
        Status::Returned => Some(instant(&body["returned_at"])?),
    };
    Some(Hold {
        id: body["id"].as_i64()?,
        product: body["product_id"].as_i64()?,
        user: body["user_id"].as_i64()?,
        quantity: body["quantity"].as_i64()?,
        status,
        created: instant(&body["created_at"])?,
        expires: instant(&body["expires_at"])?,
        ended,
        confirmed: instant(&body["confirmed_at"]),
        reacquired_from: body["reacquired_from"].as_i64(),
        reference: body["reference"].as_str().map(str::to_owned),
    })
}

pub(crate) fn entry(body: &Value) -> Option<Entry> {
    Some(Entry {
        id: body["id"].as_i64()?,
        product: body["product_id"].as_i64()?,
        user: body["user_id"].as_i64()?,
        quantity: body["quantity"].as_i64()?,
        status: EntryStatus::parse(body["status"].as_str()?)?,
        reference: body["reference"].as_str().map(str::to_owned),
        hold: body["reservation_id"].as_i64(),
        created: instant(&body["created_at"])?,
        ended: instant(&body["ended_at"]),
    })
}

pub(crate) fn product(body: &Value) -> Option<Product> {
    Some(Product {
        id: body["id"].as_i64()?,
        stock: body["stock"].as_i64()?,
        held: body["held"].as_i64()?,
        sold: body["sold"].as_i64()?,
        total: body["total"].as_i64()?,
        hold_seconds: body["hold_seconds"].as_i64(),
        max_per_user: body["max_per_user"].as_i64(),
        waiting: body["waiting"].as_i64().unwrap_or(0),
    })
}

pub(crate) fn instant(value: &Value) -> Option<Micros> {
    OffsetDateTime::parse(value.as_str()?, &Rfc3339)
        .ok()
        .map(micros)
}

/// The content of an event. `None`: not an event.
pub(crate) fn told(event_type: &str, payload: &Value) -> Option<Told> {
    let time = match event_type {
        "ReservationCreated" => "created_at",
        "ReservationConfirmed" => "confirmed_at",
        "ReservationCanceled" => "canceled_at",
        "ReservationExpired" => "expired_at",
        "ReservationReturned" => "returned_at",
        "StockAdjusted" => "adjusted_at",
        "WaitlistOffered" => "offered_at",
        _ => return None,
    };
    let (id, user, quantity) = match event_type {
        "StockAdjusted" => ("adjustment_id", 0, "delta"),
        _ => ("reservation_id", payload["user_id"].as_i64()?, "quantity"),
    };
    Some(Told {
        event_type: event_type.to_owned(),
        id: payload[id].as_i64()?,
        product: payload["product_id"].as_i64()?,
        user,
        quantity: payload[quantity].as_i64()?,
        at: instant(&payload[time])?,
    })
}
