//! The copies of the three processes: what starts, kills, restarts and supervises them.

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep},
};

use super::journal::{Journal, lock};
use crate::{
    process::{Child, Log, start_through, start_with},
    proxy::Proxy,
};

/// Only an overloaded machine needs this long to start a process.
const START_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    Api,
    Expirer,
    Relay,
}

impl Process {
    fn binary(self) -> &'static str {
        match self {
            Self::Api => "flashsale-api",
            Self::Expirer => "flashsale-expirer",
            Self::Relay => "flashsale-relay",
        }
    }
}

/// One copy of a process, which may be stopped and restarted.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) process: Process,
    /// The command that becomes the process. Empty: none.
    pub(crate) wrapper: Vec<String>,
    settings: Vec<(String, String)>,
    log: File,
    /// The clients' proxy, which must know the address of this process.
    pub(crate) front: Option<Arc<Proxy>>,
    child: Mutex<Option<Child>>,
    /// Its current address.
    address: std::sync::Mutex<String>,
}

impl Member {
    /// Starts nothing. Its log gets a file in the folder `logs`.
    pub(crate) fn new(
        name: String,
        process: Process,
        settings: Vec<(String, String)>,
        logs: &Path,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            log: File::create(logs.join(format!("{name}.log")))?,
            name,
            process,
            wrapper: Vec::new(),
            settings,
            front: None,
            child: Mutex::default(),
            address: std::sync::Mutex::default(),
        })
    }

    pub(crate) fn address(&self) -> String {
        lock(&self.address).clone()
    }

    pub(crate) async fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().await
    }

    /// Starts it. It must not be running.
    pub(crate) async fn start(&self) -> anyhow::Result<()> {
        let mut child = self.child().await;
        self.start_in(&mut child).await
    }

    /// The same for a caller that keeps it locked.
    pub(crate) async fn start_in(&self, place: &mut Option<Child>) -> anyhow::Result<()> {
        let settings: Vec<_> = self
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let log = Log::File(self.log.try_clone()?);
        let binary = self.process.binary();
        let child = place.insert(start_through(&self.wrapper, binary, &settings, log));
        let began = Instant::now();
        let address = loop {
            if let Some(entry) = child.logged("listening") {
                break entry["address"].as_str().context("no address")?.to_owned();
            }
            if !child.runs() || began.elapsed() > START_LIMIT {
                bail!("{} did not start; see its log", self.name);
            }
            sleep(Duration::from_millis(10)).await;
        };
        if let Some(front) = &self.front {
            front.retarget(&address);
        }
        *lock(&self.address) = address;
        Ok(())
    }

    /// Kills it and starts it again after `pause`. Keeps it locked meanwhile.
    pub(crate) async fn crash(&self, pause: Duration) -> anyhow::Result<()> {
        let mut child = self.child().await;
        if let Some(mut running) = child.take() {
            running.kill();
        }
        sleep(pause).await;
        self.start_in(&mut child).await
    }

    /// Kills it permanently.
    pub(crate) async fn kill(&self) {
        if let Some(mut running) = self.child().await.take() {
            running.kill();
        }
    }
}

/// Restarts processes that ended by themselves, and records a violation.
pub(crate) async fn supervise(members: &[Member], journal: &Journal) -> anyhow::Result<()> {
    loop {
        for member in members {
            // A locked process is being restarted by a fault.
            let Ok(mut child) = member.child.try_lock() else {
                continue;
            };
            if child.as_mut().is_some_and(|child| !child.runs()) {
                journal.service_failed(format!("{} ended by itself; see its log", member.name));
                member.start_in(&mut child).await?;
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Creates the tables. With the settings that a process has in the same place.
pub(crate) async fn migrate(database_url: &str) -> anyhow::Result<()> {
    let mut migration = start_with(
        "flashsale-api",
        &["migrate"],
        &[("DATABASE_URL", database_url)],
        Log::Shown,
    );
    let status = migration.ends().await;
    if !status.success() {
        bail!("cannot migrate: {status}");
    }
    Ok(())
}
