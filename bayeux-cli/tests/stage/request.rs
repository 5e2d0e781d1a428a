//! From the text of a step to a request or a frame.

use bayeux_testkit::script::{self, Wrong};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;

use super::frame::{BINARY, CLOSE, Frame, PING, PONG, TEXT};
use super::server::Version;

/// A message of a client that the script does not spell out.
pub(super) const POST: &str = "POST /cometd\nContent-Type: application/json;charset=UTF-8";

/// An upgrade that the script does not spell out.
pub(super) const UPGRADE: &str = "GET /cometd\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n\
                                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// Method, target and headers.
#[derive(Debug)]
pub(super) struct Head {
    method: Method,
    path: String,
    headers: HeaderMap,
}

/// Whether a step after `->` is a request, not a frame.
pub(super) fn is_request(text: &str) -> bool {
    text.split([' ', '\n']).nth(1).is_some_and(|path| path.starts_with('/')) && !text.starts_with("text ")
}

/// `METHOD PATH`, then lines of headers, then the body.
pub(super) fn parse(text: &str) -> Result<(Head, Vec<u8>), Wrong> {
    let (first, mut rest) = text.split_once('\n').unwrap_or((text, ""));
    let (method, path) = first.split_once(' ').ok_or("METHOD PATH")?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
    let mut head = Head { method, path: encode(path), headers: HeaderMap::new() };
    while let Some((name, value)) = header(rest) {
        let value = HeaderValue::from_bytes(&bytes(value)).map_err(|error| error.to_string())?;
        head.headers.append(HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?, value);
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    Ok((head, bytes(rest)))
}

/// The header in the first line of `text`, if it is one.
fn header(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.lines().next()?.split_once(':')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_name.then_some((name, value.trim_start()))
}

impl Head {
    /// The request, with what every client adds.
    pub(super) fn finish(
        mut self,
        version: Version,
        cookie: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Request<Full<Bytes>>, Wrong> {
        let target = match version {
            Version::Http1 => {
                self.headers.entry("host").or_insert(HeaderValue::from_static("bayeux.example"));
                self.path
            }
            Version::Http2 => format!("http://bayeux.example{}", self.path),
        };
        if let (Some(cookie), false) = (cookie, self.headers.contains_key("cookie")) {
            self.headers.insert("cookie", HeaderValue::from_str(cookie).map_err(|error| error.to_string())?);
        }
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = self.method;
        *request.uri_mut() = target.parse::<Uri>().map_err(|error| format!("{target}: {error}"))?;
        *request.headers_mut() = self.headers;
        Ok(request)
    }
}

/// How to name a request that waits: by the ids of its messages.
pub(super) fn name(body: &[u8]) -> String {
    let ids = serde_json::from_slice(body).map(|envelope| script::ids_of(&envelope)).unwrap_or_default();
    if ids.is_empty() { String::new() } else { format!(" for {}", ids.join(", ")) }
}

/// The bytes of a frame: `[JSON]`, `ping …`, `close CODE REASON`, `frame XX …`, perhaps `unmasked` before it.
pub(super) fn parse_frame(text: &str) -> Result<Vec<u8>, Wrong> {
    let (masked, text) = text.strip_prefix("unmasked ").map_or((true, text), |text| (false, text));
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (first, payload) = match kind {
        "text" => (TEXT, bytes(rest)),
        "binary" => (BINARY, bytes(rest)),
        "ping" => (PING, bytes(rest)),
        "pong" => (PONG, bytes(rest)),
        "close" => (CLOSE, close(rest)?),
        "frame" => {
            let (first, payload) = rest.split_once(' ').unwrap_or((rest, ""));
            (u8::from_str_radix(first, 16).map_err(|error| error.to_string())?, bytes(payload))
        }
        _ if text.starts_with(['[', '{']) => (TEXT, bytes(text)),
        _ => return Err(format!("{kind} is no frame")),
    };
    Ok(Frame { first, payload }.encode(masked))
}

/// The payload of a close frame: nothing, or a code and perhaps a reason.
fn close(text: &str) -> Result<Vec<u8>, Wrong> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let (code, reason) = text.split_once(' ').unwrap_or((text, ""));
    let code: u16 = code.parse().map_err(|_| format!("{code} is no code"))?;
    Ok([&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// With `<byte:ff>` as that byte and `<64 of x>` as many.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        bytes.extend(&rest.as_bytes()[..start]);
        rest = &rest[start..];
        let end = rest.find('>').map_or(rest.len(), |end| end + 1);
        match special(&rest[..end]) {
            Some(special) => {
                bytes.extend(special);
                rest = &rest[end..];
            }
            None => {
                bytes.push(b'<');
                rest = &rest[1..];
            }
        }
    }
    bytes.extend(rest.as_bytes());
    bytes
}

fn special(word: &str) -> Option<Vec<u8>> {
    let word = word.strip_prefix('<')?.strip_suffix('>')?;
    if let Some(hex) = word.strip_prefix("byte:") {
        return Some(vec![u8::from_str_radix(hex, 16).ok()?]);
    }
    let (times, what) = word.split_once(" of ")?;
    Some(what.repeat(times.parse().ok()?).into_bytes())
}

/// Percent-encodes what a URL cannot have.
fn encode(path: &str) -> String {
    let mut encoded = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}[]".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A header's name as people write it.
pub(super) fn title(name: &HeaderName) -> String {
    let words = name.as_str().split('-').map(|word| match word {
        "websocket" => "WebSocket".to_owned(),
        _ => word[..1].to_ascii_uppercase() + &word[1..],
    });
    words.collect::<Vec<_>>().join("-")
}
