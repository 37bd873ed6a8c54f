//! The plan of faults, which follows from the seed alone.

use std::{fmt, time::Duration};

use fastrand::Rng;

use super::links::{APIS, End, LINKS, MEMBERS, link_name, links_to};
use crate::proxy::Traffic;

/// One fault.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planned {
    /// Time since the start of the faults.
    pub(crate) at: Duration,
    /// Duration, without the time that a server needs to start.
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// `kill -9` of a process, which is then restarted.
    Kill(usize),
    /// SIGSTOP and SIGCONT.
    Freeze(usize),
    PostgresCrash,
    PostgresStop,
    /// It answers, but refuses writes, as a demoted primary does.
    PostgresReadOnly,
    /// Somebody gives the database this default for new sessions, and the open ones end.
    PostgresDefault(&'static str, &'static str),
    RedisCrash,
    RedisFlush,
    /// It answers, but is a replica of a server that does not exist.
    RedisReplica,
    RabbitmqCrash,
    MemoryAlarm,
    /// Cuts all connections of a link once.
    Cut(usize),
    Link {
        link: usize,
        traffic: Traffic,
        healing: Healing,
    },
    /// Blocks every link to one server.
    Partition {
        from: End,
        traffic: Traffic,
        healing: Healing,
    },
    MoveDeadlines,
    /// Clients of this API that send half requests, never read, or vanish.
    HostileClients(usize),
}

/// How connections behave that were open while no data passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Healing {
    /// The held-back data arrives now.
    Late,
    /// The connections are cut.
    Cut,
}

/// Defaults of a database that must make no difference: each would void a promise, or refuse what is right, if a
/// session of the service had it.
const DEFAULTS: [(&str, &str); 6] = [
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_isolation", "repeatable read"),
    ("synchronous_commit", "off"),
    ("statement_timeout", "3s"),
    ("idle_in_transaction_session_timeout", "3s"),
    ("lock_timeout", "3s"),
];

/// How many of each kind are in the bag from which faults are drawn. An empty bag is refilled, so even a short run
/// contains most kinds.
const WEIGHTS: [(Kind, usize); 19] = [
    (Kind::Kill, 5),
    (Kind::Freeze, 4),
    (Kind::PostgresCrash, 3),
    (Kind::PostgresStop, 1),
    (Kind::PostgresReadOnly, 2),
    (Kind::PostgresDefault, 2),
    (Kind::RedisCrash, 2),
    (Kind::RedisFlush, 2),
    (Kind::RedisReplica, 1),
    (Kind::RabbitmqCrash, 2),
    (Kind::MemoryAlarm, 2),
    (Kind::Cut, 3),
    (Kind::Delay, 3),
    (Kind::SlowConfirms, 3),
    (Kind::Refuse, 2),
    (Kind::Silence, 6),
    (Kind::Partition, 2),
    (Kind::MoveDeadlines, 3),
    (Kind::HostileClients, 3),
];

#[derive(Clone, Copy)]
enum Kind {
    Kill,
    Freeze,
    PostgresCrash,
    PostgresStop,
    PostgresReadOnly,
    PostgresDefault,
    RedisCrash,
    RedisFlush,
    RedisReplica,
    RabbitmqCrash,
    MemoryAlarm,
    Cut,
    Delay,
    SlowConfirms,
    Refuse,
    Silence,
    Partition,
    MoveDeadlines,
    HostileClients,
}

/// The faults of a run of this length.
pub(crate) fn plan(seed: u64, length: Duration) -> Vec<Planned> {
    let mut rng = Rng::with_seed(seed);
    let mut plan = Vec::new();
    let mut bag: Vec<Kind> = Vec::new();
    let mut at = seconds(&mut rng, 0.5, 1.5);
    while at < length {
        if bag.is_empty() {
            bag = WEIGHTS
                .iter()
                .flat_map(|(kind, count)| vec![*kind; *count])
                .collect();
            rng.shuffle(&mut bag);
        }
        if let Some(kind) = bag.pop() {
            let (fault, lasts) = draw(kind, &mut rng);
            plan.push(Planned { at, lasts, fault });
        }
        // Some faults overlap with the previous one.
        at += seconds(&mut rng, 0.2, 3.0);
    }
    plan
}

