//! Memory while thousands of clients misbehave: it stays below the limit of the Kubernetes manifest, together with the
//! kernel's buffers, which count for that limit.

use reqwest::Method;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{net::TcpSocket, sync::Mutex};

use super::stage::{JSON, LIVEZ, head, used};
use crate::support::{Answer, System, Wire, eventually};

/// `limits.memory` in deploy/k8s/api.yaml.
const MAX_MIB: u64 = 512;

const PRODUCTS: i32 = 5000;

/// The kernel counts the buffers of the whole machine, so only one trial may fill them.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The number of clients: the default of `HTTP_MAX_CONNECTIONS` without a few for the test itself, or what the machine's limit of
/// open files allows.
fn clients() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    let wanted = Rlimit {
        current: Some(maximum.min(20_000)),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted).unwrap();
    usize::try_from(maximum / 2).unwrap().min(4090)
}

/// Connects clients with small buffers that send this, and read nothing.
async fn silent_clients(system: &System, request: &str) -> Vec<Wire> {
    let mut wires = Vec::new();
    for _ in 0..clients() {
        let mut wire = small_client(system).await;
        wire.try_send(request).await;
        wires.push(wire);
    }
    wires
}

/// The kernel's buffers of all TCP connections on this machine, of both ends.
fn buffers_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/net/sockstat").unwrap();
    let tcp = text.lines().find_map(|line| line.strip_prefix("TCP: "));
    let (_, pages) = tcp.unwrap().split_once(" mem ").unwrap();
    pages.trim().parse::<u64>().unwrap() * page_kib() / 1024
}

fn page_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let size = text
        .lines()
        .find_map(|line| line.strip_prefix("KernelPageSize:"));
    let size = size.unwrap().trim().strip_suffix(" kB").unwrap();
    size.parse().unwrap()
}

async fn stays_small(trial: &str, settings: &[(&str, &str)], request: &str, answered: f64) {
    let _alone = ALONE.lock().await;
    let before = buffers_mib();
    let mut system = System::spawn(settings).await;
    let insert = "insert into products (name, stock, total) select 'product ' || n, 9, 9 from generate_series(1, $1) n";
    let inserted = sqlx::query(insert).bind(PRODUCTS);
    inserted.execute(&system.database.pool).await.unwrap();
    let mut witness = used(&system).await;
    let wires = silent_clients(&system, request).await;
    eventually("all clients are connected and served", async || {
        let open = system.metric("http_connections").await;
        let listed = system
            .metric(r#"http_requests_total{method="GET",route="/products",status="200"}"#)
            .await;
        let refused = system
            .metric(r#"http_requests_total{method="GET",route="/products",status="503"}"#)
            .await;
        let served = listed + refused >= answered * wires.len() as f64;
        (open >= wires.len() as f64 && served).then_some(())
    })
    .await;
    let buffers = buffers_mib().saturating_sub(before);
    let own = system.child().own_memory_kib() / 1024;
    let peak = system.child().memory_peak_kib() / 1024;
    let said = format!(
        "{trial}: {own} MiB (at most {peak} MiB, with its file) and {buffers} MiB of the kernel for {} clients",
        wires.len()
    );
    println!("{said}");
    assert!(peak < MAX_MIB && own + buffers < MAX_MIB, "{said}");
    witness.send(LIVEZ).await;
    assert!(witness.receive().await.starts_with("HTTP/1.1 200"));
    drop(wires);
}

/// A client with a small buffer.
async fn small_client(system: &System) -> Wire {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = system.address().parse().unwrap();
    Wire::over(socket.connect(address).await.unwrap())
}

/// Limits that must not end the trials.
const PATIENT: [(&str, &str); 4] = [
    ("HTTP_HEAD_SECONDS", "3600"),
    ("HTTP_BODY_SECONDS", "3600"),
    ("HTTP_WRITE_SECONDS", "3600"),
    ("HTTP_IDLE_SECONDS", "3600"),
];

#[tokio::test]
async fn of_heads_that_do_not_end() {
    let head = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(16_000));
    stays_small("heads", &PATIENT, &head, 0.0).await;
}

#[tokio::test]
async fn of_bodies_that_do_not_end() {
    let body = format!(
        "{}{}",
        head("/reservations", JSON, 16_000),
        " ".repeat(15_000)
    );
    stays_small("bodies", &PATIENT, &body, 0.0).await;
}

#[tokio::test]
async fn of_lists_that_are_not_read() {
    let list = "GET /products HTTP/1.1\r\nhost: api\r\n\r\n";
    stays_small("lists", &PATIENT, list, 1.0).await;
}

/// It is sent in chunks.
#[tokio::test]
async fn a_large_list_arrives_whole() {
    let system = System::with(&PATIENT).await;
    let insert = "insert into products (name, stock, total)
        select repeat('😀', 200), 9, 9 from generate_series(1, 2000)";
    system.database.execute(insert).await;
    let list = system.get("/products").await;
    assert_eq!(list.expect(200).as_array().unwrap().len(), 2000);
    let length = list.text.len().to_string();
    assert_eq!(list.header("content-length"), length);
    let head = Answer::to(system.request(Method::HEAD, "/products")).await;
    assert_eq!(head.header("content-length"), length);
    let mut slow = small_client(&system).await;
    slow.send("GET /products HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n")
        .await;
    let answer = slow.receive_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200"));
    assert!(answer.ends_with(&format!("\r\n\r\n{}", list.text)));
}
