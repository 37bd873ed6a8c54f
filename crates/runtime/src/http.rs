//! An HTTP server with graceful shutdown.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use axum::{Router, serve::ListenerExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Binds `address`. Port 0 takes a free port. The log line has the address in use.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// Serves `router` until `shutdown`. Then answers the requests in flight and closes idle connections. Waits at most
/// `grace` for a client that does not finish its request.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    // Answers are small and written in one piece: Nagle's algorithm could only delay them.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    });
    let serving =
        axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        result = serving => result.context("the HTTP server failed"),
        () = crate::elapsed_after(&shutdown, grace) => {
            tracing::warn!("closing connections with unfinished requests");
            Ok(())
        }
    }
}
