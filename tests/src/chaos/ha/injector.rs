//! Injects the faults, and ends them.

use std::{process::Command, time::Duration};

use anyhow::ensure;
use tokio::time::sleep;

use super::{
    health::{PATRONI, redis_master},
    machines::Machines,
    network::{MACHINES, host},
    parts::{Part, Service, kill_all, send},
    plan::{Fault, Place, Target},
};
use crate::chaos::{journal::Journal, member::Member};

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

    /// Asks Patroni to make another machine the primary, and returns when it is done.
    async fn switch_over(&self, from: usize) -> anyhow::Result<()> {
        let leader = format!("ha{}", from + 1);
        let asked = self
            .http
            .post(format!("http://{}:{PATRONI}/switchover", host(from)))
            .basic_auth("patroni", Some(&self.patroni_password))
            .timeout(self.recovery_limit())
            .json(&serde_json::json!({ "leader": leader }));
        let answer = asked.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "switchover: {status} {text}");
        Ok(())
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
        act: impl AsyncFnOnce(&Member) -> anyhow::Result<()>,
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
