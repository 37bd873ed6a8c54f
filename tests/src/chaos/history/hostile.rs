//! Hostile clients of an API, and what the API kept of them.

use crate::chaos::clock::Micros;

/// Clients that misbehaved at one API, all at the same time.
#[derive(Clone, Debug)]
pub(crate) struct HostileClients {
    /// Index of the API, from 0.
    pub(crate) api: usize,
    /// From when all of them were connected, until they were told to make no new connections.
    pub(crate) began: Micros,
    pub(crate) ended: Micros,
    /// Number of connections that the API had not ended by its limits, by behavior.
    pub(crate) left: Vec<(Behavior, usize)>,
    /// Open files of the API's process, before and after.
    pub(crate) descriptors_before: usize,
    pub(crate) descriptors_after: usize,
    /// The most memory that the API's process has ever used.
    pub(crate) memory_peak_kib: u64,
}

impl HostileClients {
    /// The ordinary clients and the pool of PostgreSQL need a few more or fewer at each moment. Hostile clients have 200.
    const MORE_DESCRIPTORS_MAX: usize = 100;

    pub(crate) fn keeps_too_many(before: usize, after: usize) -> bool {
        after > before + Self::MORE_DESCRIPTORS_MAX
    }
}

/// How a client misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behavior {
    /// Sends half a request, and stops: half of the head, or half of the body.
    HalfRequest,
    /// Sends a head byte by byte, and never its end.
    SlowHead,
    /// Asks for lists, and reads none.
    NeverReads,
    /// Resets the connection in the middle of a request, or of its answer.
    Resets,
    /// Neither sends nor closes anything after its first answer, as a machine that has vanished.
    HalfOpen,
}

impl Behavior {
    pub(crate) const ALL: [Self; 5] = [
        Self::HalfRequest,
        Self::SlowHead,
        Self::NeverReads,
        Self::Resets,
        Self::HalfOpen,
    ];
}
