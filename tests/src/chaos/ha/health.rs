//! What works on the three machines.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{
    machines::{ASK_LIMIT, Machines},
    network::{MACHINES, host},
    parts::{Part, Service},
};
use crate::redis_command::redis_command;

/// How many servers each HAProxy must see as up.
const SERVERS: [(&str, usize); 3] = [("postgres", 1), ("amqp", 3), ("redis", 1)];
const COPIES: [(&str, usize); 1] = [("api", MACHINES)];

const STATS: u16 = 8404;
pub(super) const PATRONI: u16 = 8008;

impl Machines {
    /// What does not work, apart from the service itself. A RabbitMQ that `rabbitmq-watch.sh` has killed is started again.
    pub(super) async fn servers_not_well(&self) -> Vec<String> {
        let mut restarts = self
            .parts
            .iter()
            .filter(|part| part.service == Service::Rabbitmq);
        let restarted = restarts.try_for_each(Part::restart_if_killed);
        let checks = (0..MACHINES).map(async |machine| {
            let (etcd, patroni, haproxy, sentinel) = tokio::join!(
                self.etcd(machine),
                self.patroni(machine),
                self.haproxy(machine, &SERVERS),
                sentinel(machine),
            );
            [etcd, patroni, haproxy, sentinel].map(|check| told(machine, check))
        });
        let mut not_well: Vec<String> = join_all(checks)
            .await
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        if let Err(error) = restarted {
            not_well.push(format!("RabbitMQ: {error:#}"));
        }
        if let Err(error) = redis_pair().await {
            not_well.push(format!("Redis: {error:#}"));
        }
        not_well
    }

    /// Copies of the processes that are not ready, or without a server.
    pub(super) async fn copies_not_well(&self) -> Vec<String> {
        let proxies =
            (0..MACHINES).map(async |machine| told(machine, self.haproxy(machine, &COPIES).await));
        let members = self.members.iter().map(async |member| {
            let ready = self.ready(&member.address()).await;
            ready
                .err()
                .map(|error| format!("{}: {error:#}", member.name))
        });
        let (proxies, members) = tokio::join!(join_all(proxies), join_all(members));
        proxies.into_iter().chain(members).flatten().collect()
    }

    /// Waits until everything of a kind works.
    pub(super) async fn well(
        &self,
        what: &str,
        not_well: impl AsyncFn() -> Vec<String>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let left = not_well().await;
            if left.is_empty() {
                println!("{what} works after {} s", began.elapsed().as_secs());
                return Ok(());
            }
            ensure!(
                began.elapsed() < self.recovery_limit(),
                "{what} does not work at the start: {}",
                left.join("; ")
            );
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// The machine of the primary.
    pub(super) async fn primary(&self) -> anyhow::Result<usize> {
        let asked = (0..MACHINES).map(async |machine| {
            let url = format!("http://{}:{PATRONI}/primary", host(machine));
            let answer = self.http.get(url).send().await.ok()?;
            answer.status().is_success().then_some(machine)
        });
        let found = join_all(asked).await.into_iter().flatten().next();
        found.context("there is no primary")
    }

    /// Whether a process answers that it is ready and has all its servers.
    async fn ready(&self, address: &str) -> anyhow::Result<()> {
        let body: Value = self.ask(format!("http://{address}/readyz")).await?;
        let states = body["dependencies"].as_object().context("no answer")?;
        ensure!(
            body["status"] == "ready" && states.values().all(|state| state == "up"),
            "{body}"
        );
        Ok(())
    }

    async fn etcd(&self, machine: usize) -> anyhow::Result<()> {
        let url = format!("http://{}:2379/health", host(machine));
        let body = self.ask(url).await.context("etcd")?;
        ensure!(body["health"] == "true", "etcd: {body}");
        Ok(())
    }

    /// One primary, and two standbys of which each may confirm a commit.
    async fn patroni(&self, machine: usize) -> anyhow::Result<()> {
        let url = format!("http://{}:{PATRONI}/cluster", host(machine));
        let body = self.ask(url).await.context("Patroni")?;
        let members = body["members"].as_array().context("Patroni: no members")?;
        let count = |role: &str, state: &str| {
            let such = |member: &&Value| member["role"] == role && member["state"] == state;
            members.iter().filter(such).count()
        };
        ensure!(
            count("leader", "running") == 1 && count("quorum_standby", "streaming") == MACHINES - 1,
            "Patroni: {}",
            members
                .iter()
                .map(|member| format!("{} {} {}", member["name"], member["role"], member["state"]))
                .collect::<Vec<_>>()
                .join(", ")
        );
        Ok(())
    }

    async fn haproxy(&self, machine: usize, wanted: &[(&str, usize)]) -> anyhow::Result<()> {
        let url = format!("http://{}:{STATS}/;csv", host(machine));
        let answer = self.http.get(url).send().await.context("HAProxy")?;
        let table = answer.text().await.context("HAProxy")?;
        let names = table.lines().next().context("HAProxy: no table")?;
        let status = names.split(',').position(|name| name == "status");
        let status = status.context("HAProxy: no status")?;
        for (proxy, wanted) in wanted {
            // "UP 1/3" is a server whose last checks failed.
            let up = table.lines().filter(|line| {
                let row: Vec<&str> = line.split(',').collect();
                row[0] == *proxy && row[1].starts_with("ha") && row.get(status) == Some(&"UP")
            });
            let up = up.count();
            ensure!(
                up == *wanted,
                "HAProxy: {up} instead of {wanted} servers are up for {proxy}"
            );
        }
        Ok(())
    }

    async fn ask(&self, url: String) -> anyhow::Result<Value> {
        Ok(self.http.get(url).send().await?.json().await?)
    }
}

fn told(machine: usize, check: anyhow::Result<()>) -> Option<String> {
    let error = check.err()?;
    Some(format!("machine {}: {error:#}", machine + 1))
}

async fn sentinel(machine: usize) -> anyhow::Result<()> {
    let check = ["sentinel", "ckquorum", "flashsale"];
    let said = redis(&host(machine), 26379, &check)
        .await
        .context("sentinel")?;
    ensure!(said.starts_with("OK 3 usable"), "sentinel: {said}");
    Ok(())
}

/// One master, and one replica that follows it.
async fn redis_pair() -> anyhow::Result<()> {
    let (mut masters, mut replicas) = (0, 0);
    for machine in 0..2 {
        let said = redis(&host(machine), 6379, &["info", "replication"]).await?;
        masters += usize::from(said.contains("role:master"));
        replicas += usize::from(said.contains("master_link_status:up"));
    }
    ensure!(
        (masters, replicas) == (1, 1),
        "{masters} masters, {replicas} replicas that follow one"
    );
    Ok(())
}

/// The machine of Redis's master.
pub(super) async fn redis_master() -> anyhow::Result<usize> {
    for machine in 0..2 {
        let said = redis(&host(machine), 6379, &["info", "replication"]).await;
        if said.is_ok_and(|said| said.contains("role:master")) {
            return Ok(machine);
        }
    }
    anyhow::bail!("Redis has no master")
}

async fn redis(host: &str, port: u16, command: &[&str]) -> anyhow::Result<String> {
    let url = format!("redis://{host}:{port}/");
    Ok(timeout(ASK_LIMIT, redis_command(&url, command)).await??)
}
