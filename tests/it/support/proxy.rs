//! A TCP proxy that does to connections what networks do.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// How the proxy treats what goes through it, new connections and old.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Traffic {
    Pass,
    /// Old connections are cut, new ones are closed as soon as they are made.
    Refuse,
    /// Connections are accepted and stay open, and nothing comes through in either direction, as with a
    /// half-open connection. What was sent meanwhile arrives when the network is whole again.
    Blackhole,
    /// Every piece of data is this late.
    Delay(Duration),
}

pub(crate) struct Proxy {
    /// `127.0.0.1:port`
    pub(crate) address: String,
    traffic: watch::Sender<Traffic>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port, and passes everything on to `target`.
    pub(crate) async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (traffic, seen) = watch::channel(Traffic::Pass);
        let accepting = tokio::spawn(accept(listener, target.to_owned(), seen));
        Self {
            address,
            traffic,
            accepting,
        }
    }

    pub(crate) fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }

    /// Closes all connections; new ones are treated as before.
    pub(crate) fn cut(&self) {
        let before = self.traffic.send_replace(Traffic::Refuse);
        self.traffic.send_replace(before);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
