//! A TCP proxy that delays every byte by a fixed time, to simulate distance on one machine.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use runtime::lock;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::{AbortHandle, JoinSet, spawn_blocking},
    try_join,
};

/// Maximum size of a read, and of the data in flight: far more than the traffic of 1 ms.
const CHUNK_BYTES: usize = 64 * 1024;
const CHUNKS: usize = 256;

/// Listens until it is dropped. Its connections end with it.
pub(crate) struct DelayProxy {
    accepting: AbortHandle,
    ports: Arc<Mutex<HashSet<u16>>>,
}

impl DelayProxy {
    /// `delay` is for one direction. A round trip takes twice as much longer.
    pub(crate) fn start(listener: TcpListener, upstream: SocketAddr, delay: Duration) -> Self {
        let ports = Arc::<Mutex<HashSet<u16>>>::default();
        let accepting = tokio::spawn(accept(listener, upstream, delay, Arc::clone(&ports)));
        Self {
            accepting: accepting.abort_handle(),
            ports,
        }
    }

    /// Whether a connection with this source port, as seen by the upstream, belongs to the proxy.
    pub(crate) fn has_port(&self, port: u16) -> bool {
        lock(&self.ports).contains(&port)
    }
}

impl Drop for DelayProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    upstream: SocketAddr,
    delay: Duration,
    ports: Arc<Mutex<HashSet<u16>>>,
) {
    // Dropped with this task, which ends the connections.
    let mut connections = JoinSet::new();
    loop {
        let near = tokio::select! {
            accepted = listener.accept() => accepted,
            // The result does not matter: both ends notice it on their own sockets.
            Some(_) = connections.join_next() => continue,
        };
        // The client has disconnected, or too many files are open. The next connection may work.
        let Ok((near, _)) = near else { continue };
        let ports = Arc::clone(&ports);
        connections.spawn(async move { connect(near, upstream, delay, &ports).await });
    }
}

async fn connect(
    near: TcpStream,
    upstream: SocketAddr,
    delay: Duration,
    ports: &Mutex<HashSet<u16>>,
) -> io::Result<()> {
    let far = TcpStream::connect(upstream).await?;
    lock(ports).insert(far.local_addr()?.port());
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (from_near, to_near) = near.into_split();
    let (from_far, to_far) = far.into_split();
    try_join!(
        relay(from_near, to_far, delay),
        relay(from_far, to_near, delay)
    )?;
    Ok(())
}

/// Forwards one direction to its end.
async fn relay(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) -> io::Result<()> {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let read = async move {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let length = from.read(&mut chunk).await?;
            if length == 0 {
                return Ok(());
            }
            chunk.truncate(length);
            if sender.send((Instant::now() + delay, chunk)).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = chunks.recv().await {
            wait_until(due).await?;
            to.write_all(&chunk).await?;
        }
        to.shutdown().await
    };
    try_join!(read, write).map(drop)
}

/// Tokio's timers have a resolution of 1 ms, which would turn a delay of 1 ms into up to 2 ms. A thread's sleep is
/// exact to 0.1 ms.
async fn wait_until(due: Instant) -> io::Result<()> {
    let left = due.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(());
    }
    spawn_blocking(move || thread::sleep(left))
        .await
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(20);

    /// Sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            }
        });
        address
    }

    /// A proxy, and a connection to it.
    async fn proxy(upstream: SocketAddr) -> (DelayProxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let proxy = DelayProxy::start(listener, upstream, DELAY);
        let stream = TcpStream::connect(address).await.expect("the proxy");
        (proxy, stream)
    }

    #[tokio::test]
    async fn a_round_trip_takes_twice_the_delay_and_loses_nothing() {
        let (_proxy, mut stream) = proxy(echo().await).await;
        let began = Instant::now();
        stream.write_all(b"ping").await.expect("sent");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"ping");
        assert!(began.elapsed() >= 2 * DELAY);

        let (mut from, mut to) = stream.into_split();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move {
            to.write_all(&sent).await?;
            to.shutdown().await
        });
        let mut received = Vec::new();
        from.read_to_end(&mut received).await.expect("all of it");
        sending.await.expect("no panic").expect("sent");
        assert!(received == expected);
    }

    #[tokio::test]
    async fn it_knows_its_connections_and_ends_them_with_itself() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (proxy, mut through) = proxy(listener.local_addr().expect("an address")).await;
        let (mut upstream, from) = listener.accept().await.expect("a connection");
        let mut byte = [0];
        through.write_all(b"x").await.expect("sent");
        upstream.read_exact(&mut byte).await.expect("a byte");
        assert!(proxy.has_port(from.port()));
        assert!(!proxy.has_port(through.local_addr().expect("an address").port()));

        drop(proxy);
        for stream in [&mut through, &mut upstream] {
            assert!(matches!(stream.read(&mut byte).await, Ok(0) | Err(_)));
        }
    }
}
