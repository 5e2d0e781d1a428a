//! Requests that arrive whole: a small `POST` of a stated length, as nearly all of a Bayeux client's are.
//!
//! Whatever is not exactly that, or not exactly right, is left to hyper, byte for byte. So nothing has to be answered
//! here that is unusual, and nothing can be taken for two requests that another program on the way took for one.

use std::fmt;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::direct::Responder;
use crate::body::RequestBody;
use crate::context::PeerAddr;
use crate::head::RequestHead;

/// The largest request that is waited for here.
pub(super) const SIZE_MAX: usize = 64 * 1024;

/// Room for the headers of a request: for as many as hyper takes.
pub(super) type Room<'a> = [MaybeUninit<httparse::Header<'a>>; 100];

/// No headers yet.
pub(super) const fn room<'a>() -> Room<'a> {
    [const { MaybeUninit::uninit() }; _]
}

/// What some bytes of a connection are.
#[derive(Debug)]
pub(super) enum Read<'a> {
    /// A request, and how many bytes it has in all.
    Post(PostHead<'a>, Bytes, usize),
    /// The beginning of one, perhaps.
    Part,
    /// Something for hyper.
    Other,
}

/// Reads a request at the front of `bytes`, which is from that peer.
pub(super) fn read<'a>(bytes: &'a Bytes, peer: PeerAddr, room: &'a mut Room<'a>) -> Read<'a> {
    const POST: &[u8] = b"POST /";
    if !bytes.starts_with(POST) {
        return if POST.starts_with(bytes) { Read::Part } else { Read::Other };
    }
    let mut request = httparse::Request::new(&mut []);
    let end = match request.parse_with_uninit_headers(bytes, room) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) if bytes.len() < SIZE_MAX => return Read::Part,
        Ok(httparse::Status::Partial) | Err(_) => return Read::Other,
    };
    if end > SIZE_MAX {
        // As large as that it may be read, where it comes in two parts.
        return Read::Other;
    }
    let httparse::Request { path: Some(target), version: Some(1), headers, .. } = request else { return Read::Other };
    let Some(length) = body_length(headers) else { return Read::Other };
    let head = PostHead { bytes, target, fields: headers, peer };
    if !target.bytes().all(is_plain) && head.uri().is_none() {
        return Read::Other;
    }
    match end.checked_add(length) {
        Some(total) if total <= bytes.len() => Read::Post(head, bytes.slice(end..total), total),
        Some(total) if total <= SIZE_MAX => Read::Part,
        _ => Read::Other,
    }
}

/// The length of a request's body. `None` where the request is not for here: where its host and that length are not all
/// that its headers say of how to read it and how to answer it.
fn body_length(headers: &[httparse::Header<'_>]) -> Option<usize> {
    let (mut host, mut length) = (None, None);
    for header in headers {
        // Nearly all are told apart by their lengths.
        let is = |name: &HeaderName| header.name.eq_ignore_ascii_case(name.as_str());
        let fits = match header.name.len() {
            4 if is(&HOST) => is_host(header.value) && host.replace(()).is_none(),
            14 if is(&CONTENT_LENGTH) => length.replace(number(header.value)?).is_none(),
            10 if is(&CONNECTION) => is_keep_alive(header.value),
            6 | 7 | 17 => ![TRANSFER_ENCODING, EXPECT, UPGRADE].iter().any(is),
            _ => true,
        };
        if !fits {
            return None;
        }
    }
    host?;
    length
}

/// A small `POST` that a [`Listener`](crate::Listener) read whole, and gives to an [`Endpoint`](crate::Endpoint) past
/// all that may be around it. It shares memory with what was read.
#[non_exhaustive]
pub struct Post<'a> {
    /// What it says beside its body.
    pub head: PostHead<'a>,
    /// Its body.
    pub body: Bytes,
    /// What writes the response to it, if that is not returned.
    pub responder: Responder,
}

impl Post<'_> {
    /// The same for whoever serves requests of any form. Its [`Responder`] is lost.
    pub fn into_request(self) -> Request<RequestBody> {
        Request::from_parts(self.head.into_parts(), RequestBody::whole(self.body))
    }
}

/// The head of a [`Post`].
#[derive(Clone, Copy)]
pub struct PostHead<'a> {
    bytes: &'a Bytes,
    target: &'a str,
    fields: &'a [httparse::Header<'a>],
    peer: PeerAddr,
}

