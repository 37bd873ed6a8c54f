//! A collector behind TLS.

use std::net::SocketAddr;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
    server::TlsStream,
};

use super::{Collector, spans, traced};
use crate::tls::Authority;

/// Accepts connections with TLS, one after the other.
pub(super) struct TlsListener {
    pub(super) listener: TcpListener,
    pub(super) acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            // Fails if the client does not trust the certificate.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn collector(authority: &Authority) -> Collector {
    let certificate = CertificateDer::from_pem_file(authority.path("server.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.path("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Collector::over_tls(TlsAcceptor::from(std::sync::Arc::new(config))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_spans_over_tls_if_its_certificate_is_trusted() {
    let authority = Authority::new();
    let collector = collector(&authority).await;
    let trusted = authority.certificate();
    let system = traced(&collector, &[("SSL_CERT_FILE", &*trusted)]).await;
    system.get("/livez").await.expect(200);
    let [requests] = spans(system, &collector, ["GET /livez"]).await;
    assert_eq!(requests.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_with_the_certificate_of_somebody_else_gets_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let collector = collector(&authority).await;
    let settings = [
        ("SSL_CERT_FILE", &*other.certificate()),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
    ];
    let mut system = traced(&collector, &settings).await;
    system.get("/livez").await.expect(200);
    system.child().logs("spans cannot be exported").await;
    system.stop().await;
    assert!(collector.spans().is_empty());
}
