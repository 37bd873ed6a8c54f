//! The whole service, for one test.

use std::{
    ops::Deref,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use ::runtime::Process;
use clap::{CommandFactory as _, FromArgMatches as _};
use flashsale_api::AppState;
use inventory::expire::{self, Commit};
use serde_json::Value;
use timer::Timer;
use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
    task::JoinHandle,
};

use super::{Child, Client, Database, start, start_with_files, test_server};

/// The API on its own port, with its own database and Redis keys. Also its [`Client`].
pub(crate) struct System {
    client: Client,
    pub(crate) database: Database,
    redis_prefix: String,
    settings: Settings,
    host: Host,
}

enum Host {
    /// Inside the test process: starts quickly.
    Test(#[expect(dead_code, reason = "dropped at the end")] OwnRuntime),
    /// The real binary.
    Child(Child),
}

/// Runs apart from the test. A test that ends blocks its own runtime while it drops its database. PostgreSQL waits for
/// connections that are being opened at that moment, so somebody must still open them.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn start() -> Self {
        let mut builder = runtime::Builder::new_multi_thread();
        Self(Some(
            builder.worker_threads(1).enable_all().build().unwrap(),
        ))
    }

    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.as_ref().unwrap().spawn(work)
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        // A plain drop would wait for the tasks, which is not allowed here.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Deref for System {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl System {
    /// Runs inside the test process.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Runs inside the test process with these settings, by the names of their environment variables.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let database = Database::create().await;
        let redis_prefix = own_prefix();
        let settings = Settings::new(&database, &redis_prefix, settings);
        let args = settings.parse();
        let runtime = OwnRuntime::start();
        let listening = runtime.spawn(async move {
            let process = Process::detached();
            let pool = inventory::database::connect(&args.database, "flashsale-api").unwrap();
            let timer = Timer::start(&args.timer, &process).unwrap();
            let listener = TcpListener::bind(args.listen_addr).await.unwrap();
            let address = listener.local_addr().unwrap();
            let limits = flashsale_api::limits(&args);
            let state = AppState::new(args.settings, pool, timer, address, &process).unwrap();
            let grace = Duration::from_secs(10);
            tokio::spawn(flashsale_api::serve(
                listener, state, limits, process, grace,
            ));
            address
        });
        let address = listening.await.unwrap();
        Self {
            client: settings.client(&address.to_string()),
            database,
            redis_prefix,
            settings,
            host: Host::Test(runtime),
        }
    }

    /// Runs the real binary.
    pub(crate) async fn spawn(settings: &[(&str, &str)]) -> Self {
        Self::spawn_on(Database::create().await, settings).await
    }

    /// Runs the real binary, which may open at most this many files.
    pub(crate) async fn spawn_with_files(files: u32, settings: &[(&str, &str)]) -> Self {
        let (database, redis_prefix) = (Database::create().await, own_prefix());
        let settings = Settings::new(&database, &redis_prefix, settings);
        let child = start_with_files("flashsale-api", files, &settings.pairs());
        Self::reached(child, database, redis_prefix, settings).await
    }

    /// Runs the real binary on a prepared database. Settings may replace the URLs, for example by a proxy's.
    pub(crate) async fn spawn_on(database: Database, settings: &[(&str, &str)]) -> Self {
        let redis_prefix = own_prefix();
        let settings = Settings::new(&database, &redis_prefix, settings);
        let child = start("flashsale-api", &settings.pairs());
        Self::reached(child, database, redis_prefix, settings).await
    }

    async fn reached(
        child: Child,
        database: Database,
        redis_prefix: String,
        settings: Settings,
    ) -> Self {
        let (child, client) = settings.reached(child).await;
        Self {
            client,
            database,
            redis_prefix,
            settings,
            host: Host::Child(child),
        }
    }

    /// Starts the binary again, with the same settings and another port.
    pub(crate) async fn restart(&mut self) {
        let child = start("flashsale-api", &self.settings.pairs());
        let (child, client) = self.settings.reached(child).await;
        self.host = Host::Child(child);
        self.client = client;
    }

    /// Starts the expirer or the relay with the same database and the same Redis keys. Settings may replace the URLs.
    pub(crate) fn beside(&self, name: &str, settings: &[(&str, &str)]) -> Child {
        let settings = [&self.settings.pairs(), settings].concat();
        start(name, &settings)
    }

    /// The process of a system started by `spawn`.
    pub(crate) fn child(&mut self) -> &mut Child {
        match &mut self.host {
            Host::Child(child) => child,
            Host::Test(_) => panic!("this system runs inside the test"),
        }
    }

    /// Stops that process as an operator would. Returns its log.
    pub(crate) async fn stop(&mut self) -> Vec<Value> {
        let child = self.child();
        child.terminate();
        child.ends().await;
        child.entries().await
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The prefix of this system's keys in Redis.
    pub(crate) fn redis_prefix(&self) -> &str {
        &self.redis_prefix
    }

    /// Moves a hold's deadline into the past.
    pub(crate) async fn backdate(&self, hold: &Value) {
        self.database.backdate(hold).await;
    }

    /// The rules' own sweep, without an expirer. Returns the number of expired holds.
    pub(crate) async fn expire_once(&self) -> u64 {
        let events = self.settings.parse().settings.events.outbox_events;
        let (pool, commit) = (&self.database.pool, Commit::Asynchronous);
        let swept = expire::sweep(pool, 1000, commit, &events, |_| true).await;
        swept.unwrap().expired
    }
}

/// The settings of one system. A later value replaces an earlier one.
struct Settings(Vec<(String, String)>);

impl Settings {
    fn new(database: &Database, redis_prefix: &str, more: &[(&str, &str)]) -> Self {
        let redis_url = test_server("TEST_REDIS_URL");
        let own = [
            ("LISTEN_ADDR", "127.0.0.1:0"),
            ("DATABASE_URL", &database.url),
            ("REDIS_URL", &redis_url),
            ("REDIS_KEY_PREFIX", redis_prefix),
            // A slow machine must not cause overload errors.
            ("DATABASE_ACQUIRE_MILLISECONDS", "5000"),
            ("LANE_WAIT_MILLISECONDS", "60000"),
            // No load balancer has to learn about the end of the process.
            ("DRAIN_SECONDS", "0"),
        ];
        let pairs = own
            .iter()
            .filter(|(name, _)| more.iter().all(|(other, _)| other != name));
        Self(
            pairs
                .chain(more)
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    /// Parses the settings as the binary's arguments. The developer's environment must not affect the test.
    fn parse(&self) -> flashsale_api::Args {
        let command = flashsale_api::Args::command().mut_args(|arg| arg.env(None::<&str>));
        let options = self.0.iter().map(|(name, value)| {
            let option = name.to_lowercase().replace('_', "-");
            format!("--{option}={value}")
        });
        let matches =
            command.get_matches_from(["flashsale-api".to_owned()].into_iter().chain(options));
        flashsale_api::Args::from_arg_matches(&matches).unwrap()
    }

    async fn reached(&self, mut child: Child) -> (Child, Client) {
        let address = child.address().await;
        // A process that listens on every interface is reached on this one.
        let client = self.client(&address.replace("0.0.0.0", "127.0.0.1"));
        (child, client)
    }

    fn client(&self, address: &str) -> Client {
        let token = self.0.iter().find(|(name, _)| name == "ADMIN_TOKEN");
        let token = token.map(|(_, value)| value.clone());
        Client::new(
            format!("http://{address}"),
            token.filter(|token| !token.is_empty()),
        )
    }
}

fn own_prefix() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("test-{}-{number}:", std::process::id())
}
