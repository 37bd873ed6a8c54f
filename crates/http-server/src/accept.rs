//! The loop that accepts connections.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::Router;
use futures_util::FutureExt as _;
use hyper::server::conn::http1::Builder;
use prometheus::Registry as MetricsRegistry;
use runtime::retry::Delays;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{connection, descriptors, limits::Limits, metrics::Metrics, registry::Registry};

/// Connections that the kernel accepts before this process does.
const BACKLOG: u32 = 1024;

/// Buffers of the kernel per connection. It counts them in the memory limit of a container, and would let each grow to
/// several megabytes: thousands of clients that do not read would fill them. Requests and most answers are smaller.
const SEND_BUFFER_BYTES: u32 = 32 * 1024;
const RECEIVE_BUFFER_BYTES: u32 = 32 * 1024;

/// After the end of accepting, open connections may send one more request for this long. A client that sends at the
/// moment when an idle connection is closed loses the request.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// Longest pause after an accept that failed.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How often the log says that all connections are in use.
const SAY_FULL_EVERY: Duration = Duration::from_secs(60);

/// How often the server looks for an idle connection to replace.
const REPLACE_EVERY: Duration = Duration::from_millis(100);

/// Binds `address`. Port 0 takes a free port. The log line has the address in use.
///
/// # Errors
///
/// The address is in use, or the process may not bind it.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bind = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit both.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let listener = bind().with_context(|| format!("cannot listen on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// Serves `router` until `shutdown`. Then each connection gets its last answer, with `Connection: close`. Connections
/// without a request are closed after 1 s. Waits at most `grace` for clients that do not finish their requests.
///
/// # Errors
///
/// `metrics` already has the metrics of a server.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    metrics: &MetricsRegistry,
    shutdown: CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    let server = Server::new(router, limits, Metrics::register(metrics)?);
    let mut in_hand = None;
    let accepting = server.accept(&listener, &mut in_hand);
    shutdown.run_until_cancelled(accepting).await;
    server.stop(listener, in_hand, grace).await;
    Ok(())
}

struct Server {
    router: Router,
    builder: Builder,
    registry: Arc<Registry>,
    slots: Arc<Semaphore>,
    max_connections: u32,
    tasks: TaskTracker,
}

impl Server {
    fn new(router: Router, limits: Limits, metrics: Metrics) -> Self {
        let mut builder = Builder::new();
        builder.max_buf_size(limits.http_head_max_bytes as usize);
        let max_connections = descriptors::max_connections(&limits);
        Self {
            router,
            builder,
            registry: Arc::new(Registry::new(limits, metrics)),
            slots: Arc::new(Semaphore::new(max_connections as usize)),
            max_connections,
            tasks: TaskTracker::new(),
        }
    }

    /// Accepts connections for ever. `in_hand` is the one that waits for a slot.
    async fn accept(&self, listener: &TcpListener, in_hand: &mut Option<TcpStream>) {
        let mut delays = Delays::up_to(RETRY_MAX);
        let mut failing = false;
        let mut said_full = None;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    *in_hand = Some(stream);
                    let slot = self.slot(&mut said_full).await;
                    if let Some(stream) = in_hand.take() {
                        self.spawn(stream, slot);
                    }
                    if failing {
                        tracing::info!("accepting connections again");
                    }
                    failing = false;
                    delays.reset();
                }
                Err(error) => {
                    self.registry.metrics.accept_errors.inc();
                    if !failing {
                        tracing::warn!(%error, "cannot accept connections: retrying until it works");
                    }
                    failing = true;
                    sleep(delays.next_delay()).await;
                }
            }
        }
    }

    /// A slot for one more connection. If there is none, an idle connection is closed for it.
    async fn slot(&self, said_full: &mut Option<Instant>) -> OwnedSemaphorePermit {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return slot;
        }
        self.registry.metrics.full.inc();
        if said_full.is_none_or(|said| said.elapsed() > SAY_FULL_EVERY) {
            tracing::warn!(
                connections = self.max_connections,
                "all connections are in use: idle ones are closed for new ones"
            );
            *said_full = Some(Instant::now());
        }
        loop {
            self.registry.replace_one();
            let slot = Arc::clone(&self.slots).acquire_owned();
            // The semaphore is never closed.
            if let Ok(Ok(slot)) = timeout(REPLACE_EVERY, slot).await {
                return slot;
            }
        }
    }

    /// Accepts what the kernel has accepted already. These clients may have sent requests. Slots become free, because every
    /// answer is now the last one of its connection.
    async fn accept_rest(&self, listener: &TcpListener, mut in_hand: Option<TcpStream>) {
        let accepted = || listener.accept().now_or_never()?.ok();
        let mut said_full = None;
        while let Some(stream) = in_hand.take().or_else(|| Some(accepted()?.0)) {
            let slot = self.slot(&mut said_full).await;
            self.spawn(stream, slot);
        }
    }

    fn spawn(&self, stream: TcpStream, slot: OwnedSemaphorePermit) {
        let open = self.registry.open();
        let (builder, router) = (self.builder.clone(), self.router.clone());
        self.tasks.spawn(async move {
            connection::serve(stream, builder, router, open).await;
            drop(slot);
        });
    }

    async fn stop(&self, listener: TcpListener, in_hand: Option<TcpStream>, grace: Duration) {
        self.registry.close_after_answers();
        let limit = Instant::now() + grace;
        let rest = self.accept_rest(&listener, in_hand);
        if timeout(grace / 2, rest).await.is_err() {
            tracing::warn!("closing connections that found no free slot");
        }
        drop(listener);
        self.tasks.close();
        if timeout(LAST_REQUESTS.min(grace / 2), self.tasks.wait())
            .await
            .is_ok()
        {
            return;
        }
        self.registry.close_idle();
        if tokio::time::timeout_at(limit, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("closing connections with unfinished requests");
        }
    }
}
