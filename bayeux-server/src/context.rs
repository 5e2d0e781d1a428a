//! What is known of the request that a message came with.

use std::net::SocketAddr;

use bytes::Bytes;
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

    /// The same in memory of its own. What a listener made of a request holds the buffer that the request was read
    /// into, which is much larger, and a WebSocket's context lives as long as the WebSocket.
    #[must_use]
    pub fn detached(mut self) -> Self {
        // One piece for all values.
        let values: Vec<&[u8]> = self.headers.values().map(HeaderValue::as_bytes).collect();
        let mut values = Bytes::from(values.concat());
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_str().as_bytes());
            let copy = HeaderValue::from_maybe_shared(values.split_to(value.len()));
            // Neither fails: they are what they are copies of.
            if let (Ok(name), Ok(mut copy)) = (name, copy) {
                copy.set_sensitive(value.is_sensitive());
                headers.append(name, copy);
            }
        }
        self.headers = headers;
        if let Ok(uri) = self.uri.to_string().parse() {
            self.uri = uri;
        }
        self
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
    use http::Request;
    use http::header::{AUTHORIZATION, COOKIE};

    use super::*;

    #[test]
    fn detached_context_is_the_same() {
        let mut secret = HeaderValue::from_static("secret");
        secret.set_sensitive(true);
        let request = Request::get("/cometd/x?a=b")
            .header(COOKIE, "a=b")
            .header("X-Own", "")
            .header(COOKIE, HeaderValue::from_bytes(b"c=\xff").unwrap())
            .header(AUTHORIZATION, secret)
            .extension(OverTls);
        let context = Context::new(request.body(()).unwrap().into_parts().0);
        let (headers, uri) = (context.headers().clone(), context.uri().clone());
        let context = context.detached();
        assert_eq!((context.headers(), context.uri()), (&headers, &uri));
        assert!(context.headers().iter().eq(&headers));
        assert!(context.headers()[AUTHORIZATION].is_sensitive());
        assert!(context.is_tls());
    }
}
