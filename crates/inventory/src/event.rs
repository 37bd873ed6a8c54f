//! Events: what consumers can be told of, and which of it they are to be told.

use std::{str::FromStr, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{ProductId, Quantity, ReservationId, UserId, schema::Utc};

/// Every type of event.
const TYPES: [&str; 6] = [
    "ReservationCreated",
    "ReservationConfirmed",
    "ReservationCanceled",
    "ReservationExpired",
    "ReservationReturned",
    "StockAdjusted",
];

/// Settings of the processes that write events.
#[derive(clap::Args, Clone)]
// Flattened beside other groups of the same name.
#[group(skip)]
pub struct Args {
    /// Which events are written: a comma-separated list of ReservationCreated, ReservationConfirmed,
    /// ReservationCanceled, ReservationExpired, ReservationReturned and StockAdjusted.
    #[arg(long, env = "OUTBOX_EVENTS", default_value = "ReservationConfirmed")]
    pub outbox_events: Events,
}

/// The types of events that the verbs write into the outbox. Cheap to clone: each batch has its own.
#[derive(Clone, Debug)]
pub struct Events(Arc<[&'static str]>);

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no event: there are {types}", types = TYPES.join(", "))]
pub struct NoEvent(String);

impl Events {
    pub(crate) fn types(&self) -> &[&'static str] {
        &self.0
    }
}

impl FromStr for Events {
    type Err = NoEvent;

    /// Names between commas. Nothing at all is no event.
    fn from_str(list: &str) -> Result<Self, NoEvent> {
        let names = list.split(',').map(str::trim);
        let known = |name: &str| {
            let mut types = TYPES.into_iter();
            types
                .find(|known| *known == name)
                .ok_or_else(|| NoEvent(name.to_owned()))
        };
        match list.trim() {
            "" => Ok(Self(Arc::new([]))),
            _ => names.map(known).collect::<Result<_, _>>().map(Self),
        }
    }
}

/// What consumers are told. Serialised, it is the body of the message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event_type", content = "payload")]
pub enum Event {
    ReservationCreated(ReservationCreated),
    ReservationConfirmed(ReservationConfirmed),
    ReservationCanceled(ReservationCanceled),
    ReservationExpired(ReservationExpired),
    ReservationReturned(ReservationReturned),
    StockAdjusted(StockAdjusted),
}

impl Event {
    /// An event as its row has it.
    pub(crate) fn read(event_type: &str, payload: &str) -> Result<Self, serde_json::Error> {
        let event_type = serde_json::to_string(event_type)?;
        serde_json::from_str(&format!(
            r#"{{"event_type":{event_type},"payload":{payload}}}"#
        ))
    }

    /// The shop's own name for what the event is about.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Self::ReservationCreated(event) => event.reference.as_deref(),
            Self::ReservationConfirmed(event) => event.reference.as_deref(),
            Self::ReservationCanceled(event) => event.reference.as_deref(),
            Self::ReservationExpired(event) => event.reference.as_deref(),
            Self::ReservationReturned(event) => event.reference.as_deref(),
            Self::StockAdjusted(_) => None,
        }
    }
}

macro_rules! of_reservation {
    ($(#[$doc:meta])* $name:ident: $($time:ident),+) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        pub struct $name {
            pub reservation_id: ReservationId,
            pub product_id: ProductId,
            pub user_id: UserId,
            pub quantity: Quantity,
            $(
                #[serde(with = "utc")]
                #[schemars(with = "Utc")]
                pub $time: OffsetDateTime,
            )+
            /// Not part of the body: it goes with the message.
            #[serde(default, skip_serializing)]
            pub reference: Option<String>,
        }
    };
}

of_reservation!(
    /// Units are held.
    ReservationCreated: created_at, expires_at
);
of_reservation!(
    /// A hold became a sale.
    ReservationConfirmed: confirmed_at
);
of_reservation!(
    /// A hold was given up.
    ReservationCanceled: canceled_at
);
of_reservation!(
    /// A hold was ended after its deadline.
    ReservationExpired: expired_at
);
of_reservation!(
    /// A sale was taken back.
    ReservationReturned: returned_at
);

/// Units were added to a product, or taken away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StockAdjusted {
    pub adjustment_id: i64,
    pub product_id: ProductId,
    pub delta: i32,
    pub reason: String,
    /// Free units and all units, after it.
    pub stock: i32,
    pub total: i32,
    #[serde(with = "utc")]
    #[schemars(with = "Utc")]
    pub adjusted_at: OffsetDateTime,
}

/// PostgreSQL writes times into JSON with the offset of the session's time zone. Consumers get UTC.
mod utc {
    use serde::{Deserializer, Serializer};
    use time::{OffsetDateTime, UtcOffset, serde::rfc3339};

    pub(super) fn serialize<S: Serializer>(
        time: &OffsetDateTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        rfc3339::serialize(&time.to_offset(UtcOffset::UTC), serializer)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(
        deserializer: D,
    ) -> Result<OffsetDateTime, D::Error> {
        rfc3339::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_the_documented_fields_and_times_in_utc() {
        let event = Event::read(
            "ReservationConfirmed",
            r#"{"reservation_id": 1, "product_id": 2, "user_id": 42, "quantity": 1, "reference": "A-7",
                "confirmed_at": "2026-02-14T18:00:00.25+05:30", "created_at": "2026-02-14T17:00:00Z"}"#,
        )
        .expect("readable");
        assert_eq!(event.reference(), Some("A-7"));
        let body = serde_json::to_string(&event).expect("JSON");
        assert_eq!(
            body,
            r#"{"event_type":"ReservationConfirmed","payload":{"reservation_id":1,"product_id":2,"#
                .to_owned()
                + r#""user_id":42,"quantity":1,"confirmed_at":"2026-02-14T12:30:00.25Z"}}"#
        );
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let unknown = Event::read("ReservationLost", "{}").expect_err("unknown type");
        for name in TYPES.into_iter().chain(["ReservationLost"]) {
            assert!(unknown.to_string().contains(name), "{unknown}");
        }
        let broken = Event::read("ReservationConfirmed", r#"{"reservation_id": 1}"#)
            .expect_err("incomplete");
        assert!(broken.to_string().contains("product_id"), "{broken}");
    }

    #[test]
    fn a_list_of_events_has_known_names() {
        let listed = |list: &str| list.parse::<Events>().map(|events| events.0);
        assert_eq!(*listed(" ").expect("none"), [""; 0]);
        let two = listed("StockAdjusted, ReservationCreated").expect("two");
        assert_eq!(*two, ["StockAdjusted", "ReservationCreated"]);
        for wrong in ["ReservationLost", "StockAdjusted,", "stockadjusted"] {
            let refused = listed(wrong).expect_err(wrong).to_string();
            assert!(refused.contains("ReservationExpired"), "{refused}");
        }
    }
}
