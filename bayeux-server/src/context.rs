//! What is known of the request that a message came with.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{
    ACCEPT_LANGUAGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
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
    response: Option<ResponseHeaders>,
}

impl Context {
    /// The context of a request.
    pub fn new(parts: Parts) -> Self {
        let tls = is_over_tls(&parts);
        let Parts { method, uri, version, headers, extensions, .. } = parts;
        Self { method, uri, version, headers, extensions, tls, response: None }
    }

    /// The context of a request whose response may get headers from hooks.
    pub fn with_response(parts: Parts) -> (Self, ResponseHeaders) {
        let response = ResponseHeaders::default();
        (Self { response: Some(response.clone()), ..Self::new(parts) }, response)
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

    /// The value of a cookie; of several with that name, the first. Quotes around it are not part of it.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies().find_map(|(other, value)| (other == name).then_some(value))
    }

    /// The request's cookies, in order, as far as they are text.
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines =
            self.headers.get_all(COOKIE).into_iter().filter_map(|line| std::str::from_utf8(line.as_bytes()).ok());
        lines.flat_map(|line| line.split(';')).filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let value = value.trim();
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            Some((name.trim(), value))
        })
    }

    /// The decoded value of a parameter of the query; of several with that name, the first.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters().find_map(|(other, value)| (other == name).then_some(value))
    }

    /// The query's parameters, decoded, in order. What is no UTF-8 becomes replacement characters.
    pub fn parameters(&self) -> impl Iterator<Item = (String, String)> {
        let query = self.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).into_owned()
    }

    /// The languages that the client prefers, most preferred first, as in `en-GB`.
    pub fn locales(&self) -> Vec<&str> {
        let lines = self.headers.get_all(ACCEPT_LANGUAGE).into_iter().filter_map(|line| line.to_str().ok());
        let mut weighted: Vec<(&str, f32)> = lines
            .flat_map(|line| line.split(','))
            .filter_map(|entry| {
                let (tag, rest) = entry.split_once(';').unwrap_or((entry, ""));
                let weight = rest.trim().strip_prefix("q=").map_or(Some(1.0), |weight| weight.parse().ok())?;
                let tag = tag.trim();
                (!tag.is_empty() && weight > 0.0).then_some((tag, weight))
            })
            .collect();
        // Stable: of equal ones, the first.
        weighted.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        weighted.into_iter().map(|(tag, _)| tag).collect()
    }

    /// What middleware left of that type, such as an authenticated principal.
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }

    /// Sets a header of the response that carries the reply to this message, in the place of an earlier one of that
    /// name.
    ///
    /// # Errors
    /// [`ResponseHeaderError`], and always over WebSocket: there is no response any more.
    pub fn set_response_header(
        &self,
        name: impl TryInto<HeaderName>,
        value: impl TryInto<HeaderValue>,
    ) -> Result<(), ResponseHeaderError> {
        self.response.as_ref().ok_or(ResponseHeaderError::NoResponse)?.set(
            name.try_into().map_err(|_| ResponseHeaderError::Invalid)?,
            value.try_into().map_err(|_| ResponseHeaderError::Invalid)?,
        )
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

/// What is kept of the request that a connection began with. Made by [`Server::origin`](crate::Server::origin).
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Where hooks could ask for it.
    pub(crate) context: Option<Arc<Context>>,
    /// Where a session may come of it.
    pub(crate) user_agent: Option<Arc<str>>,
}

/// Headers that hooks add to a response. Cheap to clone; all clones are for the same response.
#[derive(Debug, Clone, Default)]
pub struct ResponseHeaders(Arc<Mutex<Option<Box<HeaderMap>>>>);

/// Headers that hooks may add to one response.
const RESPONSE_HEADERS_MAX: usize = 64;

/// Why a response header was not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseHeaderError {
    /// The transport has no responses, as WebSocket has none.
    #[error("there is no response to set a header of")]
    NoResponse,
    /// Not a header.
    #[error("not a header's name or value")]
    Invalid,
    /// A header that is the transport's own: those of framing, of the connection, and of the body's type.
    #[error("a header that only the transport may set")]
    Reserved,
    /// More than 64.
    #[error("too many headers")]
    TooMany,
}

impl ResponseHeaders {
    fn set(&self, name: HeaderName, value: HeaderValue) -> Result<(), ResponseHeaderError> {
        const RESERVED: [HeaderName; 8] =
            [CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
        if RESERVED.contains(&name) {
            return Err(ResponseHeaderError::Reserved);
        }
        let mut headers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let headers = headers.get_or_insert_default();
        if headers.len() >= RESPONSE_HEADERS_MAX && !headers.contains_key(&name) {
            return Err(ResponseHeaderError::TooMany);
        }
        headers.insert(name, value);
        Ok(())
    }

    /// Whether there are none so far.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Adds them to a response, in the place of its own. Cookies stand beside each other.
    pub fn add_to(&self, response: &mut HeaderMap) {
        let headers = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        for (name, value) in headers.into_iter().flat_map(|headers| headers.into_iter()) {
            match name {
                Some(name) if name == SET_COOKIE => {
                    response.append(name, value);
                }
                Some(name) => {
                    response.insert(name, value);
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::{AUTHORIZATION, COOKIE};

    use super::*;

    #[test]
    fn cookies_parameters_and_languages_are_read_leniently() {
        let request = Request::get("/cometd?token=a%20b%2Bc&x=1&token=2&e=%ff&flag")
            .header(COOKIE, "a=b; c = \"d e\" ;; =; f")
            .header(COOKIE, HeaderValue::from_bytes(b"g=\xff").unwrap())
            .header(COOKIE, "a=later")
            .header("Accept-Language", "de;q=0.7, en-GB, *;q=0.1, fr;q=0, bad;q=x");
        let context = Context::new(request.body(()).unwrap().into_parts().0);
        assert_eq!((context.cookie("a"), context.cookie("c"), context.cookie("f")), (Some("b"), Some("d e"), None));
        assert_eq!(context.parameter("token").as_deref(), Some("a b+c"));
        assert_eq!((context.parameter("flag").as_deref(), context.parameter("none")), (Some(""), None));
        assert_eq!(context.parameter("e").as_deref(), Some("\u{fffd}"));
        assert_eq!(context.locales(), ["en-GB", "de", "*"]);
        assert_eq!(context.set_response_header("x-a", "1"), Err(ResponseHeaderError::NoResponse));
    }

    #[test]
    fn response_headers_are_checked_and_counted() {
        let (context, headers) = Context::with_response(Request::get("/").body(()).unwrap().into_parts().0);
        assert_eq!(context.set_response_header("Content-Length", "1"), Err(ResponseHeaderError::Reserved));
        assert_eq!(context.set_response_header("x y", "1"), Err(ResponseHeaderError::Invalid));
        assert_eq!(context.set_response_header("x", "1\r\nset-cookie: a=b"), Err(ResponseHeaderError::Invalid));
        for n in 0..RESPONSE_HEADERS_MAX {
            assert_eq!(context.set_response_header(format!("x-{n}"), "1"), Ok(()));
        }
        assert_eq!(context.set_response_header("x-more", "1"), Err(ResponseHeaderError::TooMany));
        assert_eq!(context.set_response_header("x-0", "2"), Ok(()));
        let mut response = HeaderMap::new();
        response.insert("x-0", HeaderValue::from_static("own"));
        headers.add_to(&mut response);
        assert_eq!((response.len(), &response["x-0"]), (RESPONSE_HEADERS_MAX, &HeaderValue::from_static("2")));
    }

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
