//! Redis with a replica that becomes the primary, named by a list of URLs or by sentinels.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Stdio},
};

use crate::support::{Folder, Peer, Redis, Server, Service, System, eventually, timer_key};

/// Nobody listens here.
const CLOSED: &str = "127.0.0.1:1";

/// A primary and its replica.
async fn pair() -> [Server; 2] {
    let [primary, replica] = [(); 2].map(|()| Server::start_new(Service::Redis));
    replicate(&replica, Some(&primary)).await;
    eventually("the replica is connected", async || {
        let role: (String, String, i64, String, i64) =
            Redis::at(&replica.url).await.ask("ROLE").await;
        (role.3 == "connected").then_some(())
    })
    .await;
    [primary, replica]
}

async fn replicate(server: &Server, of: Option<&Server>) {
    let of = of.map_or("NO ONE".to_owned(), |of| of.address().replace(':', " "));
    let command = format!("REPLICAOF {of}");
    let _: String = Redis::at(&server.url).await.ask(&command).await;
}

async fn sees_redis(system: &System) {
    eventually("redis up", async || {
        let ready = system.get("/readyz").await.json();
        (ready["dependencies"]["redis"] == "up").then_some(())
    })
    .await;
}

/// Waits until the timer of a hold is on this server. Meanwhile holds are made: some timers are lost in a failover.
async fn timers_come_to(system: &System, product: i64, first_user: i64, server: &Server) {
    let mut user = first_user;
    eventually("a timer", async || {
        user += 1;
        let reserved = system.try_reserve(product, user).await;
        let hold = (reserved.status == 201).then(|| reserved.json())?;
        let left = format!("PTTL {}", timer_key(system, &hold));
        let left: i64 = Redis::asked(&server.url, &left).await?;
        (left > 0).then_some(())
    })
    .await;
}

/// Whether somebody listens for expiries on this server.
async fn has_a_listener(server: &Server) {
    let subscribers = "PUBSUB NUMSUB __keyevent@0__:expired";
    eventually("a listener", async || {
        let (_, count): (String, i64) = Redis::asked(&server.url, subscribers).await?;
        (count > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_list_leads_to_the_primary_and_later_to_its_successor() {
    let [primary, replica] = pair().await;
    // The replica comes first: it must not be used.
    let url = format!("redis://{CLOSED}/0,{},{}", replica.url, primary.url);
    let system = System::spawn(&[("REDIS_URL", &url)]).await;
    let expirer = Peer::expirer(&system, &[]).await;
    let product = system.create_product(10_000).await;
    sees_redis(&system).await;
    timers_come_to(&system, product, 0, &primary).await;
    has_a_listener(&primary).await;

    replicate(&replica, None).await;
    replicate(&primary, Some(&replica)).await;
    // Nothing is sent on the connection of a listener. It finds out by itself.
    has_a_listener(&replica).await;
    timers_come_to(&system, product, 5_000, &replica).await;
    sees_redis(&system).await;
    expirer.sees("redis", "up").await;
}

/// The user may not ask for the role of the server, so that only refused writes tell that it is a replica.
#[tokio::test]
async fn a_demoted_primary_that_hides_its_role_is_left_after_a_refused_write() {
    let [primary, replica] = pair().await;
    let mut urls = Vec::new();
    for server in [&primary, &replica] {
        let user = "ACL SETUSER shop on >of-shop ~* &* +@all -role";
        let _: String = Redis::at(&server.url).await.ask(user).await;
        urls.push(server.url.replace("redis://", "redis://shop:of-shop@"));
    }
    let system = System::spawn(&[("REDIS_URL", &urls.join(","))]).await;
    let product = system.create_product(10_000).await;
    sees_redis(&system).await;
    timers_come_to(&system, product, 0, &primary).await;
    replicate(&replica, None).await;
    replicate(&primary, Some(&replica)).await;
    timers_come_to(&system, product, 5_000, &replica).await;
}

/// A sentinel of one test.
struct Sentinel {
    process: std::process::Child,
    address: String,
    _folder: Folder,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Sentinel {
    async fn of(primary: &Server) -> Self {
        let folder = Folder::new();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let (path, of) = (folder.path().display(), primary.address().replace(':', " "));
        let text = format!(
            "bind 127.0.0.1\nport {}\ndir {path}\nsentinel monitor mymaster {of} 1\n\
            sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 5000\n",
            address.port()
        );
        let file = folder.path().join("sentinel.conf");
        fs::write(&file, text).unwrap();
        let process = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let sentinel = Self {
            process,
            address: address.to_string(),
            _folder: folder,
        };
        let url = format!("redis://{}", sentinel.address);
        eventually("the sentinel knows the replica", async || {
            let ask = "SENTINEL REPLICAS mymaster";
            let replicas: Vec<redis::Value> = Redis::asked(&url, ask).await?;
            (!replicas.is_empty()).then_some(())
        })
        .await;
        sentinel
    }
}

#[tokio::test]
async fn sentinels_lead_to_the_primary_and_to_the_one_that_they_promote() {
    let [primary, replica] = pair().await;
    let sentinel = Sentinel::of(&primary).await;
    let url = format!("redis+sentinel://{CLOSED},{}/mymaster/0", sentinel.address);
    let system = System::spawn(&[("REDIS_URL", &url)]).await;
    let _expirer = Peer::expirer(&system, &[]).await;
    let product = system.create_product(10_000).await;
    sees_redis(&system).await;
    timers_come_to(&system, product, 0, &primary).await;
    primary.kill();
    timers_come_to(&system, product, 5_000, &replica).await;
    has_a_listener(&replica).await;
    sees_redis(&system).await;
}
