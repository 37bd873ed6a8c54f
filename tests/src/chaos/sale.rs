//! The rules of every sale of a run: the processes get them as settings, and the checker as a part of the history.

use super::clock::Micros;

/// Short, so that many holds expire, but long enough to confirm in time on a busy machine.
const HOLD_SECONDS: i64 = 4;
/// Allows some extensions in full and cuts others short.
const MAX_HOLD_SECONDS: i64 = 7;

pub(crate) const HOLD_MICROS: Micros = HOLD_SECONDS * 1_000_000;
pub(crate) const MAX_HOLD_MICROS: Micros = MAX_HOLD_SECONDS * 1_000_000;

/// Low, so that users reach the limit.
pub(crate) const MAX_PER_USER: i64 = 4;

/// Units of every second new product. Few, so that users wait in line also on a slow machine.
pub(crate) const FEW_UNITS: i64 = 8;

/// Units of the others.
pub(crate) const UNITS: i64 = 100;

/// All event types.
const EVENTS: &str = "ReservationCreated,ReservationConfirmed,ReservationCanceled,ReservationExpired,\
    ReservationReturned,StockAdjusted,WaitlistOffered";

/// The same for every process.
pub(crate) fn settings() -> Vec<(String, String)> {
    let settings = [
        ("HOLD_SECONDS", HOLD_SECONDS.to_string()),
        ("MAX_HOLD_SECONDS", MAX_HOLD_SECONDS.to_string()),
        ("OUTBOX_EVENTS", EVENTS.to_owned()),
    ];
    settings
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}
