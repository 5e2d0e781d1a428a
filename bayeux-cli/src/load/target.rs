//! The server under load: where it is, and how it is spoken to.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;

use http::Uri;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// The transports that the generator speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// One WebSocket per session.
    WebSocket,
    /// HTTP/1.1 with two connections per session, as browsers do: one for meta connects, one for the rest.
    LongPolling,
}

impl Transport {
    /// Its name in Bayeux.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::LongPolling => "long-polling",
        }
    }
}

/// A target that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// Not an absolute URL of http, https, ws or wss.
    #[error("{0:?} is not a URL with http, https, ws or wss")]
    Url(String),
    /// The host has no address.
    #[error("cannot resolve {host}")]
    Resolve {
        /// Which.
        host: String,
        /// Why not.
        source: Option<std::io::Error>,
    },
    /// The host's name cannot be in a certificate.
    #[error("{0:?} is not a name that a certificate can have")]
    Name(String),
    /// No usable certificates of authorities.
    #[error("no certificates of authorities in {0}")]
    Authorities(String),
    /// The TLS library refuses its settings.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// How certificates are checked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trust<'a> {
    /// By the authorities that the system trusts.
    System,
    /// By those in a PEM file.
    File(&'a Path),
    /// Not at all.
    Anyone,
}

/// The server under load.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Its address; the first one, where a name has several.
    pub(crate) address: SocketAddr,
    /// The `Host` field: name, and the port where it is not the scheme's.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
    /// The beginning of every POST, up to the fields that differ.
    pub(crate) post: String,
    /// For `https` and `wss`.
    pub(crate) tls: Option<Tls>,
    /// How it is spoken to.
    pub(crate) transport: Transport,
}

/// What a TLS connection begins with.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    /// Settings, shared so that connections resume sessions.
    pub(crate) config: Arc<ClientConfig>,
    /// The name to find in the certificate.
    pub(crate) name: ServerName<'static>,
}

impl Target {
    /// Resolves `url`.
    ///
    /// # Errors
    /// [`TargetError`]
    pub(crate) fn new(url: &str, transport: Transport, trust: Trust<'_>) -> Result<Self, TargetError> {
        let uri: Uri = url.parse().map_err(|_| TargetError::Url(url.to_owned()))?;
        let secure = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err(TargetError::Url(url.to_owned())),
        };
        let authority = uri.authority().ok_or_else(|| TargetError::Url(url.to_owned()))?;
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let address = match (name, port).to_socket_addrs() {
            Ok(mut addresses) => addresses.next().ok_or(None),
            Err(error) => Err(Some(error)),
        };
        let address = address.map_err(|source| TargetError::Resolve { host: name.to_owned(), source })?;
        let tls = secure.then(|| Tls::new(name, trust)).transpose()?;
        let host = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, host)| host).to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let post = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json;charset=UTF-8\r\n");
        Ok(Self { address, host, path, post, tls, transport })
    }

    /// Whether connections may start at `source`.
    pub(crate) fn accepts_source(&self, source: IpAddr) -> bool {
        self.address.is_ipv4() == source.is_ipv4()
    }
}

impl Tls {
    fn new(name: &str, trust: Trust<'_>) -> Result<Self, TargetError> {
        let server = ServerName::try_from(name.to_owned()).map_err(|_| TargetError::Name(name.to_owned()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| TargetError::Tls(error.to_string()))?;
        let config = match trust {
            Trust::Anyone => {
                config.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(provider))).with_no_client_auth()
            }
            Trust::System => config.with_root_certificates(system_roots()?).with_no_client_auth(),
            Trust::File(path) => config.with_root_certificates(roots_in(path)?).with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config), name: server })
    }
}

fn system_roots() -> Result<RootCertStore, TargetError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TargetError::Authorities("the system's store; name a file with --ca".to_owned()));
    }
    Ok(roots)
}

fn roots_in(path: &Path) -> Result<RootCertStore, TargetError> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).into_iter().flatten().flatten();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(TargetError::Authorities(path.display().to_string()));
    }
    Ok(roots)
}

/// Takes any certificate, for servers under test that signed their own. Signatures of the handshake are still checked.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_how() {
        let target = |url: &str| Target::new(url, Transport::WebSocket, Trust::Anyone);
        let plain = target("ws://127.0.0.1:8080/cometd?x=1").expect("a target");
        assert_eq!(plain.address, "127.0.0.1:8080".parse().expect("an address"));
        assert_eq!((plain.host.as_str(), plain.path.as_str()), ("127.0.0.1:8080", "/cometd?x=1"));
        assert!(plain.tls.is_none());
        let secure = target("https://[::1]").expect("a target");
        assert_eq!((secure.address.port(), secure.path.as_str()), (443, "/"));
        assert!(secure.tls.is_some());
        for wrong in ["", "cometd", "ftp://localhost/", "/cometd"] {
            assert!(matches!(target(wrong), Err(TargetError::Url(_))), "{wrong}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_an_error() {
        let trust = Trust::File(Path::new("Cargo.toml"));
        let target = Target::new("https://127.0.0.1:1/", Transport::WebSocket, trust);
        assert!(matches!(target, Err(TargetError::Authorities(_))));
    }
}
