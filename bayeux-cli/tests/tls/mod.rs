//! A proxy that takes TLS off, on tokio, for as many protocols as the server speaks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// What signed the certificate.
pub(crate) const AUTHORITY: &[u8] = include_bytes!("ca.pem");

/// The proxy's certificate, for `localhost` and 127.0.0.1.
pub(crate) const CERTIFICATE: &[u8] = include_bytes!("cert.pem");

/// Runs until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// For `server`, with the certificate in this folder.
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let acceptor = TlsAcceptor::from(Arc::new(config()));
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass_on(acceptor.clone(), client, server));
            }
        });
        Self { address, accepting }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass_on(acceptor: TlsAcceptor, client: TcpStream, server: SocketAddr) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = acceptor.accept(client).await?;
    let mut upstream = TcpStream::connect(server).await?;
    upstream.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}

fn config() -> ServerConfig {
    let chain = CertificateDer::pem_slice_iter(CERTIFICATE).collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("key.pem"));
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain.expect("a certificate"), key.expect("a key"))
        .expect("they belong together");
    // The server tells them apart by their first bytes.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
