//! HTTP/1.1: requests as clients send them, and responses read as strictly as they must be written.

use crate::choices::Choices;
use crate::envelope::{envelope, with_ids};

use super::answers::is_envelope;

/// A request.
pub(super) struct Request {
    pub(super) bytes: Vec<u8>,
    /// Whether a decent client could have sent it.
    pub(super) is_clean: bool,
    pub(super) is_head: bool,
}

/// What clients know.
#[derive(Default)]
pub(super) struct Known {
    pub(super) ids: Vec<String>,
    pub(super) browser: Option<String>,
}

impl Request {
    /// Mostly a `POST` with an envelope.
    pub(super) fn choose(choices: &mut Choices<'_>, known: &Known) -> Self {
        let body = with_ids(&envelope(choices), &known.ids);
        match choices.below(8) {
            0..=4 => Self::post(choices, known, &body),
            5 => Self::callback(choices, known, &body),
            6 => Self::form(choices, known, &body),
            _ => Self::other(choices, known),
        }
    }

    fn post(choices: &mut Choices<'_>, known: &Known, body: &str) -> Self {
        let kind = choices.pick(&[
            "application/json;charset=UTF-8",
            "application/json",
            "text/plain",
            "application/json; charset=\"ISO-8859-1\"",
            "application/json; charset=UTF-16LE",
            "nonsense",
            "application/json;charset=klingon",
        ]);
        let headers = format!("Content-Type: {kind}\r\n");
        Self::with_body(choices, known, "POST", &headers, body.as_bytes())
    }

    fn form(choices: &mut Choices<'_>, known: &Known, body: &str) -> Self {
        let escaped = escape(body);
        let form = match choices.below(3) {
            0 => format!("message={escaped}"),
            1 => format!("a=b&message={escaped}&message={escaped}&c"),
            _ => format!("message={body}"),
        };
        let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
        Self::with_body(choices, known, "POST", headers, form.as_bytes())
    }

    fn callback(choices: &mut Choices<'_>, known: &Known, body: &str) -> Self {
        let name = choices.pick(&["jsonpcallback", "a.b", "", "<script>", "x%0d%0a"]);
        let escaped = escape(body);
        let path = match choices.below(2) {
            0 => format!("/cometd?jsonp={name}&message={escaped}"),
            _ => format!("/cometd/connect?message={escaped}&jsonp={name}&message={escaped}"),
        };
        Self::whole("GET", &path, &headers(choices, known), b"")
    }

    fn other(choices: &mut Choices<'_>, known: &Known) -> Self {
        let method = choices.pick(&["OPTIONS", "GET", "HEAD", "PUT", "BREW", "post"]);
        let path = choices.pick(&["/cometd", "/", "/cometdx", "/cometd/a/b?c=d", "*", "/%00", "http://x/cometd"]);
        Self::whole(method, path, &headers(choices, known), b"")
    }

    /// With a body, framed in one way or another.
    fn with_body(choices: &mut Choices<'_>, known: &Known, method: &str, headers_of_body: &str, body: &[u8]) -> Self {
        let headers = headers(choices, known) + headers_of_body;
        let path = choices.pick(&["/cometd", "/cometd/connect", "/cometd/handshake"]);
        match choices.below(8) {
            0..=4 => Self::whole(method, path, &headers, body),
            5 => {
                let mut request = Self::whole(method, path, &(headers + "Transfer-Encoding: chunked\r\n"), b"");
                let size = 1 + choices.below(64);
                for chunk in body.chunks(size) {
                    request.bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                    request.bytes.extend(chunk);
                    request.bytes.extend(b"\r\n");
                }
                request.bytes.extend(choices.pick(&["0\r\n\r\n", "0\r\nTrailer: x\r\n\r\n"]).as_bytes());
                request
            }
            6 => Self::whole(method, path, &(headers + "Expect: 100-continue\r\n"), body),
            _ => {
                // A length that is wrong, several, none, or both ways at once.
                let framing = choices.pick(&[
                    "Content-Length: 1\r\n",
                    "Content-Length: 99999\r\n",
                    "Content-Length: 2\r\nContent-Length: 3\r\n",
                    "Content-Length: -1\r\n",
                    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                    "Transfer-Encoding: gzip\r\n",
                    "Content-Length: 18446744073709551616\r\n",
                ]);
                let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}{framing}\r\n");
                Self { bytes: [head.as_bytes(), body].concat(), is_clean: false, is_head: false }
            }
        }
    }

    fn whole(method: &str, path: &str, headers: &str, body: &[u8]) -> Self {
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}{length}\r\n");
        let is_clean = !headers.contains("close") && !path.contains('*');
        Self { bytes: [head.as_bytes(), body].concat(), is_clean, is_head: method == "HEAD" }
    }
}

/// A plain `POST` of an envelope, by a browser.
pub(super) fn post(browser: Option<&str>, body: &str) -> Vec<u8> {
    let cookie = browser.map(|id| format!("Cookie: BAYEUX_BROWSER={id}\r\n")).unwrap_or_default();
    let headers = format!("{cookie}Content-Type: application/json\r\n");
    Request::whole("POST", "/cometd", &headers, body.as_bytes()).bytes
}

