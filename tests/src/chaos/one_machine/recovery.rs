//! The signs that a component works again after a fault.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    health::sees,
    links::{APIS, End, LINKS, links_to},
    plan::Fault,
    stack::Stack,
};
use crate::chaos::{
    clock::{Micros, now},
    journal::Journal,
};

/// Resolution of recovery times.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) enum Sign {
    /// A write through this API is acknowledged.
    Acknowledges(usize),
    /// `/readyz` of this process reports that server as up.
    Sees(usize, End),
    /// An event arrives.
    Delivers,
}

/// The signs of recovery for a fault.
pub(crate) fn signs(fault: &Fault) -> Vec<Sign> {
    match fault {
        Fault::Kill(member) | Fault::Freeze(member) => {
            let relays = LINKS.contains(&(*member, End::Rabbitmq));
            vec![sign(
                *member,
                if relays { End::Rabbitmq } else { End::Postgres },
            )]
        }
        Fault::PostgresCrash
        | Fault::PostgresStop
        | Fault::PostgresReadOnly
        | Fault::PostgresDefault(..) => all(End::Postgres),
        Fault::RedisCrash | Fault::RedisReplica => all(End::Redis),
        Fault::RabbitmqCrash | Fault::MemoryAlarm => all(End::Rabbitmq)
            .into_iter()
            .chain([Sign::Delivers])
            .collect(),
        Fault::Cut(link) | Fault::Link { link, .. } => vec![sign(LINKS[*link].0, LINKS[*link].1)],
        Fault::Partition { from, .. } => all(*from),
        Fault::HostileClients(api) => vec![Sign::Acknowledges(*api)],
        Fault::RedisFlush | Fault::MoveDeadlines => Vec::new(),
    }
}

fn sign(member: usize, end: End) -> Sign {
    match end {
        End::Clients | End::Postgres if member < APIS => Sign::Acknowledges(member),
        end => Sign::Sees(member, end),
    }
}

fn all(server: End) -> Vec<Sign> {
    links_to(server)
        .map(|link| sign(LINKS[link].0, server))
        .collect()
}

impl Sign {
    /// Waits for the sign. Returns its time.
    pub(crate) async fn seen_since(
        &self,
        since: Micros,
        stack: &Stack,
        journal: &Journal,
    ) -> Micros {
        loop {
            let seen = match self {
                Self::Acknowledges(api) => journal.acknowledged_since(since, *api),
                Self::Delivers => journal.delivered_since(since),
                Self::Sees(member, end) => sees(stack, *member, *end).await.then(now),
            };
            if let Some(at) = seen {
                return at;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
