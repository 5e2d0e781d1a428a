//! Requests that arrive whole: a small `POST` of a stated length, as nearly all of a Bayeux client's are.
//!
//! Whatever is not exactly that, or not exactly right, is left to hyper, byte for byte. So nothing has to be answered
//! here that is unusual, and nothing can be taken for two requests that another program on the way took for one.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use crate::body::RequestBody;

/// The largest request that is waited for here.
pub(super) const SIZE_MAX: usize = 64 * 1024;

/// As many as hyper takes.
const HEADERS_MAX: usize = 100;

/// What some bytes of a connection are.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly always it is the large one, which is moved on at once")]
pub(super) enum Read {
    /// A request. It shares memory with the bytes.
    Request(Request<RequestBody>),
    /// The beginning of one, perhaps.
    Part,
    /// Something for hyper.
    Other,
}

/// Takes a request from the front of `bytes`.
pub(super) fn take(bytes: &mut Bytes) -> Read {
    const POST: &[u8] = b"POST /";
    if !bytes.starts_with(POST) {
        return if POST.starts_with(bytes) { Read::Part } else { Read::Other };
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let end = match head.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) if bytes.len() < SIZE_MAX => return Read::Part,
        Ok(httparse::Status::Partial) | Err(_) => return Read::Other,
    };
    if head.version != Some(1) {
        return Read::Other;
    }
    let Some(parsed) = Head::new(bytes, &head) else { return Read::Other };
    let length = parsed.length;
    match end.checked_add(length) {
        Some(total) if total <= bytes.len() => {
            let body = RequestBody::whole(bytes.slice(end..total));
            let request = parsed.request(body);
            // Nothing is kept of the memory that is used up.
            *bytes = if total == bytes.len() { Bytes::new() } else { bytes.slice(total..) };
            Read::Request(request)
        }
        Some(total) if total <= SIZE_MAX => Read::Part,
        _ => Read::Other,
    }
}

/// A request without its body.
struct Head {
    uri: Uri,
    headers: HeaderMap,
    /// Of the body.
    length: usize,
}

impl Head {
    /// `None` where it is not for here: where its host and its body's length are not all that its headers say of how to
    /// read it and how to answer it.
    fn new(bytes: &Bytes, head: &httparse::Request<'_, '_>) -> Option<Self> {
        let uri = Uri::from_maybe_shared(bytes.slice_ref(head.path?.as_bytes())).ok()?;
        let mut headers = HeaderMap::with_capacity(head.headers.len());
        let (mut host, mut length) = (None, None);
        for header in &*head.headers {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            let fits = match name {
                HOST if is_host(header.value) => host.replace(()).is_none(),
                CONTENT_LENGTH => length.replace(number(header.value)?).is_none(),
                CONNECTION => is_keep_alive(header.value),
                HOST | TRANSFER_ENCODING | EXPECT | UPGRADE => false,
                _ => true,
            };
            if !fits {
                return None;
            }
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(header.value)).ok()?;
            headers.append(name, value);
        }
        host?;
        Some(Self { uri, headers, length: length? })
    }

    fn request(self, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request
    }
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
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-".contains(byte);
    let name = host.iter().rposition(|&byte| byte == b':').map_or(host, |colon| {
        let (name, port) = host.split_at(colon);
        if (2..=6).contains(&port.len()) && port[1..].iter().all(u8::is_ascii_digit) { name } else { host }
    });
    host.is_empty()
        || !name.is_empty() && name.iter().all(plain)
        || !host.contains(&b'@') && Authority::try_from(host).is_ok()
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

    fn of(text: &str) -> (Read, Bytes) {
        let mut bytes = Bytes::from(text.to_owned());
        let read = take(&mut bytes);
        (read, bytes)
    }

    #[test]
    fn request_is_taken_whole_and_nothing_behind_it() {
        let (read, rest) = of(&format!("{REQUEST}POST "));
        let Read::Request(request) = read else { panic!("{read:?}") };
        assert_eq!((request.method(), request.uri().to_string()), (&Method::POST, "/cometd?a=b".to_owned()));
        assert_eq!(request.version(), Version::HTTP_11);
        assert_eq!(request.headers().len(), 4);
        let cookies: Vec<_> = request.headers().get_all("cookie").iter().collect();
        assert_eq!(cookies, ["x=1", "y=2"]);
        assert_eq!(rest, "POST ");
        assert!(matches!(of(REQUEST), (Read::Request(_), rest) if rest.is_empty()));
    }

    #[test]
    fn beginnings_are_waited_for() {
        for length in 0..REQUEST.len() {
            let (read, rest) = of(&REQUEST[..length]);
            assert!(matches!(read, Read::Part), "{length}");
            assert_eq!(rest.len(), length, "nothing is used up");
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
            let (read, rest) = of(&text);
            assert!(matches!(read, Read::Other), "{text}: {read:?}");
            assert_eq!(rest, text, "hyper gets all of it");
        }
        let keep_alive = REQUEST.replacen("Host: a", "Host: a\r\nConnection: Keep-Alive", 1);
        assert!(matches!(of(&keep_alive).0, Read::Request(_)));
        let long = format!("POST /{}", "a".repeat(SIZE_MAX));
        assert!(matches!(of(&long).0, Read::Other));
        let many = REQUEST.replacen("Host: a", &format!("Host: a\r\n{}", "A: b\r\n".repeat(HEADERS_MAX)), 1);
        assert!(matches!(of(&many).0, Read::Other));
    }
}