impl PostHead<'_> {
    /// The path that it is for.
    pub fn path(&self) -> &str {
        self.target.split_once(['?', '#']).map_or(self.target, |(path, _)| path)
    }

    fn uri(&self) -> Option<Uri> {
        Uri::from_maybe_shared(self.bytes.slice_ref(self.target.as_bytes())).ok()
    }
}

impl RequestHead for PostHead<'_> {
    fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_str();
        let is = move |field: &&httparse::Header<'a>| field.name.eq_ignore_ascii_case(name);
        self.fields.iter().filter(is).map(|field| field.value)
    }

    fn version(&self) -> Version {
        Version::HTTP_11
    }

    fn is_over_tls(&self) -> bool {
        // The listener has none, and nobody else has seen it.
        false
    }

    fn into_parts(self) -> Parts {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        // None of it fails: httparse is as strict, and what `http` finds too long is longer than `SIZE_MAX`.
        if let Some(uri) = self.uri() {
            *request.uri_mut() = uri;
        }
        request.headers_mut().reserve(self.fields.len());
        for field in self.fields {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_maybe_shared(self.bytes.slice_ref(field.value));
            if let (Ok(name), Ok(value)) = (name, value) {
                request.headers_mut().append(name, value);
            }
        }
        request.extensions_mut().insert(self.peer);
        request.into_parts().0
    }
}

impl fmt::Debug for Post<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").field("head", &self.head).finish_non_exhaustive()
    }
}

impl fmt::Debug for PostHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its headers are its client's secrets.
        f.debug_struct("PostHead").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Whether it is part of a target whatever is beside it (RFC 3986, 3.3 and 3.4).
fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'?'..=b'Z' | b'%'..=b';' | b'_' | b'~' | b'!' | b'$' | b'=')
}

/// Whether a request leaves its connection to further ones, and says nothing else of it.
pub(super) fn keeps_alive(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().all(|value| is_keep_alive(value.as_bytes()))
}

fn is_keep_alive(connection: &[u8]) -> bool {
    connection.eq_ignore_ascii_case(b"keep-alive")
}

