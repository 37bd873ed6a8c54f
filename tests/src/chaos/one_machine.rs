//! One machine: three servers, two copies of each process, and a proxy on each link between them. Faults overlap.

mod health;
mod hostile;
mod injector;
mod links;
mod plan;
mod recovery;
mod stack;

use std::sync::Arc;

use anyhow::Context as _;
use tokio::{task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    access::Access,
    consumer,
    journal::Journal,
    member::Member,
    recent::Recent,
    settings::Settings,
    world::{Injection, RECOVERY_LIMIT, World, all_well},
};
use injector::Injector;
use stack::Stack;

/// Starts everything and makes sure that the queue is durable.
pub(crate) async fn prepare(settings: &Settings) -> anyhow::Result<Stack> {
    let stack = Stack::start(&settings.logs).await?;
    for member in &stack.members {
        member.start().await?;
    }
    let ready = timeout(RECOVERY_LIMIT, all_well(&stack));
    ready
        .await
        .context("not everything is ready at the start")?;
    consumer::bind_to_all(&stack.servers.rabbitmq.url).await?;
    // RabbitMQ 3.10 can lose a quorum queue and all its confirmed messages when it is killed within seconds of the
    // declaration. That is not a failure of the service. An orderly restart makes the queue permanent.
    let rabbitmq = stack.servers.rabbitmq.clone();
    spawn_blocking(move || {
        rabbitmq.stop();
        rabbitmq.start();
    })
    .await?;
    let ready = timeout(RECOVERY_LIMIT, all_well(&stack));
    ready
        .await
        .context("not everything is ready after RabbitMQ's restart")?;
    Ok(stack)
}

impl World for Stack {
    fn access(&self) -> &Arc<Access> {
        &self.access
    }

    fn members(&self) -> &[Member] {
        &self.members
    }

    async fn not_well(&self) -> Vec<String> {
        health::not_well(self).await
    }

    async fn inject(
        self: &Arc<Self>,
        settings: &Settings,
        journal: &Arc<Journal>,
        recent: &Arc<Recent>,
    ) -> anyhow::Result<Injection> {
        let injector = Injector {
            stack: self.clone(),
            journal: journal.clone(),
            recent: recent.clone(),
            injected: Arc::default(),
        };
        injector
            .run(plan::plan(settings.seed, settings.faults))
            .await
    }

    /// Its faults check readiness while they last.
    async fn watch(
        self: &Arc<Self>,
        _: &Arc<Journal>,
        _: &CancellationToken,
    ) -> anyhow::Result<()> {
        Ok(())
    }
}
