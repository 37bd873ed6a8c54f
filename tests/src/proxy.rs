//! A TCP proxy that injects network faults.

#![allow(
    clippy::unwrap_used,
    reason = "what cannot be started fails the test, or the run"
)]

mod confirms;
mod traffic;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

pub use traffic::Traffic;
use traffic::{Rules, passed};

pub struct Proxy {
    /// `127.0.0.1:port`
    pub address: String,
    rules: watch::Sender<Rules>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port, and forwards connections to `target`.
    pub async fn to(target: &str) -> Self {
        Self::start(target, false).await
    }

    /// The same for a RabbitMQ without TLS.
    pub async fn to_broker(target: &str) -> Self {
        Self::start(target, true).await
    }

    async fn start(target: &str, speaks_amqp: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (rules, seen) = watch::channel(Rules {
            target: target.into(),
            speaks_amqp,
            traffic: Traffic::Pass,
            cuts: 0,
            losses: 0,
        });
        let accepting = tokio::spawn(accept(listener, seen));
        Self {
            address,
            rules,
            accepting,
        }
    }

    /// Sets the treatment of new and existing connections.
    pub fn set(&self, traffic: Traffic) {
        self.rules.send_modify(|rules| rules.traffic = traffic);
        if traffic == Traffic::Refuse {
            self.cut();
        }
    }

    /// Forwards new connections to another target.
    pub fn retarget(&self, target: &str) {
        self.rules.send_modify(|rules| rules.target = target.into());
    }

    /// Closes all connections. The treatment of new ones does not change.
    pub fn cut(&self) {
        self.rules.send_modify(|rules| rules.cuts += 1);
    }

    /// No data passes on the present connections any more, and nobody is told, as when a machine vanishes. The
    /// treatment of new ones does not change.
    pub fn lose(&self) {
        self.rules.send_modify(|rules| rules.losses += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections are tasks in the set of this task, and end with it.
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, mut rules: watch::Receiver<Rules>) {
    let mut connections = JoinSet::new();
    let mut cuts = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => Some(accepted.unwrap().0),
            changed = rules.changed() => match changed {
                Ok(()) => None,
                Err(_) => return,
            },
        };
        let now = rules.borrow_and_update().clone();
        if now.cuts > cuts {
            cuts = now.cuts;
            connections.abort_all();
        }
        if let Some(client) = accepted
            && now.traffic != Traffic::Refuse
        {
            connections.spawn(join(client, now, rules.clone()));
        }
        // Removes finished connections.
        while connections.try_join_next().is_some() {}
    }
}

async fn join(client: TcpStream, now: Rules, rules: watch::Receiver<Rules>) {
    let Ok(server) = TcpStream::connect(&*now.target).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let forth = pump(from_client, to_server, rules.clone(), &[Traffic::Blackhole]);
    let stops = [Traffic::Blackhole, Traffic::Mute];
    let back = async {
        if now.speaks_amqp {
            confirms::pump(from_server, to_client, rules.clone(), &stops).await;
        } else {
            pump(from_server, to_client, rules.clone(), &stops).await;
        }
    };
    let mut both = std::pin::pin!(async { tokio::join!(forth, back) });
    let mut lost = rules.clone();
    let lost = async { drop(lost.wait_for(|rules| rules.losses > now.losses).await) };
    tokio::select! {
        _ = &mut both => {}
        // The sockets stay open in the futures.
        () = lost => std::future::pending().await,
    }
}

/// Forwards one direction until it ends. Pauses while the traffic setting blocks it.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut rules: watch::Receiver<Rules>,
    stops: &[Traffic],
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if passed(&mut rules, stops).await.is_none() {
            return;
        }
        // Dropping `to` forwards the end of the stream.
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