fn draw(kind: Kind, rng: &mut Rng) -> (Fault, Duration) {
    let brief = seconds(rng, 0.0, 2.0);
    let longer = seconds(rng, 0.5, 6.0);
    // Longer than every timeout of the service, including the 10 s of a call.
    let longest = seconds(rng, 10.5, 13.0);
    let silence = if rng.u8(..6) == 0 { longest } else { longer };
    let (member, link) = (rng.usize(..MEMBERS.len()), rng.usize(..LINKS.len()));
    let healing = if rng.bool() {
        Healing::Late
    } else {
        Healing::Cut
    };
    let silent = if rng.bool() {
        Traffic::Blackhole
    } else {
        Traffic::Mute
    };
    let on_link = |traffic| Fault::Link {
        link,
        traffic,
        healing,
    };
    match kind {
        Kind::Kill => (Fault::Kill(member), brief),
        Kind::Freeze => (Fault::Freeze(member), longer),
        Kind::PostgresCrash => (Fault::PostgresCrash, brief),
        Kind::PostgresStop => (Fault::PostgresStop, brief),
        Kind::PostgresReadOnly => (Fault::PostgresReadOnly, longer),
        Kind::PostgresDefault => {
            let (setting, value) = DEFAULTS[rng.usize(..DEFAULTS.len())];
            (Fault::PostgresDefault(setting, value), longer)
        }
        Kind::RedisReplica => (Fault::RedisReplica, longer),
        Kind::RedisCrash => (Fault::RedisCrash, longer),
        Kind::RedisFlush => (Fault::RedisFlush, Duration::ZERO),
        Kind::RabbitmqCrash => (Fault::RabbitmqCrash, brief),
        Kind::MemoryAlarm => (Fault::MemoryAlarm, longer),
        Kind::Cut => (Fault::Cut(link), Duration::ZERO),
        Kind::Delay => {
            let delay = Duration::from_millis(rng.u64(10..300));
            (on_link(Traffic::Delay(delay)), longer)
        }
        Kind::SlowConfirms => {
            let relays: Vec<usize> = links_to(End::Rabbitmq).collect();
            let traffic = if rng.bool() {
                Traffic::SomeConfirms
            } else {
                Traffic::LateConfirms(seconds(rng, 0.3, 6.0))
            };
            let link = relays[rng.usize(..relays.len())];
            let fault = Fault::Link {
                link,
                traffic,
                healing,
            };
            (fault, silence)
        }
        Kind::Refuse => (on_link(Traffic::Refuse), longer),
        Kind::Silence => (on_link(silent), silence),
        Kind::Partition => {
            let from = [End::Postgres, End::Redis, End::Rabbitmq][rng.usize(..3)];
            let fault = Fault::Partition {
                from,
                traffic: silent,
                healing,
            };
            (fault, silence)
        }
        Kind::MoveDeadlines => (Fault::MoveDeadlines, Duration::ZERO),
        Kind::HostileClients => (Fault::HostileClients(member % APIS), longer),
    }
}

fn seconds(rng: &mut Rng, from: f64, to: f64) -> Duration {
    Duration::from_secs_f64(from + rng.f64() * (to - from))
}

impl Fault {
    /// Targets of the fault. Two faults with a common target never overlap.
    pub(crate) fn targets(&self) -> Vec<String> {
        match self {
            Self::Kill(member) | Self::Freeze(member) => vec![MEMBERS[*member].to_owned()],
            Self::PostgresCrash
            | Self::PostgresStop
            | Self::PostgresReadOnly
            | Self::PostgresDefault(..) => vec!["PostgreSQL".to_owned()],
            Self::RedisCrash | Self::RedisFlush | Self::RedisReplica => vec!["Redis".to_owned()],
            Self::RabbitmqCrash | Self::MemoryAlarm => vec!["RabbitMQ".to_owned()],
            Self::Cut(link) | Self::Link { link, .. } => vec![link_name(*link)],
            Self::Partition { from, .. } => links_to(*from).map(link_name).collect(),
            // It uses PostgreSQL directly, so PostgreSQL must not be restarted at the same time.
            Self::MoveDeadlines => vec!["PostgreSQL".to_owned()],
            // The ordinary clients must reach the API meanwhile. Their links are the first.
            Self::HostileClients(api) => vec![MEMBERS[*api].to_owned(), link_name(*api)],
        }
    }

    /// Name of the kind of fault.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill -9",
            Self::Freeze(_) => "SIGSTOP",
            Self::PostgresCrash => "PostgreSQL crash",
            Self::PostgresStop => "PostgreSQL stop",
            Self::PostgresReadOnly => "PostgreSQL read-only",
            Self::PostgresDefault(..) => "database default",
            Self::RedisReplica => "Redis replica",
            Self::RedisCrash => "Redis crash",
            Self::RedisFlush => "FLUSHALL",
            Self::RabbitmqCrash => "RabbitMQ crash",
            Self::MemoryAlarm => "memory alarm",
            Self::Cut(_) => "link cut",
            Self::Link {
                traffic: Traffic::Delay(_),
                ..
            } => "link delayed",
            Self::Link {
                traffic: Traffic::LateConfirms(_) | Traffic::SomeConfirms,
                ..
            } => "confirms late",
            Self::Link {
                traffic: Traffic::Mute,
                ..
            } => "link half-open",
            Self::Link {
                traffic: Traffic::Blackhole,
                ..
            } => "link blackholed",
            Self::Link { .. } => "link refused",
            Self::Partition { .. } => "server cut off",
            Self::MoveDeadlines => "deadlines moved",
            Self::HostileClients(_) => "hostile clients",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind())?;
        match self {
            Self::Kill(member) | Self::Freeze(member) | Self::HostileClients(member) => {
                write!(f, " {}", MEMBERS[*member])
            }
            Self::PostgresDefault(setting, value) => write!(f, " {setting} = {value}"),
            Self::Cut(link) => write!(f, " {}", link_name(*link)),
            Self::Link {
                link,
                traffic,
                healing,
            } => {
                let link = link_name(*link);
                write!(f, " {link} ({traffic:?}, healed {healing:?})")
            }
            Self::Partition {
                from,
                traffic,
                healing,
            } => {
                write!(f, " {from:?} ({traffic:?}, healed {healing:?})")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const TWO_MINUTES: Duration = Duration::from_secs(120);

    #[test]
    fn a_seed_is_a_plan() {
        assert_eq!(plan(7, TWO_MINUTES), plan(7, TWO_MINUTES));
        assert_ne!(plan(7, TWO_MINUTES), plan(8, TWO_MINUTES));
    }

    #[test]
    fn a_bag_holds_every_kind_and_two_minutes_draw_it_empty() {
        for seed in 0..100 {
            let plan = plan(seed, TWO_MINUTES);
            let kinds: HashSet<_> = plan.iter().map(|planned| planned.fault.kind()).collect();
            // The kind of silence is random.
            assert!(kinds.len() >= WEIGHTS.len(), "seed {seed}: {kinds:?}");
            assert!(plan.iter().all(|planned| planned.at < TWO_MINUTES));
        }
    }
}