/// A number in digits and nothing else.
fn number(value: &[u8]) -> Option<usize> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn is_host(host: &[u8]) -> bool {
    // Nearly all are these and nothing else.
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let port = |port: &[u8]| (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    match host.iter().position(|byte| !plain(byte)) {
        None => true,
        Some(colon) if colon > 0 && host[colon] == b':' && port(&host[colon + 1..]) => true,
        Some(_) => !host.contains(&b'@') && Authority::try_from(host).is_ok(),
    }
}

/// Whether a request names its host as it must: HTTP/1.1 once, HTTP/1.0 at most once, and as a host. So nobody on the
/// way takes it for another's.
pub(super) fn names_host(headers: &HeaderMap, version: Version) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host.as_bytes()),
        (None, _) => version != Version::HTTP_11,
        (Some(_), Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str =
        "POST /cometd?a=b HTTP/1.1\r\nHost: a\r\nCookie: x=1\r\nContent-Length: 2\r\ncookie: y=2\r\n\r\n[]";

    /// What is read of a text.
    #[derive(Debug)]
    enum Found {
        /// And how much of it.
        Request(Box<Request<Bytes>>, usize),
        Part,
        Other,
    }

    fn of(text: &str) -> Found {
        let bytes = Bytes::from(text.to_owned());
        let peer = PeerAddr(([127, 0, 0, 1], 1).into());
        match read(&bytes, peer, &mut room()) {
            Read::Post(head, body, length) => {
                assert_eq!(head.path(), "/cometd");
                Found::Request(Box::new(Request::from_parts(head.into_parts(), body)), length)
            }
            Read::Part => Found::Part,
            Read::Other => Found::Other,
        }
    }

    #[test]
    fn request_is_taken_whole_and_nothing_behind_it() {
        for behind in ["", "POST "] {
            let found = of(&format!("{REQUEST}{behind}"));
            let Found::Request(request, length) = found else { panic!("{found:?}") };
            assert_eq!((request.method(), request.uri().to_string()), (&Method::POST, "/cometd?a=b".to_owned()));
            assert_eq!(request.version(), Version::HTTP_11);
            assert_eq!(request.headers().len(), 4);
            let cookies: Vec<_> = request.headers().get_all("cookie").iter().collect();
            assert_eq!(cookies, ["x=1", "y=2"]);
            assert!(request.extensions().get::<PeerAddr>().is_some());
            assert_eq!((request.body(), length), (&Bytes::from_static(b"[]"), REQUEST.len()));
        }
    }

    /// Whoever asks the head, and whoever asks what is made of it, hears the same.
    #[test]
    fn head_is_what_it_becomes() {
        let bytes = Bytes::from_static(REQUEST.as_bytes());
        let mut fields = room();
        let Read::Post(head, ..) = read(&bytes, PeerAddr(([127, 0, 0, 1], 1).into()), &mut fields) else { panic!() };
        let parts = head.into_parts();
        for name in ["host", "cookie", "content-length", "content-type"] {
            let name = HeaderName::from_static(name);
            assert!(head.values(&name).eq(parts.values(&name)), "{name}");
            assert_eq!(head.value(&name), parts.value(&name));
        }
        assert_eq!((head.version(), head.is_over_tls()), (RequestHead::version(&parts), parts.is_over_tls()));
    }

    #[test]
    fn beginnings_are_waited_for() {
        for length in 0..REQUEST.len() {
            assert!(matches!(of(&REQUEST[..length]), Found::Part), "{length}");
        }
    }

    #[test]
    fn plain_bytes_are_those_of_paths_and_queries() {
        for byte in 0..=u8::MAX {
            let expected = byte.is_ascii_alphanumeric() || b"/?-._~!$&'()*+,;=:@%".contains(&byte);
            assert_eq!(is_plain(byte), expected, "{:?}", char::from(byte));
        }
    }

    #[test]
    fn hosts_are_names_addresses_and_ports() {
        for host in ["", "a", "a.example:80", "127.0.0.1:65535", "[::1]", "[::1]:8080", "a_b:1"] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for none in ["a@b", "a@b:1", "a b", "a/b"] {
            assert!(!is_host(none.as_bytes()), "{none}");
        }
    }

    #[test]
    fn targets_that_are_odd_are_taken_where_hyper_takes_them() {
        for target in ["/cometd?a|b", "/cometd#c", "/cometd?a[]=x", "/cometd"] {
            let text = REQUEST.replacen("/cometd?a=b", target, 1);
            assert!(matches!(of(&text), Found::Request(..)), "{target}");
        }
    }

    #[test]
    fn what_is_not_plain_is_for_hyper() {
        for (there, instead) in [
            ("POST", "PUT"),
            ("POST", "post"),
            ("/cometd", "http://a/cometd"),
            ("/cometd", "/co metd"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("HTTP/1.1", "HTTP/2"),
            ("Host: a", "X: a"),
            ("Host: a", "Host: a\r\nHost: a"),
            ("Host: a", "Host: a@b"),
            ("Host: a", "Host: a\r\nConnection: close"),
            ("Host: a", "Host: a\r\nConnection: keep-alive, close"),
            ("Host: a", "Host: a\r\nUpgrade: websocket"),
            ("Host: a", "Host: a\r\nExpect: 100-continue"),
            ("Host: a", "Host: a\r\nTransfer-Encoding: chunked"),
            ("Host: a", "Host: a\r\nContent-Length: 2"),
            ("Host: a", "Host : a"),
            ("Host: a", "Host: a\r\n folded"),
            ("Content-Length: 2", "Content-Length: +2"),
            ("Content-Length: 2", "Content-Length: 2, 2"),
            ("Content-Length: 2", "Content-Length:"),
            ("Content-Length: 2", "Content-Length: 99999999999999999999999"),
            ("Content-Length: 2", "Content-Length: 100000"),
            ("Content-Length: 2", "Content-Type: x"),
        ] {
            let text = REQUEST.replacen(there, instead, 1);
            let found = of(&text);
            assert!(matches!(found, Found::Other), "{text}: {found:?}");
        }
        let keep_alive = REQUEST.replacen("Host: a", "Host: a\r\nConnection: Keep-Alive", 1);
        assert!(matches!(of(&keep_alive), Found::Request(..)));
        let long = format!("POST /{}", "a".repeat(SIZE_MAX));
        assert!(matches!(of(&long), Found::Other));
        for long in [format!("/{}", "a".repeat(SIZE_MAX)), format!("/ HTTP/1.1\r\n{}: b\r\nX: ", "a".repeat(SIZE_MAX))]
        {
            let whole = REQUEST.replacen("/cometd?a=b", &long, 1);
            assert!(matches!(of(&whole), Found::Other), "{} bytes", whole.len());
        }
        let many = REQUEST.replacen("Host: a", &format!("Host: a\r\n{}", "A: b\r\n".repeat(room().len())), 1);
        assert!(matches!(of(&many), Found::Other));
    }
}
