//! A server under load: a process that is started for one round.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Parser as _;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::{
    case::Server,
    metrics::{self, Metrics},
};

/// The programs, and the servers that they connect to.
pub(crate) struct Programs {
    folder: PathBuf,
    /// Further arguments of the API, from the command line.
    api_options: Vec<String>,
    redis_url: String,
    amqp_url: Option<String>,
    logs: PathBuf,
}

/// The product's processes other than the API, with default settings.
#[derive(Clone, Copy)]
pub(crate) enum Worker {
    Expirer,
    Relay,
}

/// The client of the benchmark's API keys.
pub(crate) const API_CLIENT: &str = "bench";

/// A key, and the file that makes an API require it.
pub(crate) struct ApiKey {
    pub(crate) secret: String,
    file: PathBuf,
}

pub(crate) struct Running {
    child: Child,
    pub(crate) base_url: String,
    pub(crate) pid: u32,
    http: reqwest::Client,
}

impl Programs {
    /// The product's programs in the folder of this program.
    pub(crate) fn beside_this(
        logs: &Path,
        redis_url: &str,
        amqp_url: Option<&str>,
        api_options: &str,
    ) -> anyhow::Result<Self> {
        let this = std::env::current_exe().context("cannot find this program")?;
        let folder = this.parent().context("no folder")?;
        Self::in_folder(folder, logs, redis_url, amqp_url, api_options)
    }

    /// The programs of a build.
    pub(crate) fn in_folder(
        folder: &Path,
        logs: &Path,
        redis_url: &str,
        amqp_url: Option<&str>,
        api_options: &str,
    ) -> anyhow::Result<Self> {
        for name in ["flashsale-api", "flashsale-expirer", "flashsale-relay"] {
            let program = folder.join(name);
            if !program.exists() {
                bail!("{} is missing. Run: make bench", program.display());
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            api_options: api_options.split_whitespace().map(str::to_owned).collect(),
            redis_url: redis_url.to_owned(),
            amqp_url: amqp_url.map(str::to_owned),
            logs: logs.to_owned(),
        })
    }

    /// Starts a server, and waits until it answers.
    pub(crate) async fn start(
        &self,
        server: Server,
        database_url: &str,
    ) -> anyhow::Result<Running> {
        self.start_copy(server, 1, database_url, None).await
    }

    /// Starts one of several copies, which may require an API key.
    pub(crate) async fn start_copy(
        &self,
        server: Server,
        number: u32,
        database_url: &str,
        key: Option<&ApiKey>,
    ) -> anyhow::Result<Running> {
        let (command, log) = match server {
            Server::Flashsale => {
                let mut command = self.program("flashsale-api");
                command
                    .args(&self.api_options)
                    .envs(key.map(|key| ("API_KEYS_FILE", &key.file)));
                (command, "api")
            }
            Server::Noop => (self.comparator("noop"), "noop"),
            Server::RedisGate => (self.comparator("redis-gate"), "redis-gate"),
            Server::Textbook(connections) => {
                let mut command = self.comparator("textbook");
                command
                    .args(["--database-max-connections", &connections.to_string()])
                    // A request keeps its connection while it waits for the hot row. Waiting is part of this design,
                    // not an error.
                    .args(["--database-acquire-milliseconds", "20000"]);
                (command, "textbook")
            }
        };
        // Each copy has its own log.
        let log = match number {
            1 => log.to_owned(),
            number => format!("{log}-{number}"),
        };
        self.run(command, &log, database_url).await
    }

    /// Gives a new database the schema of these programs.
    pub(crate) async fn migrate(&self, database_url: &str) -> anyhow::Result<()> {
        let mut migrate = self.program("flashsale-api");
        migrate.arg("migrate").env("DATABASE_URL", database_url);
        finished(&mut migrate).await.map(drop)
    }

    /// Makes a key with the API, and writes its line to a file.
    pub(crate) async fn new_api_key(&self) -> anyhow::Result<ApiKey> {
        let output = finished(self.program("flashsale-api").args(["new-key", API_CLIENT])).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        let secret = secret_in(&said).context("flashsale-api new-key printed no key")?;
        let file = self.logs.join("api_keys");
        std::fs::write(&file, &output.stdout)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(ApiKey { secret, file })
    }

    /// The number of the API's lanes for reserves: the default, or from its options.
    pub(crate) fn reserve_lanes(&self) -> anyhow::Result<u32> {
        let words = ["flashsale-api"].into_iter().map(str::to_owned);
        let args = flashsale_api::Args::try_parse_from(words.chain(self.api_options.clone()))
            .context("API_OPTIONS")?;
        Ok(args.settings.reserve_lanes.into())
    }

