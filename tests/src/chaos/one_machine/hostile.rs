//! Clients that are hostile, or unlucky: they send half a request, or a head byte by byte, never read their answers,
//! vanish in the middle, or keep a connection on which nothing comes any more.

use std::{fs, io, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::injector::Injector;
use crate::chaos::{
    clock::now,
    history::{Behavior, HostileClients},
    world::{LOOK_EVERY, RECOVERY_LIMIT},
};

/// Clients of each behavior. All together are several times as many connections as the ordinary clients have.
const CLIENTS: usize = 40;

/// A client whose connection has ended makes a new one after this time.
const PAUSE: Duration = Duration::from_secs(1);

const HALF_HEAD: &str = "POST /reservations HTTP/1.1\r\nhost: api\r\ncontent-length: 20\r\n";
const HALF_BODY: &str = "POST /reservations HTTP/1.1\r\nhost: api\r\ncontent-type: application/json\r\n\
    content-length: 20\r\n\r\n{\"user";
const LIST: &str = "GET /products HTTP/1.1\r\nhost: api\r\n\r\n";
const PROBE: &str = "GET /livez HTTP/1.1\r\nhost: api\r\n\r\n";

impl Injector {
    /// Connects hostile clients to an API, without its proxy, and keeps them there at least so long, and until an ordinary
    /// client's write was acknowledged beside them. Then waits until the API has ended their connections by itself.
    pub(super) async fn be_hostile(&self, api: usize, lasts: Duration) -> anyhow::Result<()> {
        let member = &self.stack.members[api];
        let address: SocketAddr = member.address().parse()?;
        let id = {
            let child = member.child().await;
            child.as_ref().context("it does not run")?.id()
        };
        let descriptors_before = descriptors(id)?;
        let (stop, connected) = (CancellationToken::new(), TaskTracker::new());
        let mut clients = JoinSet::new();
        for behavior in Behavior::ALL {
            for number in 0..CLIENTS {
                let (stop, first) = (stop.clone(), connected.token());
                clients.spawn(async move {
                    misbehave(address, behavior, number, &stop, first).await;
                    behavior
                });
            }
        }
        connected.close();
        // It ends at once unless the API ended by itself, which is recorded.
        let _ = timeout(RECOVERY_LIMIT, connected.wait()).await;
        let (began, limit) = (now(), Instant::now() + RECOVERY_LIMIT);
        sleep(lasts).await;
        while self.journal.acknowledged_since(began, api).is_none() && Instant::now() < limit {
            sleep(LOOK_EVERY).await;
        }
        // Rounded up, as the ends of operations.
        let ended = now() + 1;
        stop.cancel();
        let mut left = Behavior::ALL.map(|behavior| (behavior, CLIENTS));
        let all = async {
            while let Some(behavior) = clients.join_next().await {
                let behavior = behavior?;
                for (_, left) in left.iter_mut().filter(|(of, _)| *of == behavior) {
                    *left -= 1;
                }
            }
            anyhow::Ok(())
        };
        if let Ok(ended) = timeout(RECOVERY_LIMIT, all).await {
            ended?;
        }
        clients.shutdown().await;
        let limit = Instant::now() + RECOVERY_LIMIT;
        let mut descriptors_after = descriptors(id)?;
        while HostileClients::keeps_too_many(descriptors_before, descriptors_after)
            && Instant::now() < limit
        {
            sleep(LOOK_EVERY).await;
            descriptors_after = descriptors(id)?;
        }
        let child = member.child().await;
        self.journal.hostile(HostileClients {
            api,
            began,
            ended,
            left: left.to_vec(),
            descriptors_before,
            descriptors_after,
            memory_peak_kib: child.as_ref().context("it does not run")?.memory_peak_kib(),
        });
        Ok(())
    }
}

/// Number of open files of a process, which are mostly connections.
fn descriptors(process: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

/// Misbehaves on one connection after the other, until it is told to stop and the API has ended the last one. Drops `first`
/// once it was connected.
async fn misbehave<T>(
    address: SocketAddr,
    behavior: Behavior,
    number: usize,
    stop: &CancellationToken,
    first: T,
) {
    let mut first = Some(first);
    while !stop.is_cancelled() {
        if let Ok(stream) = connect(address).await {
            drop(first.take());
            // An error is an end of the connection as well.
            let _ = on_one(stream, behavior, number).await;
        }
        stop.run_until_cancelled(sleep(PAUSE)).await;
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // Small, so that the API soon waits for a client that does not read.
    socket.set_recv_buffer_size(4096)?;
    socket.connect(address).await
}

/// Returns when the API has ended the connection, or this client has reset it.
async fn on_one(mut stream: TcpStream, behavior: Behavior, number: usize) -> io::Result<()> {
    match behavior {
        Behavior::HalfRequest => {
            let half = [HALF_HEAD, HALF_BODY][number % 2];
            stream.write_all(half.as_bytes()).await?;
        }
        Behavior::SlowHead => {
            let (mut reading, mut writing) = stream.split();
            let trickle = async {
                for byte in HALF_HEAD.as_bytes().iter().cycle() {
                    writing.write_all(&[*byte]).await?;
                    sleep(Duration::from_millis(500)).await;
                }
                io::Result::Ok(())
            };
            return tokio::select! {
                sent = trickle => sent,
                ended = to_end(&mut reading) => ended,
            };
        }
        // What it has sent and nobody has read makes the API's end a reset, which a writer sees.
        Behavior::NeverReads => loop {
            stream.write_all(LIST.as_bytes()).await?;
        },
        Behavior::Resets => {
            let sent = [LIST, HALF_HEAD, HALF_BODY, ""][number % 4];
            stream.write_all(sent.as_bytes()).await?;
            return stream.set_zero_linger();
        }
        Behavior::HalfOpen => stream.write_all(PROBE.as_bytes()).await?,
    }
    to_end(&mut stream).await
}

async fn to_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<()> {
    let mut bytes = [0; 1024];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}
