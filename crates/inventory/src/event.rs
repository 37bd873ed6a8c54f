//! Events: their types and payloads, and the setting that selects which are written.

use std::{str::FromStr, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{ProductId, Quantity, ReservationId, UserId, WaitlistEntryId, schema::Utc};

/// All event types.
const TYPES: [&str; 7] = [
    "ReservationCreated",
    "ReservationConfirmed",
    "ReservationCanceled",
    "ReservationExpired",
    "ReservationReturned",
    "StockAdjusted",
    "WaitlistOffered",
];

/// Settings of the processes that write events.
#[derive(clap::Args, Clone)]
// Several flattened groups are called `Args`, and clap refuses groups of the same name.
#[group(skip)]
pub struct Args {
    /// Which events are written: a comma-separated list of ReservationCreated, ReservationConfirmed,
    /// ReservationCanceled, ReservationExpired, ReservationReturned, StockAdjusted and WaitlistOffered.
    #[arg(long, env = "OUTBOX_EVENTS", default_value = "ReservationConfirmed")]
    pub outbox_events: Events,
}

/// The event types that the verbs write into the outbox. Cheap to clone: each batch has its own copy.
#[derive(Clone, Debug)]
pub struct Events(Arc<[&'static str]>);

/// A name that is not an event type.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an event type: the types are {types}", types = TYPES.join(", "))]
pub struct NoEvent(String);

impl Events {
    pub(crate) fn types(&self) -> &[&'static str] {
        &self.0
    }

    /// The names of the types.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Adds types by their names. A name that is not a type, as of a newer release, is left out.
    pub fn with(&self, names: &[String]) -> Self {
        let is_selected =
            |known: &&str| self.0.contains(known) || names.iter().any(|it| it == known);
        Self(TYPES.into_iter().filter(is_selected).collect())
    }
}

impl FromStr for Events {
    type Err = NoEvent;

    /// Parses names separated by commas. An empty list selects no events.
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

/// An event. Serialized, it is the body of the message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event_type", content = "payload")]
pub enum Event {
    /// Units were held.
    ReservationCreated(ReservationCreated),
    /// A hold was sold.
    ReservationConfirmed(ReservationConfirmed),
    /// A hold was canceled.
    ReservationCanceled(ReservationCanceled),
    /// A hold was expired.
    ReservationExpired(ReservationExpired),
    /// A sale was taken back.
    ReservationReturned(ReservationReturned),
    /// A product's stock was changed.
    StockAdjusted(StockAdjusted),
    /// A user who waited for units was offered a hold.
    WaitlistOffered(WaitlistOffered),
}

impl Event {
    /// Parses the columns of an outbox row.
    pub(crate) fn read(event_type: &str, payload: &str) -> Result<Self, serde_json::Error> {
        let event_type = serde_json::to_string(event_type)?;
        serde_json::from_str(&format!(
            r#"{{"event_type":{event_type},"payload":{payload}}}"#
        ))
    }

    /// The shop's reference of the reservation, if it has one.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Self::ReservationCreated(event) => event.reference.as_deref(),
            Self::ReservationConfirmed(event) => event.reference.as_deref(),
            Self::ReservationCanceled(event) => event.reference.as_deref(),
            Self::ReservationExpired(event) => event.reference.as_deref(),
            Self::ReservationReturned(event) => event.reference.as_deref(),
            Self::WaitlistOffered(event) => event.reference.as_deref(),
            Self::StockAdjusted(_) => None,
        }
    }
}

macro_rules! of_reservation {
    ($(#[$doc:meta])* $name:ident: $($time:ident),+) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        pub struct $name {
            /// The reservation.
            pub reservation_id: ReservationId,
            /// Its product.
            pub product_id: ProductId,
            /// Its user.
            pub user_id: UserId,
            /// Number of units.
            pub quantity: Quantity,
            $(
                /// By PostgreSQL's clock, in UTC.
                #[serde(with = "utc")]
                #[schemars(with = "Utc")]
                pub $time: OffsetDateTime,
            )+
            /// The shop's reference. It is not part of the body: the relay sends it as a message header.
            #[serde(default, skip_serializing)]
            pub reference: Option<String>,
        }
    };
}

of_reservation!(
    /// Units were held.
    ReservationCreated: created_at, expires_at
);
of_reservation!(
    /// A hold was sold.
    ReservationConfirmed: confirmed_at
);
of_reservation!(
    /// A hold was canceled.
    ReservationCanceled: canceled_at
);
of_reservation!(
    /// A hold was expired after its deadline.
    ReservationExpired: expired_at
);
of_reservation!(
    /// A sale was taken back.
    ReservationReturned: returned_at
);

/// Units were added to a product or removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StockAdjusted {
    /// Id of the adjustment.
    pub adjustment_id: i64,
    /// The product.
    pub product_id: ProductId,
    /// Number of units added (negative: removed).
    pub delta: i32,
    /// Reason given by the caller.
    pub reason: String,
    /// Free units after the adjustment.
    pub stock: i32,
    /// All units after the adjustment.
    pub total: i32,
    /// Time of the adjustment.
    #[serde(with = "utc")]
    #[schemars(with = "Utc")]
    pub adjusted_at: OffsetDateTime,
}

/// A user who waited for units was offered a hold. The event `ReservationCreated` of the hold is written besides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WaitlistOffered {
    /// The user's entry in the waitlist.
    pub entry_id: WaitlistEntryId,
    /// The hold.
    pub reservation_id: ReservationId,
    /// Its product.
    pub product_id: ProductId,
    /// The user.
    pub user_id: UserId,
    /// Number of units.
    pub quantity: Quantity,
    /// Time of the offer, by PostgreSQL's clock, in UTC.
    #[serde(with = "utc")]
    #[schemars(with = "Utc")]
    pub offered_at: OffsetDateTime,
    /// Deadline of the hold.
    #[serde(with = "utc")]
    #[schemars(with = "Utc")]
    pub expires_at: OffsetDateTime,
    /// The shop's reference. It is not part of the body: the relay sends it as a message header.
    #[serde(default, skip_serializing)]
    pub reference: Option<String>,
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
