//! The limit on connections, and the process's limit of open files.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::stage::{LIVEZ, used};
use crate::support::{System, Wire, eventually};

#[tokio::test]
async fn at_the_limit_the_longest_idle_connection_makes_room_for_a_new_one() {
    let system =
        System::with(&[("HTTP_MAX_CONNECTIONS", "3"), ("HTTP_IDLE_SECONDS", "3600")]).await;
    system.database.be_patient().await;
    let product = system.create_product(9).await;
    let lock = system.database.lock_product(product).await;
    let metric = "http_connections";
    assert_eq!(system.metric(metric).await, 1.0);
    // The client that sets up the test keeps one connection open. It is the longest idle, apart from this one.
    let mut busy = used(&system).await;
    let body = format!(r#"{{"product_id":{product},"user_id":1}}"#);
    busy.send_post("/reservations", &body).await;
    system.database.calls_wait_for_locks(1).await;
    let mut longest = used(&system).await;
    let mut others = Vec::new();
    // Each takes the place of another one. The busy connection keeps its place.
    for _ in 0..4 {
        others.push(used(&system).await);
    }
    assert_eq!(longest.receive_to_end().await, "");
    lock.rollback().await.unwrap();
    assert!(busy.receive().await.starts_with("HTTP/1.1 201"));
    let replaced = r#"http_connections_closed_total{limit="replaced"}"#;
    assert!(system.metric(replaced).await >= 4.0);
    assert!(system.metric("http_connections_full_total").await >= 4.0);
    assert!(system.metric(metric).await <= 3.0);
}

#[tokio::test]
async fn a_failed_accept_is_logged_and_counted_and_retried() {
    let mut system = System::spawn(&[]).await;
    let mut open = used(&system).await;
    let pid = Pid::from_raw(system.child().id().cast_signed()).unwrap();
    let limit = |files| Rlimit {
        current: files,
        // That of this process, which the API has inherited.
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let before = prlimit(Some(pid), Resource::Nofile, limit(Some(3))).unwrap();
    let waiting = Wire::to(&system).await;
    system.child().logs("cannot accept connections").await;
    // Open connections work.
    open.send(&LIVEZ.replace("/livez", "/metrics")).await;
    let metrics = open.receive_until("http_accept_errors_total ").await;
    assert!(!metrics.contains("http_accept_errors_total 0"), "{metrics}");
    prlimit(Some(pid), Resource::Nofile, before).unwrap();
    system.child().logs("accepting connections again").await;
    drop(waiting);
    system.get("/livez").await.expect(200);
}

#[tokio::test]
async fn connections_leave_descriptors_to_postgresql() {
    // 64 spare ones, 12 for the pool, 4 for the lanes and 2 for monitoring: 18 are left.
    let mut system = System::spawn_with_files(100, &[]).await;
    let said = system.child().logs("too few file descriptors").await;
    assert_eq!(said["connections"], 18, "{said}");
    let product = system.create_product(9).await;
    let mut wires = Vec::new();
    for _ in 0..120 {
        wires.push(Wire::to(&system).await);
    }
    eventually("all connections in use", async || {
        let full = system.child().logged("all connections are in use");
        full.map(drop)
    })
    .await;
    // Fresh connections to PostgreSQL for each of them, and a place for the client itself.
    let client = system.client();
    let reserves = (1..=9).map(|user| client.try_reserve(product, user));
    for answer in futures_util::future::join_all(reserves).await {
        answer.expect(201);
    }
    assert!(system.child().logged("cannot accept").is_none());
}
