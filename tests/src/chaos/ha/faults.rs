//! The faults of three machines, which follow from the seed alone, and how they are done.

use std::{fmt, process::Command, time::Duration};

use anyhow::ensure;
use fastrand::Rng;
use tokio::time::sleep;

use super::{
    MACHINES, Machines,
    health::redis_master,
    parts::{Part, Service, kill_all, send},
};
use crate::chaos::journal::Journal;

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

impl Machines {
    /// Injects a fault and ends it. Returns it with its target.
    pub(super) async fn perform(
        &self,
        fault: Fault,
        lasts: Duration,
        journal: &Journal,
    ) -> anyhow::Result<String> {
        let for_seconds = format!("for {:.1} s", lasts.as_secs_f64());
        match fault {
            Fault::Switchover => {
                let from = self.primary().await?;
                self.switch_over(from).await?;
                let to = self.primary().await?;
                Ok(format!("{fault} from {} to {}", from + 1, to + 1))
            }
            Fault::KillMachine(place) => {
                let machine = self.place(place).await?;
                self.kill_machine(machine, lasts).await?;
                Ok(format!("{fault}: {} {for_seconds}", machine + 1))
            }
            Fault::KillPart(target) => {
                let what = self.kill_part(target, lasts).await?;
                Ok(format!("{fault}: {what} {for_seconds}"))
            }
            Fault::HangPart(target) => {
                let what = self.hang_part(target, lasts).await?;
                Ok(format!("{fault}: {what} {for_seconds}"))
            }
            Fault::RestartHaproxy(machine) => {
                let part = self.part(Service::Haproxy, machine);
                let mut child = part.locked().await;
                part.end("TERM").await?;
                part.start_in(&mut child)?;
                Ok(format!("{fault}: {}", machine + 1))
            }
            Fault::Partition(place) => {
                let machine = self.place(place).await?;
                connect(machine, false)?;
                sleep(lasts).await;
                connect(machine, true)?;
                Ok(format!("{fault}: {} {for_seconds}", machine + 1))
            }
            Fault::RollingRestart => {
                self.restart_all(journal).await?;
                Ok(fault.to_string())
            }
        }
    }

    async fn place(&self, place: Place) -> anyhow::Result<usize> {
        let primary = self.primary().await?;
        Ok(match place {
            Place::Primary => primary,
            Place::Standby(other) => (primary + 1 + other) % MACHINES,
        })
    }

    fn part(&self, service: Service, machine: usize) -> &Part {
        let found = |part: &&Part| (part.service, part.machine) == (service, machine);
        #[expect(clippy::expect_used, reason = "the plan names only parts that exist")]
        self.parts.iter().find(found).expect("no such part")
    }

    /// The server that a target is, or `None` for a copy.
    async fn server(&self, target: Target) -> anyhow::Result<Option<&Part>> {
        Ok(Some(match target {
            Target::Postgres(place) => self.part(Service::Patroni, self.place(place).await?),
            Target::RedisMaster => self.part(Service::Redis, redis_master().await?),
            Target::Server(service, machine) => self.part(service, machine),
            Target::Copy(_) => return Ok(None),
        }))
    }

    async fn kill_machine(&self, machine: usize, lasts: Duration) -> anyhow::Result<()> {
        // All are kept locked, so that nobody restarts one of them.
        let mut parts = Vec::new();
        for part in self.parts.iter().filter(|part| part.machine == machine) {
            parts.push((part, part.locked().await));
        }
        let mut copies = Vec::new();
        for copy in self.members.iter().skip(machine).step_by(MACHINES) {
            copies.push((copy, copy.child().await));
        }
        kill_all(machine).await?;
        sleep(lasts).await;
        for (part, child) in &mut parts {
            part.start_in(child)?;
        }
        for (copy, child) in &mut copies {
            copy.start_in(child).await?;
        }
        Ok(())
    }

    async fn kill_part(&self, target: Target, lasts: Duration) -> anyhow::Result<String> {
        let Some(part) = self.server(target).await? else {
            return self
                .on_copy(target, async |copy| copy.crash(lasts).await)
                .await;
        };
        let mut child = part.locked().await;
        part.end("KILL").await?;
        sleep(lasts).await;
        part.start_in(&mut child)?;
        Ok(format!("{}{}", part.service.name(), part.machine + 1))
    }

    async fn hang_part(&self, target: Target, lasts: Duration) -> anyhow::Result<String> {
        let Some(part) = self.server(target).await? else {
            return self
                .on_copy(target, async |copy| {
                    // Kept locked, so that `supervise` does not take a frozen process for one that hangs.
                    let child = copy.child().await;
                    if let Some(child) = child.as_ref() {
                        child.freeze();
                        sleep(lasts).await;
                        child.thaw();
                    }
                    Ok(())
                })
                .await;
        };
        let stopped = part.signal("STOP")?;
        sleep(lasts).await;
        send("CONT", &stopped);
        Ok(format!("{}{}", part.service.name(), part.machine + 1))
    }

    async fn on_copy(
        &self,
        target: Target,
        act: impl AsyncFnOnce(&crate::chaos::world::Member) -> anyhow::Result<()>,
    ) -> anyhow::Result<String> {
        let Target::Copy(index) = target else {
            anyhow::bail!("{target:?} is not a copy");
        };
        let copy = &self.members[index];
        act(copy).await?;
        Ok(copy.name.clone())
    }

    /// As an operator does it: SIGTERM, start, and the next one only when everything works again.
    async fn restart_all(&self, journal: &Journal) -> anyhow::Result<()> {
        for copy in &self.members {
            let mut child = copy.child().await;
            if let Some(running) = child.as_mut() {
                running.terminate();
                let status = running.ends().await;
                if !status.success() {
                    journal.service_failed(format!("{} ended with {status}", copy.name));
                }
            }
            copy.start_in(&mut child).await?;
            drop(child);
            self.well(&copy.name, async || self.copies_not_well().await)
                .await?;
        }
        Ok(())
    }
}

/// Connects a machine to the network of all machines, or takes it from there: its own side sees no difference, but nothing
/// passes.
fn connect(machine: usize, connected: bool) -> anyhow::Result<()> {
    let link = format!("ha{}", machine + 1);
    let mut command = Command::new("ip");
    command.args(["link", "set", &link]);
    if connected {
        command.args(["master", "ha0"]);
    } else {
        command.arg("nomaster");
    }
    ensure!(command.status()?.success(), "{command:?} failed");
    Ok(())
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
