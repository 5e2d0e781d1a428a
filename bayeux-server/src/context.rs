//! What is known of the request that a message came with.

use std::net::SocketAddr;

use http::request::Parts;
use http::{Extensions, HeaderMap, Method, Uri, Version};

/// The peer's address, as an extension of a request. [`Listener`](crate::Listener) puts it there; behind another
/// listener, a middleware may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// Says, as an extension of a request, that it was made over TLS. Whoever terminates TLS puts it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverTls;

/// Whether a request was made over TLS: it says so in its target, or has [`OverTls`].
pub fn is_over_tls(request: &Parts) -> bool {
    request.uri.scheme() == Some(&http::uri::Scheme::HTTPS) || request.extensions.get::<OverTls>().is_some()
}

/// The request that a message came with: the `POST`, or the upgrade of its WebSocket (rule TW-2).
///
/// Kept only while hooks are registered that could ask for it.
#[derive(Debug)]
pub struct Context {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    extensions: Extensions,
    tls: bool,
}

impl Context {
    /// The context of a request.
    pub fn new(parts: Parts) -> Self {
        let tls = is_over_tls(&parts);
        let Parts { method, uri, version, headers, extensions, .. } = parts;
        Self { method, uri, version, headers, extensions, tls }
    }

    /// The request's method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The request's target.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The request's HTTP version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The request's headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// What middleware left with the request, such as an authenticated principal.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The peer's address, where the listener told it.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.extensions.get::<PeerAddr>().map(|peer| peer.0)
    }

    /// Whether the request was made over TLS, as far as can be told.
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}
