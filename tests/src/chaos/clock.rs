//! Times of a run.

use std::fmt;

use time::OffsetDateTime;

/// A Unix time, or a time span, in microseconds. The database and the harness run on the same machine, so times in an
/// answer can be compared with the times of its request.
pub(crate) type Micros = i64;

pub(crate) fn now() -> Micros {
    micros(OffsetDateTime::now_utc())
}

pub(crate) fn micros(time: OffsetDateTime) -> Micros {
    // Enough for 300 centuries around 1970.
    (time.unix_timestamp_nanos() / 1000) as Micros
}

/// Microseconds, displayed as seconds.
pub(crate) struct Seconds(pub(crate) Micros);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, micros) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        write!(f, "{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}
