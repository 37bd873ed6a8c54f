//! Checks what hostile clients could do: they keep no other client from the API, and the API keeps nothing of them.

use super::finding::{About, Found, Promise};
use crate::chaos::history::{History, HostileClients};

/// `limits.memory` in deploy/k8s/api.yaml.
const MEMORY_MAX_KIB: u64 = 512 * 1024;

pub(super) fn check(history: &History, found: &mut Found) {
    for clients in &history.hostile {
        let mut say = |promise, what: String| {
            let (api, at) = (clients.api + 1, history.clock(clients.began));
            let what = format!("api{api} with hostile clients from {at}: {what}");
            found.add(promise, About::Service, what);
        };
        if !others_were_served(history, clients) {
            say(
                Promise::OthersServed,
                "no write was acknowledged".to_owned(),
            );
        }
        for (behavior, left) in clients.left.iter().filter(|(_, left)| *left > 0) {
            let what = format!("{left} connections did not end: {behavior:?}");
            say(Promise::Bounded, what);
        }
        let (before, after) = (clients.descriptors_before, clients.descriptors_after);
        if HostileClients::keeps_too_many(before, after) {
            let what = format!("{after} open files afterwards, {before} before");
            say(Promise::Bounded, what);
        }
        let memory = clients.memory_peak_kib;
        if memory >= MEMORY_MAX_KIB {
            say(Promise::Bounded, format!("{memory} KiB of memory"));
        }
    }
}

/// A write through this API was acknowledged while all of them were connected. They stay until it is, for a minute.
fn others_were_served(history: &History, clients: &HostileClients) -> bool {
    history.operations.iter().any(|operation| {
        operation.api == clients.api
            && operation.writes()
            && operation.acknowledged()
            && operation.began >= clients.began
            && operation.ended <= clients.ended
    })
}
