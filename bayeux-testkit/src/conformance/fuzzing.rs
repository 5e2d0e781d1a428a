//! What reads a server's bytes, for fuzz targets. No part of the API.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transcript::Log;
use super::wire::{Frame, Http1, Lost, WebSocket};

/// What a WebSocket brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// A text message.
    Text(String),
    /// A binary message of so many bytes.
    Binary(usize),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close frame, with its code.
    Close(Option<u16>),
}

/// Reads responses of HTTP up to the end of a connection: status and content of each, and whether they kept the rules.
pub fn responses<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<(u16, Vec<u8>)>, bool) {
    let mut connection = Http1::new(Pieces::of(pieces), Log::new());
    let mut seen = Vec::new();
    loop {
        match at_once(connection.response()) {
            Ok(response) => seen.push((response.status, response.body)),
            Err(lost) => return (seen, matches!(lost, Lost::Closed)),
        }
    }
}

/// Reads the frames of a WebSocket up to its end; whether they kept the rules.
pub fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Read>, bool) {
    let log = Log::new();
    let mut socket = WebSocket::new(Http1::new(Pieces::of(pieces), log.clone()), log);
    let mut seen = Vec::new();
    loop {
        seen.push(match at_once(socket.next()) {
            Ok(Frame::Text(text)) => Read::Text(text),
            Ok(Frame::Binary(length)) => Read::Binary(length),
            Ok(Frame::Ping(payload)) => Read::Ping(payload),
            Ok(Frame::Pong(payload)) => Read::Pong(payload),
            Ok(Frame::Close(code, _)) => Read::Close(code),
            Ok(Frame::Cut) => return (seen, true),
            Err(_) => return (seen, false),
        });
    }
}

/// Runs what never has to wait.
///
/// # Panics
/// Where it waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits for more than the end of the connection"),
    }
}

/// A connection on which everything has come already, in pieces, and its end. It takes what is sent.
struct Pieces {
    pieces: std::vec::IntoIter<Vec<u8>>,
    rest: Vec<u8>,
}

impl Pieces {
    fn of<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Box<Self> {
        let pieces: Vec<Vec<u8>> = pieces.map(<[u8]>::to_vec).collect();
        Box::new(Self { pieces: pieces.into_iter(), rest: Vec::new() })
    }
}

impl AsyncRead for Pieces {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            this.rest = this.pieces.next().unwrap_or_default();
        }
        let count = this.rest.len().min(buffer.remaining());
        buffer.put_slice(&this.rest[..count]);
        this.rest.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
