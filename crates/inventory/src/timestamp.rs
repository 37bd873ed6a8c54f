//! Times that clients send. This is the only place that reads one.

use std::{borrow::Cow, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// A time that a client sent, in UTC: RFC 3339 without leap seconds. Every value can be stored and written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Timestamp(OffsetDateTime);

/// The text is not a valid [`Timestamp`].
#[derive(Debug, thiserror::Error)]
#[error("must be a time as RFC 3339 writes it, for example 2026-11-27T12:00:00Z")]
pub struct InvalidTimestamp;

/// The parts that the crate `time` reads less strictly than RFC 3339: it takes any separator. Leap seconds are
/// refused: neither `time` nor PostgreSQL can store one.
const PATTERN: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$";

/// Times on the first day of the year 0000 and on the last day of 9999 whose offset points out of these years.
const OUTSIDE: &str = r"^(9999-12-31.*-|0000-01-01.*\+)([0-9]*[1-9]|00:[0-9]?[1-9])";

impl Timestamp {
    /// The time itself, in UTC.
    pub fn get(self) -> OffsetDateTime {
        self.0
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let bytes = text.as_bytes();
        let is_strict = matches!(bytes.get(10), Some(b'T' | b't')) && bytes.get(17) != Some(&b'6');
        let time = OffsetDateTime::parse(text, &Rfc3339).ok();
        let time = time.filter(|_| is_strict).ok_or(InvalidTimestamp)?;
        // On the first and the last day that RFC 3339 can write, the time in UTC can be on a day that it cannot write.
        let is_outside = match (time.year(), time.ordinal()) {
            (0, 1) => time.offset().is_positive(),
            (9999, 365) => time.offset().is_negative(),
            _ => false,
        };
        match is_outside {
            true => Err(InvalidTimestamp),
            false => Ok(Self(time.to_offset(UtcOffset::UTC))),
        }
    }
}

impl TryFrom<String> for Timestamp {
    type Error = InvalidTimestamp;

    fn try_from(text: String) -> Result<Self, InvalidTimestamp> {
        text.parse()
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "pattern": PATTERN,
            // The type is repeated for fields that may also be null.
            "not": { "type": "string", "pattern": OUTSIDE },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_that_is_read_can_be_written_in_utc() {
        for (text, utc) in [
            ("2026-11-27T12:00:00Z", "2026-11-27T12:00:00Z"),
            ("2026-11-27t12:00:00.25z", "2026-11-27T12:00:00.25Z"),
            ("2026-11-27T12:00:00+14:30", "2026-11-26T21:30:00Z"),
            ("2024-02-29T00:00:00-00:00", "2024-02-29T00:00:00Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("0000-01-01T00:00:00-23:59", "0000-01-01T23:59:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
            ("9999-12-31T23:59:59+23:59", "9999-12-31T00:00:59Z"),
        ] {
            let time: Timestamp = text.parse().expect(text);
            assert_eq!(time.get().offset(), UtcOffset::UTC);
            assert_eq!(time.get().format(&Rfc3339).ok().as_deref(), Some(utc));
        }
    }

    #[test]
    fn what_rfc_3339_cannot_write_in_utc_is_no_time() {
        for text in [
            "9999-12-31T23:59:59-00:01",
            "9999-12-31T00:00:00-23:59",
            "0000-01-01T00:00:00+00:01",
            "2026-12-31T23:59:60Z",
            "2026-11-27 12:00:00Z",
            "2026-11-27X12:00:00Z",
            "2026-11-27T12:00:00",
            "2026-11-27T12:00Z",
            "2026-11-27",
            "2026-02-29T00:00:00Z",
            "2026-11-27T24:00:00Z",
            "2026-11-27T12:00:00+24:00",
            "+12026-11-27T12:00:00Z",
            "",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}
