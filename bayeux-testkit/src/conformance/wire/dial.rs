//! TCP, and TLS where the URL asks for it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{Lost, within};
use crate::conformance::options::Options;
use crate::conformance::target::Target;

/// A connection's bytes, encrypted or not.
pub(in crate::conformance) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}
pub(in crate::conformance) type Stream = Box<dyn Bytes>;

/// What TLS negotiates (rule T2-4); without TLS the peer's bytes decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::conformance) enum Protocol {
    Http1,
    Http2,
}

/// Opens connections to the target.
#[derive(Clone)]
pub(in crate::conformance) struct Dialer {
    target: Target,
    tls: Option<[TlsConnector; 2]>,
    patience: Duration,
}

impl Dialer {
    /// # Errors
    /// Where TLS is wanted and cannot be set up.
    pub(in crate::conformance) fn new(target: Target, options: &Options) -> io::Result<Self> {
        let tls =
            if target.secure { Some([connector(options, b"http/1.1")?, connector(options, b"h2")?]) } else { None };
        Ok(Self { target, tls, patience: options.timeout })
    }

    pub(in crate::conformance) async fn dial(&self, protocol: Protocol) -> Result<Stream, Lost> {
        within(self.patience, self.connect(protocol)).await
    }

    async fn connect(&self, protocol: Protocol) -> Result<Stream, Lost> {
        let tcp = TcpStream::connect((self.target.name(), self.target.port)).await.map_err(Lost::Connect)?;
        tcp.set_nodelay(true).map_err(Lost::Connect)?;
        let Some([http1, http2]) = &self.tls else { return Ok(Box::new(tcp)) };
        let connector = if protocol == Protocol::Http1 { http1 } else { http2 };
        let name = ServerName::try_from(self.target.name().to_owned())
            .map_err(|error| Lost::Connect(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let tls = connector.connect(name, tcp).await.map_err(Lost::Connect)?;
        if protocol == Protocol::Http2 && tls.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(Lost::Malformed { protocol: "HTTP/2", what: "TLS did not negotiate h2".to_owned() });
        }
        Ok(Box::new(tls))
    }
}

fn connector(options: &Options, alpn: &[u8]) -> io::Result<TlsConnector> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = if options.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))).with_no_client_auth()
    } else {
        builder.with_root_certificates(roots(options.authorities.as_deref())?).with_no_client_auth()
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Those in a text in PEM, or the system's.
fn roots(authorities: Option<&[u8]>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let added = certificate.map_err(io::Error::other).map(|certificate| roots.add(certificate));
                added?.map_err(io::Error::other)?;
            }
            if roots.is_empty() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "there is no certificate of an authority"));
            }
        }
        // A system store may hold certificates that nothing can read; the others serve.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    Ok(roots)
}

/// Takes any certificate, because the user said so.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("target", &self.target).finish_non_exhaustive()
    }
}
