//! A process asks its own `/readyz`: a health check for images without a shell and without curl.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// Time limit of a probe. `/readyz` itself takes at most 2 s for each dependency.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks `/readyz` of the process that listens on `listen_addr` on this machine.
///
/// # Errors
///
/// It does not answer within 5 s, or is not ready. The text has its answer.
pub async fn probe(listen_addr: SocketAddr) -> anyhow::Result<()> {
    let address = reachable(listen_addr);
    let answer = timeout(LIMIT, ask(address));
    let (status, body) = answer
        .await
        .with_context(|| format!("{address} does not answer within {LIMIT:?}"))?
        .with_context(|| format!("{address} does not answer"))?;
    ensure!(status == StatusCode::OK, "not ready: {body}");
    Ok(())
}

async fn ask(address: SocketAddr) -> anyhow::Result<(StatusCode, String)> {
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut client, connection) = http1::handshake(stream).await?;
    let request = Request::get("/readyz")
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = client.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        anyhow::Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    // The connection does the sending and receiving.
    let (answer, connection) = tokio::join!(answer, connection);
    connection?;
    answer
}

/// A process that listens on every interface is reached on the loopback one.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_is_reached_on_loopback() {
        for (listen, reached) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8081", "[::1]:8081"),
            ("10.0.0.7:80", "10.0.0.7:80"),
        ] {
            let listen: SocketAddr = listen.parse().expect("an address");
            assert_eq!(reachable(listen).to_string(), reached);
        }
    }
}
