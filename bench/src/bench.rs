//! State shared by all rounds of a run: servers, programs, load, and CPU time measurement.

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

/// On two cores, two threads make a fifth more requests than one. More threads do not help.
const WRK_THREADS: u32 = 2;

/// State shared by all rounds of a run.
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
    /// Overrides the number of connections of textbook.
    pub(crate) textbook_pool: Option<u32>,
    /// The database with the history, once it is created.
    pub(crate) history: Option<Database>,
}

/// The target of a load.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) script: Script<'a>,
    /// Copies of one server, which share the load.
    pub(crate) running: &'a [&'a Running],
    pub(crate) products: Products,
    pub(crate) connections: u32,
}

impl Bench {
    /// Loads all copies at the same time, with one wrk each.
    pub(crate) async fn load(&self, target: &Target<'_>, seconds: u32) -> anyhow::Result<Seen> {
        // The number of copies is far below the limit.
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

    /// CPU time used so far. The processes started for the round are added up.
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

/// The sum of all copies' counts, once they no longer change.
pub(crate) async fn settled_metrics(running: &[&Running]) -> anyhow::Result<Metrics> {
    let mut all = Metrics::default();
    for running in running {
        all.add(&running.settled_metrics().await?);
    }
    Ok(all)
}
