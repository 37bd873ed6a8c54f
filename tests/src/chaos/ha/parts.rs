//! The servers on the machines, as processes.

use std::{
    fs::{self, File},
    os::unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep},
};

use super::network::on_machine;
use crate::servers::script;

const SIGKILL: i32 = 9;

/// Only a process in an uninterruptible wait, for a slow disk, needs this long to end.
const END_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Etcd,
    Rabbitmq,
    /// Kills a RabbitMQ that does not listen.
    RabbitmqWatch,
    /// Patroni and its PostgreSQL.
    Patroni,
    Redis,
    Sentinel,
    Haproxy,
}

pub(super) const IN_ORDER: [Service; 7] = [
    Service::Etcd,
    Service::Rabbitmq,
    Service::RabbitmqWatch,
    Service::Patroni,
    Service::Redis,
    Service::Sentinel,
    Service::Haproxy,
];

impl Service {
    /// Redis is on two machines: the third has a sentinel only.
    pub(super) fn is_on(self, machine: usize) -> bool {
        self != Self::Redis || machine < 2
    }

    /// As an argument of `ha-part.sh`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Rabbitmq => "rabbitmq",
            Self::RabbitmqWatch => "rabbitmq-watch",
            Self::Patroni => "patroni",
            Self::Redis => "redis",
            Self::Sentinel => "sentinel",
            Self::Haproxy => "haproxy",
        }
    }

    /// The names of its processes, as in `/proc/PID/comm`. Erlang's name service is no part of RabbitMQ: it stays when
    /// RabbitMQ is killed.
    fn processes(self) -> &'static [&'static str] {
        match self {
            Self::Etcd => &["etcd"],
            Self::Rabbitmq => &["beam.smp", "erl_child_setup", "inet_gethost"],
            Self::RabbitmqWatch => &["bash"],
            Self::Patroni => &["python3", "patroni", "postgres"],
            Self::Redis => &["redis-server"],
            Self::Sentinel => &["redis-sentinel"],
            Self::Haproxy => &["haproxy"],
        }
    }
}

/// One server of one machine.
pub(super) struct Part {
    pub(super) service: Service,
    pub(super) machine: usize,
    folder: PathBuf,
    log: File,
    child: Mutex<Option<Child>>,
}

impl Part {
    pub(super) fn new(
        service: Service,
        machine: usize,
        folder: &Path,
        logs: &Path,
    ) -> anyhow::Result<Self> {
        let number = machine + 1;
        Ok(Self {
            service,
            machine,
            folder: folder.join(number.to_string()),
            log: File::create(logs.join(format!("{}{number}.log", service.name())))?,
            child: Mutex::default(),
        })
    }

    /// Starts it. Does not wait until it is ready.
    pub(super) async fn start(&self) -> anyhow::Result<()> {
        let mut child = self.child.lock().await;
        self.start_in(&mut child)
    }

    pub(super) fn start_in(&self, place: &mut Option<Child>) -> anyhow::Result<()> {
        let wrapper = on_machine(self.machine);
        let child = Command::new(&wrapper[0])
            .args(&wrapper[1..])
            .arg(script("ha-part.sh"))
            .arg(self.service.name())
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(self.log.try_clone()?)
            .stderr(self.log.try_clone()?)
            .spawn()?;
        if let Some(mut old) = place.replace(child) {
            // It has ended, and would stay a zombie.
            old.wait()?;
        }
        Ok(())
    }

    /// Starts it again if it was killed, as the supervisor of a real machine does. Faults keep locked what they kill.
    pub(super) fn restart_if_killed(&self) -> anyhow::Result<()> {
        let Ok(mut child) = self.child.try_lock() else {
            return Ok(());
        };
        let Some(running) = child.as_mut() else {
            return Ok(());
        };
        if running
            .try_wait()?
            .is_some_and(|status| status.signal() == Some(SIGKILL))
        {
            println!(
                "{} of machine {} was killed by its watch",
                self.service.name(),
                self.machine + 1
            );
            self.start_in(&mut child)?;
        }
        Ok(())
    }

    /// Its process, to be replaced by [`Self::start_in`].
    pub(super) async fn locked(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().await
    }

    /// Sends a signal to all its processes, and returns them.
    pub(super) fn signal(&self, signal: &str) -> anyhow::Result<Vec<String>> {
        let own = self.pids()?;
        send(signal, &own);
        Ok(own)
    }

    /// Sends it a signal until no process is left.
    pub(super) async fn end(&self, signal: &str) -> anyhow::Result<()> {
        end(signal, || self.pids()).await
    }

    fn pids(&self) -> anyhow::Result<Vec<String>> {
        let names = self.service.processes();
        let all = processes(self.machine)?.into_iter();
        Ok(all
            .filter(|(_, name)| names.contains(&name.as_str()))
            .map(|(pid, _)| pid)
            .collect())
    }
}

/// Kills every process of a machine at once, as a power cut does.
pub(super) async fn kill_all(machine: usize) -> anyhow::Result<()> {
    let pids = || {
        Ok(processes(machine)?
            .into_iter()
            .map(|(pid, _)| pid)
            .collect())
    };
    end("KILL", pids).await
}

/// Signals processes that were returned by [`Part::signal`].
pub(super) fn send(signal: &str, pids: &[String]) {
    // The shell's builtin: not every machine has the program `kill`. It fails if one of them has ended meanwhile.
    let _ = Command::new("sh")
        .args(["-c", r#"kill -s "$0" "$@""#, signal])
        .args(pids)
        .stderr(Stdio::null())
        .status();
}

/// Repeats the signal, because a process may start another one meanwhile.
async fn end(signal: &str, pids: impl Fn() -> anyhow::Result<Vec<String>>) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let left = pids()?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(began.elapsed() < END_LIMIT, "these do not end: {left:?}");
        send(signal, &left);
        sleep(Duration::from_millis(50)).await;
    }
}

/// The processes of a machine with their names: those in its network namespace. A zombie is in none.
fn processes(machine: usize) -> anyhow::Result<Vec<(String, String)>> {
    let namespace = format!("/run/netns/ha{}", machine + 1);
    let namespace = fs::metadata(&namespace).context(namespace)?.ino();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        // Anything else, and a process that has just ended, has no such file.
        let Ok(own) = fs::metadata(path.join("ns/net")) else {
            continue;
        };
        if own.ino() == namespace
            && let Ok(name) = fs::read_to_string(path.join("comm"))
        {
            found.push((pid.to_owned(), name.trim_end().to_owned()));
        }
    }
    Ok(found)
}
