//! File descriptors: a connection needs one, and PostgreSQL must never be short of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::Limits;

/// The number of connections for which there are descriptors, at most `http_max_connections`. Raises the soft limit of
/// the process up to its hard limit if that is necessary.
pub(crate) fn max_connections(limits: &Limits) -> u32 {
    let wanted = limits.http_max_connections;
    let needed = u64::from(wanted) + u64::from(limits.reserved_descriptors);
    let available = raised_to(needed);
    let fitting = available.saturating_sub(limits.reserved_descriptors.into());
    // A process that may open hardly any files still answers probes.
    let fitting = u32::try_from(fitting).unwrap_or(u32::MAX).clamp(1, wanted);
    if fitting < wanted {
        tracing::warn!(
            descriptors = available,
            reserved = limits.reserved_descriptors,
            connections = fitting,
            "too few file descriptors for HTTP_MAX_CONNECTIONS={wanted}: raise the limit of open files (ulimit -n)"
        );
    }
    fitting
}

/// The number of descriptors that the process may open, after an attempt to raise it to `needed`.
fn raised_to(needed: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // `None` is "no limit".
    let (Some(current), maximum) = (limit.current, limit.maximum.unwrap_or(u64::MAX)) else {
        return u64::MAX;
    };
    if current >= needed {
        return current;
    }
    let raised = Rlimit {
        current: Some(needed.min(maximum)),
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => needed.min(maximum),
        Err(error) => {
            tracing::debug!(%error, "cannot raise the limit of open files");
            current
        }
    }
}
