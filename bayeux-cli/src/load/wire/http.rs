//! Responses of HTTP/1.1 (RFC 9112).

use std::borrow::Cow;

/// A whole response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    /// Its status.
    pub(crate) status: u16,
    /// The connection ends with it.
    pub(crate) last: bool,
    /// `name=value` of each cookie that it sets.
    pub(crate) cookies: Vec<String>,
    /// Its content.
    pub(crate) body: Cow<'a, [u8]>,
}

/// What came is not a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server broke the rules of HTTP: {0}")]
pub(crate) struct Violation(&'static str);

/// A longer response is refused, so that a broken length does not eat the memory.
const RESPONSE_MAX: usize = 256 << 20;

/// More header fields than any server sends.
const FIELDS_MAX: usize = 64;

/// Reads responses from bytes that arrive in any pieces.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// A response whose end has not arrived.
    partial: Vec<u8>,
}

impl Reader {
    /// Takes bytes in, and hands each response that they complete to `on`.
    ///
    /// # Errors
    /// [`Violation`]: the connection is of no further use.
    pub(crate) fn feed(&mut self, bytes: &[u8], on: &mut impl FnMut(Response<'_>)) -> Result<(), Violation> {
        if self.partial.is_empty() {
            let used = responses(bytes, on)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        if self.partial.len() + bytes.len() > RESPONSE_MAX {
            return Err(Violation("response too long"));
        }
        self.partial.extend_from_slice(bytes);
        let used = responses(&self.partial, on)?;
        if used == self.partial.len() {
            self.partial = Vec::new();
        } else {
            self.partial.drain(..used);
        }
        Ok(())
    }

    /// The connection has ended; hands over a response whose end that is.
    pub(crate) fn end(&mut self, on: &mut impl FnMut(Response<'_>)) -> Result<(), Violation> {
        if self.partial.is_empty() {
            return Ok(());
        }
        let Some(head) = Head::read(&self.partial)? else { return Err(Violation("cut short")) };
        match head.framing {
            Framing::UntilClose => {
                let body = self.partial.split_off(head.length);
                self.partial = Vec::new();
                on(head.response(Cow::Owned(body)));
                Ok(())
            }
            Framing::Length(_) | Framing::Chunked => Err(Violation("cut short")),
        }
    }
}

/// Reads whole responses; yields how many bytes they were.
fn responses(bytes: &[u8], on: &mut impl FnMut(Response<'_>)) -> Result<usize, Violation> {
    let mut used = 0;
    while let Some(head) = Head::read(&bytes[used..])? {
        let rest = &bytes[used + head.length..];
        let (body, length) = match head.framing {
            Framing::UntilClose => return Ok(used),
            Framing::Length(length) => match rest.get(..length) {
                Some(body) => (Cow::Borrowed(body), length),
                None => return Ok(used),
            },
            Framing::Chunked => match chunks(rest)? {
                Some((body, length)) => (Cow::Owned(body), length),
                None => return Ok(used),
            },
        };
        used += head.length + length;
        // An interim response announces another (RFC 9110, section 15.2).
        if head.status >= 200 || head.status == 101 {
            on(head.response(body));
        }
    }
    Ok(used)
}

/// How the end of a body is found (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

#[derive(Debug)]
struct Head {
    status: u16,
    last: bool,
    cookies: Vec<String>,
    framing: Framing,
    length: usize,
}

impl Head {
    /// The head that `bytes` begin with, if all of it is there.
    fn read(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Violation("malformed head")),
        };
        let status = response.code.unwrap_or(0);
        let none = matches!(status, 100..200 | 204 | 304);
        let mut head = Self {
            status,
            last: response.version == Some(0),
            cookies: Vec::new(),
            framing: if none { Framing::Length(0) } else { Framing::UntilClose },
            length,
        };
        for field in response.headers.iter() {
            head.take(field, none)?;
        }
        head.last |= head.framing == Framing::UntilClose;
        Ok(Some(head))
    }

    fn take(&mut self, field: &httparse::Header<'_>, none: bool) -> Result<(), Violation> {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("content-length") && !none && self.framing != Framing::Chunked {
            let length = std::str::from_utf8(field.value).ok().and_then(|text| text.trim().parse().ok());
            let length = length.filter(|length| *length <= RESPONSE_MAX);
            self.framing = Framing::Length(length.ok_or(Violation("malformed content length"))?);
        } else if is("transfer-encoding") && !none {
            self.framing = if names(field.value, "chunked") { Framing::Chunked } else { Framing::UntilClose };
        } else if is("connection") {
            self.last = names(field.value, "close") || self.last && !names(field.value, "keep-alive");
        } else if is("set-cookie") {
            let cookie = field.value.split(|byte| *byte == b';').next().unwrap_or_default();
            self.cookies.push(String::from_utf8_lossy(cookie).trim().to_owned());
        }
        Ok(())
    }

    fn response(self, body: Cow<'_, [u8]>) -> Response<'_> {
        Response { status: self.status, last: self.last, cookies: self.cookies, body }
    }
}

/// The answer to a request to upgrade.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Upgraded {
    /// 101 if the server agrees.
    pub(crate) status: u16,
    /// Its proof that it knows WebSocket.
    pub(crate) accept: Option<String>,
    /// Length of the head; what follows is the new protocol's.
    pub(crate) length: usize,
}

/// Reads the answer to a request to upgrade, if all of its head is there.
///
/// # Errors
/// [`Violation`]
pub(crate) fn upgraded(bytes: &[u8]) -> Result<Option<Upgraded>, Violation> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Violation("malformed head")),
    };
    let accept = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("sec-websocket-accept"));
    let accept = accept.map(|field| String::from_utf8_lossy(field.value).trim().to_owned());
    Ok(Some(Upgraded { status: response.code.unwrap_or(0), accept, length }))
}

