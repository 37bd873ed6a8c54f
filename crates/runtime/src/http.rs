//! Serving HTTP until told to stop.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use axum::{Router, serve::ListenerExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Binds `address`; port 0 takes a free port. The log line names the address in use.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// Serves `router` until `shutdown`, then answers what is in flight and closes idle connections.
///
/// A client that never finishes its request is waited for at most `grace`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    // Answers are small and written whole: Nagle's algorithm could only delay them.
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
            tracing::warn!("closing connections whose requests never came");
            Ok(())
        }
    }
}
