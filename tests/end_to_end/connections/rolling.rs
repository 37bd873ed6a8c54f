//! A rolling restart under load: behind a real proxy, no request is lost.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};

use futures_util::future::join_all;

use super::{
    haproxy::{Layer, in_front_of, installed},
    stage::{LIVEZ, says_close, used},
};
use crate::support::{Child, Client, System, Wire, eventually};

#[tokio::test]
async fn while_it_drains_it_is_not_ready_but_answers_old_and_new_connections() {
    let mut system = System::spawn(&[("DRAIN_SECONDS", "3"), ("SHUTDOWN_SECONDS", "600")]).await;
    let mut old = used(&system).await;
    let mut idle = used(&system).await;
    readiness(&system, r#""status":"ready""#).await;
    system.child().terminate();
    readiness(&system, r#""reason":"the process is shutting down""#).await;
    for wire in [&mut old, &mut Wire::to(&system).await] {
        wire.send(LIVEZ).await;
        let answer = wire.receive().await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(!says_close(&answer), "{answer}");
    }
    system.child().logs("finishing the work in flight").await;
    // The last answer says so.
    old.send(LIVEZ).await;
    let answer = old.receive_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(says_close(&answer), "{answer}");
    assert_eq!(idle.receive_to_end().await, "");
    assert!(system.child().ends().await.success());
}

/// Waits until `/readyz` says this.
async fn readiness(client: &Client, words: &str) {
    eventually(words, async || {
        let answer = client.get("/readyz").await;
        answer.text.contains(words).then_some(())
    })
    .await;
}

/// Number of requests. `ROLLING_REQUESTS=100000` is the long run.
fn requests() -> i64 {
    let wanted = std::env::var("ROLLING_REQUESTS");
    wanted.map_or(3000, |wanted| wanted.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_behind_haproxy_breaks_no_request() {
    rolling_restart_behind(Layer::Http).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_behind_a_tcp_balancer_breaks_no_request() {
    rolling_restart_behind(Layer::Tcp).await;
}

async fn rolling_restart_behind(layer: Layer) {
    let Some(program) = installed() else { return };
    let system = System::spawn(&[]).await;
    let product = system.create_product(i32::MAX).await;
    let start_on = |address: &str| {
        system.beside(
            "flashsale-api",
            &[
                ("LISTEN_ADDR", address),
                ("DRAIN_SECONDS", "2"),
                // A new copy opens its connections under load, which takes a slow machine longer than usual.
                ("DATABASE_ACQUIRE_MILLISECONDS", "60000"),
            ],
        )
    };
    let mut copies = [start_on("127.0.0.1:0"), start_on("127.0.0.1:0")];
    let addresses = [copies[0].address().await, copies[1].address().await];
    let proxy = in_front_of(&addresses, layer, program).await;
    let client = match layer {
        Layer::Http => proxy.client(),
        // The API itself closes connections that were idle for a second after the drain. As with any server, a request
        // that is sent at that moment is lost. So the client must give up idle connections earlier.
        Layer::Tcp => {
            let base = format!("http://{}", proxy.address);
            Client::without_idle_connections(base, Duration::from_millis(500))
        }
    };
    eventually("haproxy knows the copies", async || {
        (client.get("/readyz").await.status == 200).then_some(())
    })
    .await;

    let (next, restarted) = (AtomicI64::new(1), AtomicBool::new(false));
    let shopper = async || {
        let mut answers = 0;
        // The load lasts until both copies were replaced.
        loop {
            let user = next.fetch_add(1, Ordering::Relaxed);
            if user > requests() && restarted.load(Ordering::Relaxed) {
                return answers;
            }
            client.try_reserve(product, user).await.expect(201);
            answers += 1;
        }
    };
    let restarts = async {
        while next.load(Ordering::Relaxed) <= requests() || !restarted.load(Ordering::Relaxed) {
            for (copy, address) in copies.iter_mut().zip(&addresses) {
                replace(copy, || start_on(address)).await;
                // Both are in use again before the next one ends.
                ready(address).await;
            }
            restarted.store(true, Ordering::Relaxed);
        }
    };
    let shoppers = join_all((0..32).map(|_| shopper()));
    let (answers, ()) = tokio::join!(shoppers, restarts);
    let answered: i64 = answers.iter().sum();
    println!("{answered} requests answered");
    assert!(answered >= requests());
    let held = system.product(product).await["held"].as_i64();
    assert_eq!(
        held,
        Some(answered),
        "a request was done twice, or not at all"
    );
}

pub(super) async fn replace(copy: &mut Child, start: impl Fn() -> Child) {
    copy.terminate();
    assert!(copy.ends().await.success());
    *copy = start();
    copy.address().await;
}

/// Waits until haproxy has seen several times that the copy is ready.
pub(super) async fn ready(address: &str) {
    let copy = Client::new(format!("http://{address}"), None);
    eventually("the copy is ready, and the proxy knows", async || {
        let checks = r#"http_requests_total{method="GET",route="/readyz",status="200"}"#;
        (copy.metric(checks).await >= 3.0).then_some(())
    })
    .await;
}