/// Whether `word` is in a list that commas separate.
fn names(list: &[u8], word: &str) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// The content of a chunked body and its length on the wire, if all of it is there.
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Violation> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let (start, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete((start, size))) => (at + start, size),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Violation("malformed chunk")),
        };
        if size == 0 {
            return Ok(trailers(&bytes[start..]).map(|length| (body, start + length)));
        }
        let size = usize::try_from(size).ok().filter(|size| *size <= RESPONSE_MAX);
        let end = start + size.ok_or(Violation("chunk too long"))?;
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => body.extend_from_slice(&bytes[start..end]),
            Some(_) => return Err(Violation("malformed chunk")),
            None => return Ok(None),
        }
        at = end + 2;
    }
}

/// The length of what follows the last chunk, up to and with the empty line.
fn trailers(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = memchr::memchr(b'\n', &bytes[at..])?;
        let empty = bytes[at..at + line].trim_ascii().is_empty();
        at += line + 1;
        if empty {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each response as `status body cookies last`.
    fn read_in_pieces_of(size: usize, bytes: &[u8]) -> Result<Vec<String>, Violation> {
        let mut reader = Reader::default();
        let mut seen = Vec::new();
        let mut on = |response: Response<'_>| {
            let body = String::from_utf8_lossy(&response.body);
            seen.push(format!("{} {body} {:?} {}", response.status, response.cookies, response.last));
        };
        for piece in bytes.chunks(size) {
            reader.feed(piece, &mut on)?;
        }
        reader.end(&mut on)?;
        Ok(seen)
    }

    #[test]
    fn responses_are_read_in_all_pieces() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length: 4\r\nSet-Cookie: a=b; Path=/\r\nset-cookie: c=d\r\n\r\n[{}]\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[{}\r\n001;x=y\r\n]\r\n0\r\nX: y\r\n\r\n\
            HTTP/1.1 204 No Content\r\n\r\n\
            HTTP/1.0 500 Oh\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n\
            HTTP/1.1 400 No\r\nContent-Length: 1\r\nConnection: x, close\r\n\r\n!\
            HTTP/1.1 200 OK\r\n\r\nto the end";
        let expected = [
            "200 [{}] [\"a=b\", \"c=d\"] false",
            "200 [{}] [] false",
            "204  [] false",
            "500  [] false",
            "400 ! [] true",
            "200 to the end [] true",
        ];
        for size in 1..bytes.len() {
            assert_eq!(read_in_pieces_of(size, bytes).expect("no violation"), expected, "pieces of {size}");
        }
    }

    #[test]
    fn what_breaks_the_rules_is_a_violation() {
        for bytes in [
            "garbage\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nshor",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            "HTTP/1.1 20",
        ] {
            assert!(read_in_pieces_of(1000, bytes.as_bytes()).is_err(), "{bytes}");
            assert!(read_in_pieces_of(3, bytes.as_bytes()).is_err(), "{bytes}");
        }
    }
}
