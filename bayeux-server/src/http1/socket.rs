//! The socket of an HTTP/1 connection, as hyper sees it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A socket, and what is to be read before it.
#[derive(Debug)]
pub(crate) struct Socket {
    io: TokioIo<TcpStream>,
    ahead: Bytes,
    full: Arc<Full>,
}

/// Whether a socket takes no more bytes for now, so that hyper holds some that it could not write.
#[derive(Debug, Default)]
pub(crate) struct Full(AtomicBool);

impl Full {
    pub(crate) fn is_set(&self) -> bool {
        // Written and read by the connection's task alone.
        self.0.load(Ordering::Relaxed)
    }

    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        self.0.store(written.is_pending(), Ordering::Relaxed);
        written
    }
}

impl Socket {
    /// `stream`, behind the bytes `ahead`.
    pub(crate) fn new(stream: TcpStream, ahead: Bytes, full: Arc<Full>) -> Self {
        Self { io: TokioIo::new(stream), ahead, full }
    }

    /// The socket, and what was to be read before it.
    pub(crate) fn into_parts(self) -> (TcpStream, Bytes) {
        (self.io.into_inner(), self.ahead)
    }
}

/// Takes the socket out of a connection that was upgraded under a [`Listener`](crate::Listener), with the bytes that
/// were read ahead.
///
/// # Errors
/// The connection as it was, where it is another's.
pub fn upgraded_socket(upgraded: Upgraded) -> Result<(TcpStream, Vec<u8>), Upgraded> {
    let parts = upgraded.downcast::<Socket>()?;
    let (stream, ahead) = parts.io.into_parts();
    // Copied: they are a slice of hyper's buffer, which is much larger.
    Ok((stream, [parts.read_buf, ahead].concat()))
}

impl Read for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let count = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..count]);
        self.ahead.advance(count);
        if self.ahead.is_empty() {
            // Also what holds them.
            self.ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.full.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.full.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
