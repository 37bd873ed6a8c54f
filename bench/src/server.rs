//! A server under load: a process of its own, started for one round.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};

use crate::{cases::Server, metrics::Metrics};

/// Where the programs are, and what they connect to.
pub(crate) struct Programs {
    pub(crate) flashsale_api: PathBuf,
    pub(crate) flashsale_bench: PathBuf,
    /// Further arguments of the API, from whoever runs the benchmark.
    pub(crate) api_options: Vec<String>,
    pub(crate) redis_url: String,
    pub(crate) logs: PathBuf,
}

pub(crate) struct Running {
    child: Child,
    pub(crate) base_url: String,
    pub(crate) pid: u32,
    http: reqwest::Client,
}

impl Programs {
    /// The API beside this program, where one build puts both.
    pub(crate) fn beside_this(
        logs: &Path,
        redis_url: &str,
        api_options: &str,
    ) -> anyhow::Result<Self> {
        let flashsale_bench = std::env::current_exe().context("cannot find this program")?;
        let flashsale_api = flashsale_bench.with_file_name("flashsale-api");
        if !flashsale_api.exists() {
            bail!("{} is missing. Run: make bench", flashsale_api.display());
        }
        Ok(Self {
            flashsale_api,
            flashsale_bench,
            api_options: api_options.split_whitespace().map(str::to_owned).collect(),
            redis_url: redis_url.to_owned(),
            logs: logs.to_owned(),
        })
    }

    /// Starts a server, and waits until it answers.
    pub(crate) async fn start(
        &self,
        server: Server,
        database_url: &str,
    ) -> anyhow::Result<Running> {
        // Taken from the kernel and given back at once: it deals the next one out to somebody else.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (mut command, log) = match server {
            Server::Flashsale => {
                let mut command = Command::new(&self.flashsale_api);
                command.args(&self.api_options);
                (command, "api")
            }
            Server::Noop => (self.comparator("noop"), "noop"),
            Server::RedisGate => (self.comparator("redis-gate"), "redis-gate"),
            Server::Textbook(connections) => {
                let mut command = self.comparator("textbook");
                command
                    .args(["--database-max-connections", &connections.to_string()])
                    // Whoever waits for the hot row keeps a connection: waiting is the design, not a fault.
                    .args(["--database-acquire-milliseconds", "20000"]);
                (command, "textbook")
            }
        };
        let log = self.logs.join(format!("{log}.log"));
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .env("LISTEN_ADDR", address.to_string())
            .env("DATABASE_URL", database_url)
            .env("REDIS_URL", &self.redis_url)
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

    fn comparator(&self, name: &str) -> Command {
        let mut command = Command::new(&self.flashsale_bench);
        command.args(["serve", name]);
        command
    }
}

impl Running {
    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("it has ended: {status}");
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

    /// The server's own counts, once they no longer change: what was in flight when a load ended is then done.
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
        bail!("the server is still at work 10 s after the end of the load")
    }

    /// Ends the server, orderly, so that its connections to PostgreSQL are gone too.
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