fn headers(choices: &mut Choices<'_>, known: &Known) -> String {
    let mut headers = String::new();
    let has = choices.byte();
    if has & 1 == 0 {
        let id = known.browser.as_deref().unwrap_or("unknown");
        headers += &format!("Cookie: a=b; BAYEUX_BROWSER={id}; BAYEUX_BROWSER=\"x\"\r\n");
    }
    if has & 2 != 0 {
        headers += "Origin: http://other.example\r\nAccess-Control-Request-Method: POST\r\n";
    }
    if has & 0xf0 == 0xf0 {
        headers += choices.pick(&["Connection: close\r\n", "Connection: Upgrade\r\nUpgrade: h2c\r\n", "X: \t\r\n"]);
    }
    headers
}

fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' => escaped.push(char::from(byte)),
            _ => escaped += &format!("%{byte:02x}"),
        }
        escaped
    })
}

/// One response that was read.
pub(super) struct Response<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
    /// Whether the server said that it is the last one.
    pub(super) is_last: bool,
}

/// Reads the response at the beginning of `bytes` and checks it; returns the rest with it. `None`: it is not all there.
///
/// # Panics
/// Where it is no response that this server may send.
pub(super) fn response(bytes: &[u8], is_head: bool) -> Option<(Response<'_>, &[u8])> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut headers);
    let head = parsed.parse(bytes).unwrap_or_else(|error| panic!("{error}: {}", bytes.escape_ascii()));
    let httparse::Status::Complete(start) = head else { return None };
    let status = parsed.code.expect("a complete response has a status");
    assert!(parsed.version.is_some_and(|version| version <= 1));
    let header = |name: &str| {
        let mut found = parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        let first = found.next().map(|header| std::str::from_utf8(header.value).expect("our headers are ASCII"));
        // Each of those that are asked for here changes what the bytes behind it mean.
        assert!(found.next().is_none(), "two headers {name} in {}", bytes[..start].escape_ascii());
        first
    };
    let permitted = [100, 101, 200, 400, 403, 404, 405, 408, 409, 413, 414, 415, 426, 431, 501, 505];
    assert!(permitted.contains(&status), "status {status}: {}", bytes.escape_ascii());
    assert_eq!(header("transfer-encoding"), None, "all that we send has a length");
    let length = header("content-length").map(|length| length.parse::<usize>().expect("a length is a number"));
    let is_last = header("connection").is_some_and(|connection| connection.eq_ignore_ascii_case("close"));
    let length = if status < 200 || is_head { 0 } else { length.unwrap_or(0) };
    let body = bytes.get(start..start + length)?;
    if status == 200 && !is_head {
        is_answer(header("content-type"), body);
    }
    Some((Response { status, body, is_last }, &bytes[start + length..]))
}

fn is_answer(content_type: Option<&str>, body: &[u8]) {
    match content_type {
        Some("application/json;charset=UTF-8") => is_envelope(body),
        Some("text/javascript;charset=UTF-8") => {
            let open = body.iter().position(|&byte| byte == b'(').expect("TJ-4: a call");
            let name = &body[..open];
            let is_plain = |&byte: &u8| byte.is_ascii_alphanumeric() || b"._-$".contains(&byte);
            assert!(!name.is_empty() && name.iter().all(is_plain), "TJ-3: {}", name.escape_ascii());
            is_envelope(body[open + 1..].strip_suffix(b")").expect("TJ-4: the call's end"));
        }
        // To `OPTIONS`.
        None => assert!(body.is_empty(), "a body of no type: {}", body.escape_ascii()),
        Some(other) => panic!("a 200 with {other}"),
    }
}

/// Reads all responses of a connection, in the order of its requests; `heads` says which of those were `HEAD`. Returns how
/// many there were, whether the last one said so, and what is behind an upgrade, or was not complete.
///
/// # Panics
/// As [`response`].
pub(super) fn responses<'a>(mut bytes: &'a [u8], heads: &[bool]) -> Responses<'a> {
    let mut all = Responses { count: 0, is_last: false, upgraded: None, cut: &[] };
    while !bytes.is_empty() {
        assert!(!all.is_last, "more after the last response: {}", bytes.escape_ascii());
        let is_head = heads.get(all.count).copied().unwrap_or(false);
        let Some((response, rest)) = response(bytes, is_head) else {
            all.cut = bytes;
            break;
        };
        bytes = rest;
        match response.status {
            100 => {}
            101 => {
                all.upgraded = Some(rest);
                break;
            }
            _ => {
                all.count += 1;
                all.is_last = response.is_last;
            }
        }
    }
    all
}

/// What came on a connection.
pub(super) struct Responses<'a> {
    pub(super) count: usize,
    /// Whether the last one said so.
    pub(super) is_last: bool,
    /// What came after an upgrade.
    pub(super) upgraded: Option<&'a [u8]>,
    /// The beginning of a response that is not all there.
    pub(super) cut: &'a [u8],
}
