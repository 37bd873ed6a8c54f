//! Hostile clients that kept others from an API, or of which the API kept something.

use super::*;
use crate::chaos::history::{Behavior, HostileClients};

/// They were there while user 1 bought a unit.
fn hostile(history: &mut History) -> &mut HostileClients {
    history.hostile.push(HostileClients {
        api: 0,
        began: 900,
        ended: 2_500,
        left: Behavior::ALL.map(|behavior| (behavior, 0)).to_vec(),
        descriptors_before: 60,
        descriptors_after: 70,
        memory_peak_kib: 90_000,
    });
    &mut history.hostile[0]
}

#[test]
fn hostile_clients_beside_others_are_allowed() {
    allowed(|history| _ = hostile(history));
}

#[test]
fn others_that_were_not_served() {
    // At another API, or not while all of them were there.
    caught(Promise::OthersServed, |history| hostile(history).api = 1);
    caught(Promise::OthersServed, |history| {
        let clients = hostile(history);
        (clients.began, clients.ended) = (2_050, 2_150);
    });
    caught(Promise::OthersServed, |history| {
        hostile(history).ended = 1_050;
    });
    // Reads, and answers that are none.
    caught(Promise::OthersServed, |history| {
        let clients = hostile(history);
        (clients.began, clients.ended) = (6_350, 6_750);
    });
    caught(Promise::OthersServed, |history| {
        let clients = hostile(history);
        (clients.began, clients.ended) = (6_999_900, 7_001_200);
    });
}

#[test]
fn what_the_api_kept_of_them() {
    for place in 0..Behavior::ALL.len() {
        caught(Promise::Bounded, |history| {
            hostile(history).left[place].1 = 1;
        });
    }
    caught(Promise::Bounded, |history| {
        hostile(history).descriptors_after = 260;
    });
    caught(Promise::Bounded, |history| {
        hostile(history).memory_peak_kib = 512 * 1024;
    });
}
