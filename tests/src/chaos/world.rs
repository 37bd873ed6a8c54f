//! What a run needs to know about an installation: one machine (`one_machine`), or three machines
//! (`ha`). Clients, consumer, viewers, the final checks and the report are the same for both.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    access::Access, clock::Micros, journal::Journal, member::Member, recent::Recent,
    settings::Settings,
};

/// Time limit for recovery after the last fault, generous for slow machines. The service itself needs a few seconds:
/// retries are at most 2 s apart, and a call times out after 10 s.
pub(crate) const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

/// How often something is polled.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// An installation with its own kinds of faults.
pub(crate) trait World: Send + Sync + 'static {
    fn access(&self) -> &Arc<Access>;

    /// The copies of the three processes.
    fn members(&self) -> &[Member];

    /// What does not work at present. Empty if all is well.
    async fn not_well(&self) -> Vec<String>;

    /// Injects faults for the time of the settings, and returns when everything works again, or should.
    async fn inject(
        self: &Arc<Self>,
        settings: &Settings,
        journal: &Arc<Journal>,
        recent: &Arc<Recent>,
    ) -> anyhow::Result<Injection>;

    /// Watches a promise of its own, until it is told to stop.
    async fn watch(
        self: &Arc<Self>,
        journal: &Arc<Journal>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()>;
}

/// The faults of a run.
pub(crate) struct Injection {
    pub(crate) injected: Vec<Injected>,
    /// Number of faults that were skipped because another fault affected their target.
    pub(crate) skipped: usize,
}

/// A fault that was injected.
#[derive(Clone, Debug)]
pub(crate) struct Injected {
    /// Name of the kind of fault.
    pub(crate) kind: &'static str,
    /// The fault and its target.
    pub(crate) what: String,
    pub(crate) began: Micros,
    pub(crate) ended: Micros,
    /// When everything that it had affected worked again.
    pub(crate) recovered: Option<Micros>,
    /// What clients and consumers noticed from its beginning until then.
    pub(crate) gaps: Option<Gaps>,
}

/// The longest times without something that was there all the time before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gaps {
    /// Without an acknowledged write.
    pub(crate) writes: Micros,
    /// Without an event at the consumer.
    pub(crate) events: Micros,
}

/// Waits until everything works.
pub(crate) async fn all_well(world: &impl World) {
    while !world.not_well().await.is_empty() {
        sleep(LOOK_EVERY).await;
    }
}
