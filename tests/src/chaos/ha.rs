//! Three machines, each a network namespace, with the configuration of `deploy/ha`: PostgreSQL under Patroni, etcd,
//! RabbitMQ, Redis, sentinels, HAProxy, and a copy of each process. Clients use the HAProxy of any machine.
//!
//! One fault at a time: three machines survive the loss of one, and no more.

mod health;
mod injector;
mod machines;
mod network;
mod parts;
mod plan;
mod readiness;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    access::Access,
    clock::now,
    consumer,
    journal::Journal,
    member::{Member, migrate},
    recent::Recent,
    settings::Settings,
    world::{Gaps, Injected, Injection, World, all_well},
};
use machines::Machines;
pub use plan::kinds;

/// The healthy time between two faults, in which clients make holds that the next one may hit.
const PAUSE: Duration = Duration::from_secs(2);

/// Starts everything. `folder` has the configuration of each machine in `1`, `2` and `3`.
pub(crate) async fn prepare(folder: &Path, settings: &Settings) -> anyhow::Result<Machines> {
    let machines = Machines::new(folder, settings)?;
    println!("starting three machines");
    for part in &machines.parts {
        part.start().await?;
    }
    // A quorum queue gets its members from the nodes that are there when the first relay declares it.
    machines
        .well("the servers", async || machines.servers_not_well().await)
        .await?;
    migrate(&machines.database_url).await?;
    for member in &machines.members {
        member.start().await?;
    }
    machines
        .well("everything", async || machines.not_well().await)
        .await?;
    consumer::bind_to_all(&machines.access.amqp[0]).await?;
    Ok(machines)
}

impl World for Machines {
    fn access(&self) -> &Arc<Access> {
        &self.access
    }

    fn members(&self) -> &[Member] {
        &self.members
    }

    async fn not_well(&self) -> Vec<String> {
        let mut not_well = self.servers_not_well().await;
        not_well.extend(self.copies_not_well().await);
        not_well
    }

    async fn inject(
        self: &Arc<Self>,
        settings: &Settings,
        journal: &Arc<Journal>,
        _: &Arc<Recent>,
    ) -> anyhow::Result<Injection> {
        let began = Instant::now();
        let mut injected = Vec::new();
        for (fault, lasts) in plan::draw(settings.seed, &settings.only) {
            sleep(PAUSE).await;
            if began.elapsed() >= settings.faults {
                break;
            }
            let start = now();
            println!("at {} s: {fault}", began.elapsed().as_secs());
            let what = self
                .perform(fault, lasts, journal)
                .await
                .with_context(|| fault.to_string())?;
            let ended = now();
            let recovered = timeout(self.recovery_limit(), all_well(&**self))
                .await
                .is_ok();
            let (writes, events) = journal.longest_gaps(start, now());
            injected.push(Injected {
                kind: fault.kind(),
                what,
                began: start,
                ended,
                recovered: recovered.then(now),
                gaps: Some(Gaps { writes, events }),
            });
            if !recovered {
                for what in self.not_well().await {
                    journal.service_failed(format!(
                        "{:?} after {fault}, {what}",
                        self.recovery_limit()
                    ));
                }
                break;
            }
        }
        Ok(Injection {
            injected,
            skipped: 0,
        })
    }

    async fn watch(
        self: &Arc<Self>,
        journal: &Arc<Journal>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        readiness::watch(self, journal, stop).await
    }
}
