//! The faults of three machines, which follow from the seed alone.

use std::{fmt, time::Duration};

use fastrand::Rng;

use super::{network::MACHINES, parts::Service};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// Planned, by Patroni.
    Switchover,
    /// All its processes at once. It comes back later.
    KillMachine(Place),
    KillPart(Target),
    /// SIGSTOP of all its processes, and SIGCONT.
    HangPart(Target),
    RestartHaproxy(usize),
    /// The machine runs, but no packet reaches it or leaves it.
    Partition(Place),
    /// All copies of the three processes, one after the other.
    RollingRestart,
}

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    /// The one of PostgreSQL's primary.
    Primary,
    /// One of the other two.
    Standby(usize),
}

/// What is killed or hangs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Target {
    Postgres(Place),
    RedisMaster,
    Server(Service, usize),
    /// A copy, as an index of the members.
    Copy(usize),
}

/// Names of the kinds of faults, and how many of each are in the bag from which they are drawn.
const WEIGHTS: [(&str, usize); 7] = [
    ("switchover", 1),
    ("kill-machine", 2),
    ("kill-part", 3),
    ("hang-part", 3),
    ("restart-haproxy", 1),
    ("partition", 2),
    ("rolling-restart", 1),
];

/// Names for the setting that selects kinds of faults.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    WEIGHTS.into_iter().map(|(kind, _)| kind)
}

/// The faults with their durations, without an end. `only`: the kinds to draw from, or none for all.
pub(super) fn draw(seed: u64, only: &[String]) -> impl Iterator<Item = (Fault, Duration)> {
    let mut rng = Rng::with_seed(seed);
    let mut bag: Vec<&'static str> = Vec::new();
    let full: Vec<&'static str> = WEIGHTS
        .into_iter()
        .filter(|(kind, _)| only.is_empty() || only.iter().any(|only| only == kind))
        .flat_map(|(kind, count)| vec![kind; count])
        .collect();
    std::iter::from_fn(move || {
        if bag.is_empty() {
            bag.clone_from(&full);
            rng.shuffle(&mut bag);
        }
        let fault = of_kind(bag.pop()?, &mut rng);
        // Shorter and longer than the time after which another machine becomes the primary.
        let lasts = Duration::from_secs_f64(3.0 + rng.f64() * 32.0);
        Some((fault, lasts))
    })
}

fn of_kind(kind: &str, rng: &mut Rng) -> Fault {
    let place = if rng.u8(..3) < 2 {
        Place::Primary
    } else {
        Place::Standby(rng.usize(..MACHINES - 1))
    };
    let machine = rng.usize(..MACHINES);
    let target = match rng.u8(..8) {
        0 | 1 => Target::Postgres(place),
        2 => Target::RedisMaster,
        3 => Target::Server(Service::Etcd, machine),
        4 => Target::Server(Service::Rabbitmq, machine),
        5 => Target::Server(Service::Sentinel, machine),
        6 => Target::Server(Service::Haproxy, machine),
        _ => Target::Copy(rng.usize(..MACHINES * 3)),
    };
    match kind {
        "kill-machine" => Fault::KillMachine(place),
        "kill-part" => Fault::KillPart(target),
        "hang-part" => Fault::HangPart(target),
        "restart-haproxy" => Fault::RestartHaproxy(machine),
        "partition" => Fault::Partition(place),
        "rolling-restart" => Fault::RollingRestart,
        _ => Fault::Switchover,
    }
}

impl Fault {
    /// For the report, which has the times of each kind.
    pub(super) fn kind(self) -> &'static str {
        use Place::{Primary, Standby};
        match self {
            Self::Switchover => "planned switchover",
            Self::KillMachine(Primary) => "machine of the primary killed",
            Self::KillMachine(Standby(_)) => "machine of a standby killed",
            Self::KillPart(Target::Postgres(Primary)) => "primary and its Patroni killed",
            Self::KillPart(Target::Postgres(Standby(_))) => "standby and its Patroni killed",
            Self::KillPart(Target::RedisMaster) => "Redis master killed",
            Self::KillPart(Target::Server(service, _)) => match service {
                Service::Etcd => "etcd killed",
                Service::Rabbitmq => "RabbitMQ node killed",
                Service::Sentinel => "sentinel killed",
                _ => "HAProxy killed",
            },
            Self::KillPart(Target::Copy(_)) => "copy killed",
            Self::HangPart(Target::Postgres(Primary)) => "primary and its Patroni hang",
            Self::HangPart(Target::Postgres(Standby(_))) => "standby and its Patroni hang",
            Self::HangPart(Target::RedisMaster) => "Redis master hangs",
            Self::HangPart(Target::Server(service, _)) => match service {
                Service::Etcd => "etcd hangs",
                Service::Rabbitmq => "RabbitMQ node hangs",
                Service::Sentinel => "sentinel hangs",
                _ => "HAProxy hangs",
            },
            Self::HangPart(Target::Copy(_)) => "copy hangs",
            Self::RestartHaproxy(_) => "HAProxy restarted",
            Self::Partition(Primary) => "machine of the primary cut off",
            Self::Partition(Standby(_)) => "machine of a standby cut off",
            Self::RollingRestart => "rolling restart",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_is_a_plan_and_a_bag_holds_every_kind() {
        let bag = WEIGHTS.into_iter().map(|(_, count)| count).sum();
        for seed in 0..100 {
            let faults: Vec<_> = draw(seed, &[]).take(bag).collect();
            assert_eq!(faults, draw(seed, &[]).take(bag).collect::<Vec<_>>());
            let kinds: HashSet<_> = faults
                .iter()
                .map(|(fault, _)| std::mem::discriminant(fault))
                .collect();
            assert_eq!(kinds.len(), WEIGHTS.len(), "seed {seed}: {faults:?}");
        }
        let faults: Vec<_> = draw(1, &[]).take(30).collect();
        assert_ne!(faults, draw(2, &[]).take(30).collect::<Vec<_>>());
    }

    #[test]
    fn only_the_wanted_kinds_are_drawn() {
        let only = ["partition".to_owned()];
        let mut faults = draw(7, &only).take(20);
        assert!(faults.all(|(fault, _)| matches!(fault, Fault::Partition(_))));
    }
}
