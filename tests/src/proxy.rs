//! A TCP proxy that does to connections what networks do.

#![allow(
    clippy::unwrap_used,
    reason = "what cannot be started fails the test, or the run"
)]

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// How the proxy treats what goes through it, new connections and old.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Traffic {
    Pass,
    /// Old connections are cut, new ones are closed as soon as they are made.
    Refuse,
    /// Connections are accepted and stay open, and nothing comes through in either direction. What was
    /// sent meanwhile arrives when the network is whole again.
    Blackhole,
    /// What the client sends arrives, and no answer comes back before the network is whole again.
    Mute,
    /// Every piece of data is this late.
    Delay(Duration),
}

pub struct Proxy {
    /// `127.0.0.1:port`
    pub address: String,
    rules: watch::Sender<Rules>,
    accepting: JoinHandle<()>,
}

#[derive(Clone)]
struct Rules {
    target: Arc<str>,
    traffic: Traffic,
    /// How often everything was cut.
    cuts: u32,
}

impl Proxy {
    /// Listens on a free port, and passes everything on to `target`.
    pub async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (rules, seen) = watch::channel(Rules {
            target: target.into(),
            traffic: Traffic::Pass,
            cuts: 0,
        });
        let accepting = tokio::spawn(accept(listener, seen));
        Self {
            address,
            rules,
            accepting,
        }
    }

    /// From now on, for new connections and old.
    pub fn set(&self, traffic: Traffic) {
        self.rules.send_modify(|rules| rules.traffic = traffic);
        if traffic == Traffic::Refuse {
            self.cut();
        }
    }

    /// Passes new connections on to another place.
    pub fn retarget(&self, target: &str) {
        self.rules.send_modify(|rules| rules.target = target.into());
    }

    /// Closes all connections. New ones are treated as before.
    pub fn cut(&self) {
        self.rules.send_modify(|rules| rules.cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections are tasks of this one's set, and end with it.
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
            connections.spawn(join(client, now.target, rules.clone()));
        }
        // Those that have ended by themselves.
        while connections.try_join_next().is_some() {}
    }
}

async fn join(client: TcpStream, target: Arc<str>, rules: watch::Receiver<Rules>) {
    let Ok(server) = TcpStream::connect(&*target).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(
        pump(from_client, to_server, rules.clone(), &[Traffic::Blackhole]),
        pump(
            from_server,
            to_client,
            rules,
            &[Traffic::Blackhole, Traffic::Mute]
        ),
    );
}

/// Carries one direction until it ends, except while the traffic is one that stops it.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut rules: watch::Receiver<Rules>,
    stops: &[Traffic],
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let passable = |rules: &Rules| !stops.contains(&rules.traffic);
        let Ok(traffic) = rules.wait_for(passable).await.map(|rules| rules.traffic) else {
            return;
        };
        // The connection is cut: what was held back never arrives.
        if traffic == Traffic::Refuse {
            return;
        }
        if let Traffic::Delay(delay) = traffic {
            tokio::time::sleep(delay).await;
        }
        // Dropping `to` passes the end on.
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