    /// Starts a worker, and waits until it answers.
    pub(crate) async fn start_worker(
        &self,
        worker: Worker,
        database_url: &str,
    ) -> anyhow::Result<Running> {
        let (program, log) = match worker {
            Worker::Expirer => ("flashsale-expirer", "expirer"),
            Worker::Relay => ("flashsale-relay", "relay"),
        };
        self.run(self.program(program), log, database_url).await
    }

    async fn run(
        &self,
        mut command: Command,
        log: &str,
        database_url: &str,
    ) -> anyhow::Result<Running> {
        // Asks the kernel for a free port and releases it at once. The kernel assigns the next caller another port.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = self.logs.join(format!("{log}.log"));
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .env("LISTEN_ADDR", address.to_string())
            .env("DATABASE_URL", database_url)
            .env("REDIS_URL", &self.redis_url)
            .envs(self.amqp_url.iter().map(|url| ("AMQP_URL", url)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start {command:?}",
                    command = command.as_std().get_program()
                )
            })?;
        let mut running = Running {
            pid: child.id().context("the server has no process id")?,
            child,
            base_url: format!("http://{address}"),
            http: reqwest::Client::builder().no_proxy().build()?,
        };
        let ready = running.wait_until_ready();
        match tokio::time::timeout(Duration::from_secs(20), ready).await {
            Ok(Ok(())) => Ok(running),
            _ => bail!(
                "the server did not become ready; its log, {}, says: {}",
                log.display(),
                std::fs::read_to_string(&log).unwrap_or_default()
            ),
        }
    }

    fn program(&self, name: &str) -> Command {
        Command::new(self.folder.join(name))
    }

    fn comparator(&self, name: &str) -> Command {
        let mut command = self.program("flashsale-bench");
        command.args(["serve", name]);
        command
    }
}

impl Running {
    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server has exited: {status}");
            }
            let answer = self
                .http
                .get(format!("{}/readyz", self.base_url))
                .send()
                .await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<String> {
        let url = format!("{}{path}", self.base_url);
        let answer = self.http.get(&url).send().await?.error_for_status()?;
        Ok(answer.text().await?)
    }

    /// A request with or without a body. Fails if the answer is a refusal.
    pub(crate) fn request(
        &self,
        path: &str,
        body: Option<&Value>,
    ) -> impl Future<Output = anyhow::Result<Value>> + Send + use<> {
        let mut request = self.http.post(format!("{}{path}", self.base_url));
        if let Some(body) = body {
            request = request.json(body);
        }
        async move { Ok(request.send().await?.error_for_status()?.json().await?) }
    }

    /// A counter of the process.
    pub(crate) async fn counter(&self, name: &str) -> anyhow::Result<u64> {
        metrics::counter(&self.get("/metrics").await?, name)
    }

    /// The server's counters, once they no longer change: then the requests in flight at the end of a load are done.
    pub(crate) async fn settled_metrics(&self) -> anyhow::Result<Metrics> {
        let mut before = Metrics::parse(&self.get("/metrics").await?);
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = Metrics::parse(&self.get("/metrics").await?);
            if now == before {
                return Ok(now);
            }
            before = now;
        }
        bail!("the server is still answering requests 10 s after the end of the load")
    }

    /// Stops the server in order, which also closes its connections to PostgreSQL.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let stopped = Command::new("kill")
            .arg(self.pid.to_string())
            .status()
            .await;
        let ended = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        match (stopped, ended) {
            (Ok(_), Ok(Ok(_))) => Ok(()),
            _ => self.child.kill().await.context("cannot stop the server"),
        }
    }
}

/// Runs a command to its end. Fails if it does.
async fn finished(command: &mut Command) -> anyhow::Result<Output> {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {:?}", command.as_std()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "a command failed: {said}");
    Ok(output)
}

/// The key that `flashsale-api new-key` prints on a line of its own.
fn secret_in(said: &str) -> Option<String> {
    let secret = said.lines().find(|line| line.starts_with("fsk_"))?;
    Some(secret.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_found_behind_what_is_said_about_it() {
        let said = "the key of bench, which is not shown again:\nfsk_0123abcd\n";
        assert_eq!(secret_in(said).as_deref(), Some("fsk_0123abcd"));
        assert_eq!(secret_in("error: no random numbers"), None);
    }

    #[test]
    fn the_number_of_lanes_is_what_the_api_would_take() {
        let lanes = |options: &str| {
            let programs = Programs {
                folder: PathBuf::new(),
                api_options: options.split_whitespace().map(str::to_owned).collect(),
                redis_url: String::new(),
                amqp_url: None,
                logs: PathBuf::new(),
            };
            programs.reserve_lanes().ok()
        };
        assert_eq!(lanes("--reserve-lanes 7"), Some(7));
        assert!(lanes("").is_some_and(|lanes| lanes >= 1));
        assert_eq!(lanes("--reserve-lanes many"), None);
    }
}
