//! What the rounds of a run share: the servers, the programs, the load, and the processor time of all of them.

use std::sync::Arc;

use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;

use crate::{
    broker::Broker,
    database::{Cluster, Database, Products},
    load::{self, Plan, Script, Seen, Wrk},
    machine,
    metrics::Metrics,
    round::Cpu,
    server::{Programs, Running},
    standby::Replicated,
};

pub(crate) const WARM_UP_SECONDS: u32 = 1;

/// Two threads make a fifth more requests than one on two cores, and more of them nothing.
const WRK_THREADS: u32 = 2;

/// Everything that the rounds of a run share.
pub(crate) struct Bench {
    pub(crate) cluster: Cluster,
    pub(crate) redis: MultiplexedConnection,
    /// RabbitMQ, if a case needs it.
    pub(crate) broker: Option<Arc<Broker>>,
    /// A primary with its standby, if a case needs them.
    pub(crate) replicated: Option<Replicated>,
    pub(crate) programs: Programs,
    pub(crate) wrk: Wrk,
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) connections: u32,
    /// In place of the cases' own choices of connections for textbook.
    pub(crate) textbook_pool: Option<u32>,
    /// The database with the history, once it has been written.
    pub(crate) history: Option<Database>,
}

/// What a load is made on.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) script: Script<'a>,
    /// Copies of one server, which share the load.
    pub(crate) running: &'a [&'a Running],
    pub(crate) products: Products,
    pub(crate) connections: u32,
}

impl Bench {
    /// Loads the copies, each with a wrk of its own, all at the same time.
    pub(crate) async fn load(&self, target: &Target<'_>, seconds: u32) -> anyhow::Result<Seen> {
        // It is far below the limit.
        let copies = target.running.len() as u32;
        let plans: Vec<Plan<'_>> = target
            .running
            .iter()
            .zip(load::shares(target.connections, copies))
            .map(|(running, connections)| Plan {
                script: target.script,
                base_url: &running.base_url,
                connections,
                threads: (WRK_THREADS / copies).clamp(1, connections),
                seconds,
                first_product: target.products.first,
                products: target.products.count,
            })
            .collect();
        let seen = try_join_all(plans.iter().map(|plan| self.wrk.run(plan))).await?;
        Ok(Seen::together(&seen))
    }

    /// What the processes have used so far, those that were started for the round together.
    pub(crate) async fn cpu(
        &mut self,
        database: &Database,
        running: &[&Running],
    ) -> anyhow::Result<Cpu> {
        let info: String = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut self.redis)
            .await?;
        let redis = info
            .lines()
            .find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok())
            .and_then(|pid| machine::named(pid, "redis"));
        let of_ours = running
            .iter()
            .map(|running| machine::cpu_seconds(running.pid));
        Ok(Cpu {
            server: of_ours.sum(),
            postgres: database.server_pid.and_then(machine::cpu_seconds),
            redis: redis.and_then(machine::cpu_seconds),
            rabbitmq: self.broker.as_ref().and_then(|broker| broker.cpu_seconds()),
            wrk: None,
        })
    }
}

/// The counts of all copies, once none of them changes any more.
pub(crate) async fn settled_metrics(running: &[&Running]) -> anyhow::Result<Metrics> {
    let mut all = Metrics::default();
    for running in running {
        all.add(&running.settled_metrics().await?);
    }
    Ok(all)
}
