//! The processes and links of one machine, as plans name them.

/// The processes, in the order that plans use.
pub(crate) const MEMBERS: [&str; 6] = ["api1", "api2", "expirer1", "expirer2", "relay1", "relay2"];
pub(crate) const APIS: usize = 2;
/// One end of a link. The other end is a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Postgres,
    Redis,
    Rabbitmq,
    Clients,
}

/// Every link as process and other end, in the order that plans use.
pub(crate) const LINKS: [(usize, End); 16] = {
    use End::*;
    [
        (0, Clients),
        (1, Clients),
        (0, Postgres),
        (1, Postgres),
        (2, Postgres),
        (3, Postgres),
        (4, Postgres),
        (5, Postgres),
        (0, Redis),
        (1, Redis),
        (2, Redis),
        (3, Redis),
        (4, Redis),
        (5, Redis),
        (4, Rabbitmq),
        (5, Rabbitmq),
    ]
};

pub(crate) fn link_name(link: usize) -> String {
    let (member, end) = LINKS[link];
    format!("{}–{end:?}", MEMBERS[member])
}

pub(crate) fn links_to(server: End) -> impl Iterator<Item = usize> {
    (0..LINKS.len()).filter(move |link| LINKS[*link].1 == server)
}
