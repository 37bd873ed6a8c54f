//! PgBouncer in front of PostgreSQL, in transaction mode.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use inventory::Error;
use sqlx::PgConnection;
use tokio::net::TcpStream;

use crate::support::{
    Database, Folder, NO_RABBITMQ, Peer, Server, Service, System, eventually, is_installed,
    skipped_without, succeeds,
};

/// The oldest version with prepared statements in transaction mode.
const OLDEST: (u32, u32) = (1, 21);

/// What docs/operating.md asks for.
const DOCUMENTED: &str = "pool_mode = transaction
max_prepared_statements = 200
ignore_startup_parameters = extra_float_digits
server_login_retry = 1
query_wait_timeout = 3";

/// PgBouncer of one test.
struct Pooler {
    process: std::process::Child,
    address: String,
    _folder: Folder,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether this machine has a PgBouncer that is new enough. If not, the test is skipped.
fn is_new() -> bool {
    if !is_installed("pgbouncer") {
        return false;
    }
    let said = succeeds(Command::new("pgbouncer").arg("--version"));
    let version = said.split_whitespace().nth(1).and_then(|version| {
        let mut numbers = version.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    let is_new = version >= Some(OLDEST);
    if !is_new {
        skipped_without("PgBouncer 1.21 or later");
    }
    is_new
}

impl Pooler {
    async fn before(server: &Server) -> Self {
        let folder = Folder::new();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let (host, port) = ("127.0.0.1", address.port());
        let of_server = server.address();
        let server_port = of_server.rsplit(':').next().unwrap();
        let users = folder.path().join("users.txt");
        fs::write(&users, "\"flashsale\" \"flashsale\"\n").unwrap();
        let text = format!(
            "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = {host}\nlisten_port = {port}\n\
            unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n{DOCUMENTED}\n",
            users.display()
        );
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, text).unwrap();
        let mut command = Command::new("pgbouncer");
        if rustix::process::geteuid().is_root() {
            // It does not run as root. This is `nobody`.
            command.uid(65_534);
        }
        let process = command.arg(&file).stderr(Stdio::null()).spawn().unwrap();
        let address = address.to_string();
        eventually("pgbouncer listens", async || {
            TcpStream::connect(&address).await.ok()
        })
        .await;
        Self {
            process,
            address,
            _folder: folder,
        }
    }
}

/// A database whose role has the settings that sessions behind PgBouncer need, and its URL by way of PgBouncer.
async fn behind(server: &Server) -> (Database, Pooler, String) {
    let database = Database::create_on(&server.url).await;
    database
        .execute(
            "alter role flashsale set default_transaction_isolation = 'read committed';
            alter role flashsale set synchronous_commit = on",
        )
        .await;
    let pooler = Pooler::before(server).await;
    let url = database.url.replace(&server.address(), &pooler.address);
    (database, pooler, url)
}

#[test]
fn the_documents_name_what_is_tested() {
    let documents = include_str!("../../../docs/operating.md");
    for line in DOCUMENTED.lines() {
        let (name, _) = line.split_once(' ').unwrap();
        assert!(documents.contains(name), "{name}");
    }
    assert!(documents.contains("ignore_startup_parameters = extra_float_digits"));
}

#[tokio::test]
async fn all_works_through_pgbouncer_and_an_outage_is_no_unknown_outcome() {
    if !is_new() {
        return;
    }
    let server = Server::start_new(Service::Postgres);
    let (database, _pooler, url) = behind(&server).await;
    let settings = [("DATABASE_URL", url.as_str())];
    let system = System::spawn_on(database, &settings).await;
    let mut workers = Vec::new();
    for name in ["flashsale-expirer", "flashsale-relay"] {
        let worker = Peer::start(&system, name, &[settings[0], NO_RABBITMQ]).await;
        worker.sees("postgres", "up").await;
        workers.push(worker);
    }
    let product = system.create_product(1000).await;
    for user in 1..=50 {
        let hold = system.reserve(product, user).await;
        system.confirm(&hold).await;
    }
    let due = system.reserve(product, 60).await;
    system.backdate(&due).await;
    eventually("the hold is expired", async || {
        (system.product(product).await["held"] == 0).then_some(())
    })
    .await;

    server.kill();
    for user in 101..=104 {
        let refused = system.try_reserve(product, user).await;
        refused.expect_problem(503, "overloaded");
    }
    server.start();
    eventually("a reserve", async || {
        let answer = system.try_reserve(product, 200).await;
        (answer.status == 201).then_some(())
    })
    .await;
    for worker in &workers {
        worker.sees("postgres", "up").await;
    }
    system.assert_clean_audit().await;
}

/// A session of PgBouncer is kept while its server is gone, and ends with an error that is FATAL.
#[tokio::test]
async fn a_statement_that_pgbouncer_could_not_send_was_not_done() {
    if !is_new() {
        return;
    }
    let server = Server::start_new(Service::Postgres);
    let (_database, _pooler, url) = behind(&server).await;
    let args = inventory::database::Args {
        database_url: url,
        database_max_connections: 9,
        database_acquire_milliseconds: 10_000,
    };
    let pool = inventory::database::connect(&args, "test").unwrap();
    let mut sessions = Vec::new();
    for _ in 0..9 {
        let mut session = pool.acquire().await.unwrap();
        write(&mut session).await.unwrap();
        sessions.push(session);
    }
    server.kill();
    for mut session in sessions {
        let error = write(&mut session).await.unwrap_err();
        assert!(matches!(error, Error::NotDone(_)), "{error:?}");
        assert!(!error.is_refusal() && error.is_outage(), "{error:?}");
    }
}

async fn write(session: &mut PgConnection) -> Result<(), Error> {
    let insert = sqlx::query("insert into products (name, stock, total) values ('x', 1, 1)");
    inventory::database::execute(session, insert).await?;
    Ok(())
}
