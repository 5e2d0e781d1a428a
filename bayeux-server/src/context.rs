//! What is known of the request that a message came with.

use std::net::SocketAddr;

use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

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

    /// The context of a request, copied out of the buffer that the request was read into: for a connection that lives
    /// much longer than its request. The buffer is many times as large.
    pub fn detached(mut parts: Parts) -> Self {
        let mut headers = HeaderMap::with_capacity(parts.headers.keys_len());
        for (name, value) in &parts.headers {
            let copy = HeaderName::from_bytes(name.as_str().as_bytes()).ok();
            let copy = copy.zip(HeaderValue::from_bytes(value.as_bytes()).ok());
            if let Some((name, mut value_copy)) = copy {
                value_copy.set_sensitive(value.is_sensitive());
                headers.append(name, value_copy);
            }
        }
        parts.headers = headers;
        if let Ok(uri) = parts.uri.to_string().parse() {
            parts.uri = uri;
        }
        Self::new(parts)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detached_context_says_what_the_request_said() {
        let request =
            http::Request::get("/cometd?a=b").header("x-own", "1").header("cookie", "c=d").header("x-own", "2");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let (uri, headers) = (parts.uri.clone(), parts.headers.clone());
        let context = Context::detached(parts);
        assert_eq!((context.uri(), context.headers()), (&uri, &headers));
    }
}
