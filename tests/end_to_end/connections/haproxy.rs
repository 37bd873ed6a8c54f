//! A real HAProxy in front of the API.

use std::{fs, net::TcpListener, path::Path, process::Command};

use tokio::net::TcpStream;

use crate::support::{Client, Folder, eventually, is_installed};

pub(super) struct Haproxy {
    process: std::process::Child,
    /// Where clients reach it.
    pub(super) address: String,
    _folder: Folder,
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program `haproxy`. Without it, says that the test is skipped.
pub(super) fn installed() -> Option<Command> {
    is_installed("haproxy").then(|| Command::new("haproxy"))
}

/// What a balancer understands of the connections that it passes on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layer {
    /// Requests: each may go to another copy.
    Http,
    /// Bytes: a client's connection stays with one copy.
    Tcp,
}

/// Starts it in front of these copies. It checks every 200 ms whether they shut down, and keeps connections to them
/// open. On a slow machine a copy may be unready for a moment, which must not fail the test.
pub(super) async fn in_front_of(copies: &[String], layer: Layer, program: Command) -> Haproxy {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("127.0.0.1:{port}");
    let (mode, reuse) = match layer {
        Layer::Http => ("http", "http-reuse always"),
        Layer::Tcp => ("tcp", ""),
    };
    let mut text = format!(
        "defaults\n mode {mode}\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
         timeout check 20s\n\
         frontend shop\n bind {address}\n default_backend api\n\
         backend api\n balance roundrobin\n {reuse}\n option redispatch\n\
         option httpchk GET /readyz\n http-check expect ! string shutting\n default-server check inter 200ms fall 1 rise 1\n"
    );
    for (number, copy) in copies.iter().enumerate() {
        text += &format!(" server copy{number} {copy}\n");
    }
    let folder = Folder::new();
    let file = folder.path().join("haproxy.cfg");
    fs::write(&file, text).unwrap();
    start(program, &file, address, folder).await
}

/// Addresses of this machine that nobody else uses, for three machines with the ports of `deploy/ha`.
pub(super) fn three_hosts() -> [String; 3] {
    loop {
        let (a, b) = (fastrand::u8(1..), fastrand::u8(..));
        let hosts = [1, 2, 3].map(|number| format!("127.{a}.{b}.{number}"));
        let free = |host: &String| TcpListener::bind((host.as_str(), 8080)).is_ok();
        if hosts.iter().all(free) {
            return hosts;
        }
    }
}

/// Starts it with `deploy/ha/haproxy.cfg`, as configured for the first of these machines.
pub(super) async fn as_in_deploy(hosts: &[String; 3], program: Command) -> Haproxy {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/ha");
    let folder = Folder::new();
    let cluster = fs::read_to_string(deploy.join("cluster.env")).unwrap();
    let own = cluster.lines().map(|line| match line.split_once('=') {
        Some(("HOST1", _)) => format!("HOST1={}\n", hosts[0]),
        Some(("HOST2", _)) => format!("HOST2={}\n", hosts[1]),
        Some(("HOST3", _)) => format!("HOST3={}\n", hosts[2]),
        _ => format!("{line}\n"),
    });
    let settings = folder.path().join("own.env");
    fs::write(&settings, own.collect::<String>()).unwrap();
    let mut configure = Command::new(deploy.join("configure.sh"));
    configure.arg("1").arg(folder.path()).arg(settings);
    assert!(configure.status().unwrap().success());
    let file = folder.path().join("haproxy.cfg");
    start(program, &file, format!("{}:8080", hosts[0]), folder).await
}

async fn start(mut program: Command, file: &Path, address: String, folder: Folder) -> Haproxy {
    let process = program.arg("-f").arg(file).spawn().unwrap();
    eventually("haproxy listens", async || {
        TcpStream::connect(&address).await.ok()
    })
    .await;
    Haproxy {
        process,
        address,
        _folder: folder,
    }
}

impl Haproxy {
    pub(super) fn client(&self) -> Client {
        Client::new(format!("http://{}", self.address), None)
    }
}
