//! Responses, written straight to the socket.

use std::cell::RefCell;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// When what is collected is written, whatever follows.
const BUFFER_SIZE: usize = 32 * 1024;

/// How much more than that a thread keeps of a buffer.
const BUFFER_KEPT: usize = 2 * BUFFER_SIZE;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static TODAY: RefCell<Today> = const { RefCell::new(Today { second: Duration::ZERO, field: String::new() }) };
}

/// Why a response was not written to its end.
pub(super) type WriteError = Box<dyn Error + Send + Sync>;

/// What waits for the client to take the rest of a response. Boxed: connections whose client reads need no room for it.
pub(super) type Rest<'a> = Pin<Box<dyn Future<Output = Result<(), WriteError>> + Send + 'a>>;

/// Writes a response as far as the client takes it at once; the rest, where there is any, is written by the future. Says
/// whether it is the last: where `last`, or where the response says so.
///
/// # Errors
/// The socket's, or the body's, or that the client took nothing for as long as `patience`: the connection is of no
/// further use. Without the last, who does not read would keep a session for ever: it does not expire while it is
/// answered (rule L-20).
pub(super) fn write<B>(
    socket: &TcpStream,
    response: Response<B>,
    last: bool,
    patience: Duration,
) -> Result<(bool, Option<Rest<'_>>), WriteError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<WriteError>,
{
    let (parts, body) = response.into_parts();
    let framing = Framing::of(&parts, &body);
    let closes = |value: &HeaderValue| {
        value.as_bytes().split(|&b| b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
    };
    let last = last || parts.headers.get_all(CONNECTION).iter().any(closes);
    let mut out = BUFFER.take();
    head(&mut out, parts.status, &parts.headers, &framing, last);
    let rest = begin(socket, Writing { out, framing, body: Box::pin(body) })?;
    Ok((last, rest.map(|rest| -> Rest<'_> { Box::pin(rest.finish(socket, patience)) })))
}

/// Writes what there is without waiting; returns what is left. Nearly always that is nothing.
fn begin<B>(socket: &TcpStream, mut writing: Writing<B>) -> Result<Option<Writing<B>>, WriteError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<WriteError>,
{
    // Where it is not ready, it is asked again by whoever waits.
    let mut cx = Context::from_waker(Waker::noop());
    let complete = match writing.poll_collect(&mut cx) {
        Poll::Ready(complete) => complete?,
        Poll::Pending => false,
    };
    let written = match socket.try_write(&writing.out) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        written => written?,
    };
    if !complete || written < writing.out.len() {
        writing.out.drain(..written);
        return Ok(Some(writing));
    }
    writing.keep_buffer();
    Ok(None)
}

/// A response on its way.
struct Writing<B> {
    /// What is to be written next.
    out: Vec<u8>,
    framing: Framing,
    body: Pin<Box<B>>,
}

impl<B> Writing<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<WriteError>,
{
    async fn finish(mut self, socket: &TcpStream, patience: Duration) -> Result<(), WriteError> {
        let mut complete = false;
        loop {
            write_all(socket, &self.out, patience).await?;
            self.out.clear();
            if complete {
                break;
            }
            complete = poll_fn(|cx| self.poll_collect(cx)).await?;
        }
        self.keep_buffer();
        Ok(())
    }

    /// Collects what is there of the body, some [`BUFFER_SIZE`] at a time. Says whether that was the end of it.
    fn poll_collect(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, WriteError>> {
        let Self { out, framing, body } = self;
        let has_body = *framing != Framing::Empty;
        while has_body && out.len() < BUFFER_SIZE {
            match body.as_mut().poll_frame(cx) {
                Poll::Pending if out.is_empty() => return Poll::Pending,
                // What is there goes before what may take long.
                Poll::Pending => return Poll::Ready(Ok(false)),
                Poll::Ready(None) => {
                    framing.end(out)?;
                    return Poll::Ready(Ok(true));
                }
                Poll::Ready(Some(frame)) => {
                    // Trailers say nothing to clients of HTTP/1.
                    if let Ok(data) = frame.map_err(Into::into)?.into_data() {
                        framing.piece(out, &data)?;
                    }
                }
            }
        }
        Poll::Ready(Ok(!has_body))
    }

    fn keep_buffer(self) {
        keep_buffer(self.out);
    }
}

/// Makes something in the thread's buffer, which is empty.
pub(super) fn with_buffer<T>(make: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut out = BUFFER.take();
    let made = make(&mut out);
    keep_buffer(out);
    made
}

fn keep_buffer(mut out: Vec<u8>) {
    if out.capacity() <= BUFFER_KEPT {
        out.clear();
        BUFFER.set(out);
    }
}

/// Writes all of it, waiting for the client each time for as long as `patience`.
pub(super) async fn write_all(socket: &TcpStream, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.try_write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => timeout(patience, socket.writable()).await??,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How the end of a body is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Empty,
    /// By its length: what is left of that.
    Length(u64),
    /// In pieces, each with its length.
    Chunked,
}

/// The body of a response is not as long as the response says: what follows would be taken for something else.
#[derive(Debug, thiserror::Error)]
#[error("a response's body differs from its length by {0} bytes")]
struct LengthError(u64);

impl Framing {
    fn of(parts: &Parts, body: &impl Body) -> Self {
        let status = parts.status;
        let stated = || parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        if status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
            Self::Empty
        } else if parts.headers.contains_key(TRANSFER_ENCODING) {
            Self::Chunked
        } else {
            body.size_hint().exact().or_else(stated).map_or(Self::Chunked, Self::Length)
        }
    }

    fn piece(&mut self, out: &mut Vec<u8>, data: &[u8]) -> Result<(), LengthError> {
        match self {
            Self::Empty => {}
            Self::Length(left) => {
                let length = data.len() as u64;
                *left = left.checked_sub(length).ok_or_else(|| LengthError(length - *left))?;
                out.extend_from_slice(data);
            }
            // A piece of no length would be the last one.
            Self::Chunked if data.is_empty() => {}
            Self::Chunked => {
                put(out, format_args!("{:X}\r\n", data.len()));
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }

    fn end(&self, out: &mut Vec<u8>) -> Result<(), LengthError> {
        match self {
            Self::Empty | Self::Length(0) => {}
            Self::Length(left) => return Err(LengthError(*left)),
            Self::Chunked => out.extend_from_slice(b"0\r\n\r\n"),
        }
        Ok(())
    }
}

/// Headers of responses, as they are written: made once where many responses have the same.
#[derive(Debug, Clone)]
pub struct RenderedHeaders {
    text: Box<[u8]>,
    dated: bool,
}

impl RenderedHeaders {
    /// Those headers, but for those of framing and of the connection, which are the listener's own.
    pub fn new(headers: &HeaderMap) -> Self {
        let mut text = Vec::new();
        fields(&mut text, headers);
        Self { text: text.into(), dated: headers.contains_key(DATE) }
    }
}

/// Writes the head of a response with the status 200.
pub(super) fn rendered_head(out: &mut Vec<u8>, headers: &RenderedHeaders, framing: &Framing, last: bool) {
    out.extend_from_slice(OK);
    out.extend_from_slice(&headers.text);
    end_head(out, framing, last, headers.dated);
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// Writes the head of a response.
fn head(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap, framing: &Framing, last: bool) {
    if status == StatusCode::OK {
        out.extend_from_slice(OK);
    } else {
        put(out, format_args!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default()));
    }
    fields(out, headers);
    end_head(out, framing, last, headers.contains_key(DATE));
}

/// Writes headers, but for those that say how the connection goes on, which is decided here.
fn fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    let ours = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];
    for (name, value) in headers.iter().filter(|(name, _)| !ours.contains(name)) {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

fn end_head(out: &mut Vec<u8>, framing: &Framing, last: bool, dated: bool) {
    match framing {
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            put_number(out, *length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Empty => {}
    }
    if last {
        out.extend_from_slice(b"connection: close\r\n");
    }
    if !dated {
        TODAY.with_borrow_mut(|today| out.extend_from_slice(today.field().as_bytes()));
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a number in digits: each response has one, and the standard library's way takes ten times as long.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    // As many as the largest has.
    let mut digits = [0; 20];
    let mut begin = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        begin -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(begin..).unwrap_or_default());
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // A vector takes anything.
    let _ = out.write_fmt(text);
}

/// The header with the date, written once a second.
#[derive(Debug)]
struct Today {
    second: Duration,
    field: String,
}

impl Today {
    fn field(&mut self) -> &str {
        let now = SystemTime::now();
        let second = Duration::from_secs(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        if mem::replace(&mut self.second, second) != second || self.field.is_empty() {
            self.field = format!("date: {}\r\n", httpdate::fmt_http_date(now));
        }
        &self.field
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body::Frame;
    use http_body_util::Full;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A body in pieces, each of which takes a moment.
    struct Pieces {
        left: VecDeque<io::Result<Bytes>>,
        waited: bool,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            self.waited = !self.waited;
            if self.waited {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(self.left.pop_front().map(|piece| piece.map(Frame::data)))
        }
    }

    /// Writes all of a response. Says whether another may follow.
    async fn write_to_end<B>(
        socket: &TcpStream,
        response: Response<B>,
        last: bool,
        patience: Duration,
    ) -> Result<bool, WriteError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<WriteError>,
    {
        let (last, rest) = write(socket, response, last, patience)?;
        if let Some(rest) = rest {
            rest.await?;
        }
        Ok(!last)
    }

    /// What a client reads of a response, but its date, and whether another may follow.
    async fn written<B>(response: Response<B>, last: bool) -> (String, bool)
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<WriteError>,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        let writing = async {
            let more = write_to_end(&socket, response, last, PATIENCE).await.unwrap();
            drop(socket);
            more
        };
        let (more, _) = tokio::join!(writing, client.read_to_end(&mut read));
        let text = String::from_utf8(read).unwrap();
        let date = text.find("date: ").expect("a date");
        let date = date..date + "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n".len();
        assert!(text[date.clone()].ends_with(" GMT\r\n"), "{text}");
        (text.replacen(&text[date], "", 1), more)
    }

    fn response<B>(status: u16, headers: &[(&'static str, &'static str)], body: B) -> Response<B> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(body).unwrap()
    }

    #[tokio::test]
    async fn body_that_is_there_has_its_length() {
        let (text, more) = written(response(200, &[("a", "b"), ("a", "c")], Full::from("xyz")), false).await;
        assert_eq!(text, "HTTP/1.1 200 OK\r\na: b\r\na: c\r\ncontent-length: 3\r\n\r\nxyz");
        assert!(more);
        let (text, _) = written(response(404, &[("content-length", "3")], Full::from("xyz")), false).await;
        assert_eq!(text, "HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nxyz");
    }

    #[test]
    fn numbers_are_written_in_digits() {
        for number in [0, 9, 10, 65_536, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    /// Headers that were made ready look as those that were not.
    #[test]
    fn rendered_headers_are_the_same() {
        for extra in [None, Some(("date", "today")), Some(("connection", "close"))] {
            let mut headers = HeaderMap::new();
            headers.insert("a", HeaderValue::from_static("b"));
            headers.extend(
                extra.map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value))),
            );
            let (mut plain, mut rendered) = (Vec::new(), Vec::new());
            head(&mut plain, StatusCode::OK, &headers, &Framing::Length(12), true);
            rendered_head(&mut rendered, &RenderedHeaders::new(&headers), &Framing::Length(12), true);
            assert_eq!(String::from_utf8(plain), String::from_utf8(rendered));
        }
    }

    #[tokio::test]
    async fn body_of_unknown_length_is_chunked() {
        let large = "y".repeat(BUFFER_SIZE + 1);
        let pieces = ["abc", "", "0123456789abcdef", &large].map(|piece| Ok(Bytes::from(piece.to_owned())));
        let body = Pieces { left: VecDeque::from(pieces), waited: false };
        let (text, more) = written(response(200, &[], body), false).await;
        let expected = format!("3\r\nabc\r\n10\r\n0123456789abcdef\r\n8001\r\n{large}\r\n0\r\n\r\n");
        assert_eq!(text, format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{expected}"));
        assert!(more);
    }

    #[tokio::test]
    async fn last_response_says_so() {
        let (text, more) = written(response(200, &[], Full::from("")), true).await;
        assert_eq!(text, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        assert!(!more);
        let (text, more) = written(response(200, &[("connection", "x, Close")], Full::from("")), false).await;
        assert_eq!(text, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        assert!(!more);
    }

    #[tokio::test]
    async fn some_responses_have_no_body() {
        for status in [204, 304] {
            let (text, _) = written(response(status, &[], Full::from("xyz")), false).await;
            assert!(text.ends_with("\r\n\r\n") && !text.contains("content-length"), "{text}");
        }
    }

    /// Larger than what a socket takes at once, in one piece.
    #[tokio::test]
    async fn client_that_reads_late_gets_all() {
        let body = "z".repeat(8 * 1024 * 1024);
        let (text, _) = written(response(200, &[], Full::from(body.clone())), false).await;
        assert!(text.ends_with(&body));
        assert!(text.contains("content-length: 8388608\r\n"));
    }

    /// L-20: the session that is answered does not expire before.
    #[tokio::test]
    async fn client_that_does_not_read_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let patience = Duration::from_millis(500);
        let large = || response(200, &[], Full::from("z".repeat(16 * 1024 * 1024)));
        let writing = timeout(PATIENCE, write_to_end(&socket, large(), false, patience)).await;
        let error = writing.expect("an end").unwrap_err();
        assert_eq!(error.downcast::<io::Error>().unwrap().kind(), io::ErrorKind::TimedOut);
        // Whoever reads, if slowly, is not.
        let reading = async {
            let mut buffer = vec![0; 64 * 1024];
            while client.read(&mut buffer).await.unwrap() > 0 {
                tokio::time::sleep(patience / 500).await;
            }
        };
        tokio::select! {
            written = write_to_end(&socket, large(), false, patience) => assert!(written.unwrap()),
            () = reading => panic!("the end of the stream"),
        }
    }

    #[tokio::test]
    async fn body_that_fails_fails_the_response() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        for (headers, pieces, expected) in [
            (&[][..], [Ok(Bytes::from("a")), Err(io::Error::other("broken"))], "broken"),
            (&[("content-length", "3")], ["a", "b"].map(|piece| Ok(Bytes::from(piece))), "by 1 bytes"),
            (&[("content-length", "1")], ["a", "b"].map(|piece| Ok(Bytes::from(piece))), "by 1 bytes"),
        ] {
            let body = Pieces { left: VecDeque::from(pieces), waited: false };
            let error = write_to_end(&socket, response(200, headers, body), false, PATIENCE).await.unwrap_err();
            assert!(error.to_string().ends_with(expected), "{error}");
        }
    }
}
