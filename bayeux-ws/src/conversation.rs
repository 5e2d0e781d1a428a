//! One WebSocket, from its upgrade to its end.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bayeux_server::proto::{Limits, Outgoing, decode, frames};
use bayeux_server::{CloseReason, Link, LinkEvent};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, Sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes, protocol::CloseFrame};

use crate::options::WsOptions;

/// How long the other side may take to answer a close, and a write that is under way to end when the connection is to
/// be closed.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// What is read and thrown away of a client that still sends when its connection is closed: otherwise the operating
/// system would reset the connection, and the client might never see why.
const DISCARD_MAX: u64 = 16 * 1024 * 1024;

/// Room for messages that a connection keeps between writes; what a large batch needed beyond that is given back.
const MESSAGES_KEPT: usize = 32;

/// A WebSocket and its link.
pub(crate) struct Conversation<S> {
    socket: WebSocketStream<S>,
    link: Link,
    limits: Limits,
    options: Arc<WsOptions>,
    /// An envelope that the engine did not want yet. While there is one, nothing is read.
    kept: Option<Bytes>,
    messages: Vec<Outgoing>,
    /// When something was last read or written.
    active: Instant,
}

/// Why a conversation ends.
enum End {
    /// The connection is gone, or as good as gone.
    Gone,
    /// It is to be closed with this.
    Close(CloseCode, &'static str),
}

/// What happens next.
enum Next {
    Event(LinkEvent),
    Frame(Option<Result<Message, Error>>),
    Silence,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    pub(crate) fn new(socket: WebSocketStream<S>, link: Link, limits: Limits, options: Arc<WsOptions>) -> Self {
        let active = Instant::now();
        Self { socket, link, limits, options, kept: None, messages: Vec::new(), active }
    }

    pub(crate) async fn run(mut self) {
        let end = self.converse().await;
        if let End::Close(code, reason) = end {
            // However long the farewell takes, the session need not wait for it. The link lives until then, since a
            // server that stops waits for it.
            let Self { socket, mut link, .. } = self;
            link.close();
            // Boxed: connections that are open need no room for it.
            drop(Box::pin(timeout(CLOSE_GRACE, farewell(socket, code, reason))).await);
        }
    }

    async fn converse(&mut self) -> End {
        let mut silence = Box::pin(tokio::time::sleep(self.options.idle_timeout));
        loop {
            let ended = match self.next(silence.as_mut()).await {
                Next::Event(LinkEvent::Write) => self.write().await,
                Next::Event(LinkEvent::Resume) => match self.kept.take() {
                    Some(text) => self.receive(text).await,
                    None => Ok(()),
                },
                Next::Event(LinkEvent::Close(reason)) => Err(closing(reason)),
                Next::Frame(frame) => self.read(frame).await,
                Next::Silence => {
                    let due = self.active + self.options.idle_timeout;
                    silence.as_mut().reset(due);
                    if due <= Instant::now() { Err(End::Close(CloseCode::Away, "Idle")) } else { Ok(()) }
                }
            };
            if let Err(end) = ended {
                return end;
            }
        }
    }

    /// What is to be written goes before what is to be read: a reply before the next request.
    async fn next(&mut self, silence: std::pin::Pin<&mut Sleep>) -> Next {
        tokio::select! {
            biased;
            event = self.link.event(&mut self.messages) => Next::Event(event),
            frame = self.socket.next(), if self.kept.is_none() => Next::Frame(frame),
            () = silence => Next::Silence,
        }
    }

    async fn read(&mut self, frame: Option<Result<Message, Error>>) -> Result<(), End> {
        self.active = Instant::now();
        match frame {
            Some(Ok(Message::Text(text))) => self.receive(text.into()).await,
            Some(Ok(Message::Binary(_))) => Err(End::Close(CloseCode::Unsupported, "Text Only")),
            // tungstenite answers both by itself. Nothing more is read before the answer to a ping is written: one who
            // pings and does not read would have us keep all the answers.
            Some(Ok(Message::Ping(_))) => {
                let flushed = patiently(self.socket.flush(), &mut self.link, &self.options).await;
                self.settle(flushed)
            }
            Some(Ok(Message::Pong(_) | Message::Close(_) | Message::Frame(_))) => Ok(()),
            Some(Err(error)) => Err(failed(&error)),
            None => Err(End::Gone),
        }
    }

    /// Hands an envelope to the engine, or keeps it while the engine wants none.
    async fn receive(&mut self, text: Bytes) -> Result<(), End> {
        if !self.link.wants_input() {
            self.kept = Some(text);
            return Ok(());
        }
        match decode(text, &self.limits) {
            // Faye's keep-alive (rule DI-F7).
            Ok(batch) if batch.messages.is_empty() => Ok(()),
            Ok(batch) => {
                self.link.receive(batch).await;
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "not an envelope");
                Err(End::Close(CloseCode::from(error.close_code()), "Not Bayeux Messages"))
            }
        }
    }

    /// Writes what was drained, all of it with one flush.
    async fn write(&mut self) -> Result<(), End> {
        let written = self.write_all().await;
        self.messages.clear();
        self.messages.shrink_to(MESSAGES_KEPT);
        let written = self.settle(written);
        if written.is_ok() {
            self.link.written();
        }
        written
    }

    /// What a write means for the connection.
    fn settle(&mut self, written: Written) -> Result<(), End> {
        match written {
            Ok(Ok(())) => {
                self.active = Instant::now();
                Ok(())
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "write failed");
                Err(End::Gone)
            }
            Err(_) => {
                tracing::debug!("the client does not read");
                Err(End::Gone)
            }
        }
    }

    async fn write_all(&mut self) -> Written {
        let Self { socket, link, messages, options, .. } = self;
        let writing = async {
            for frame in frames(messages, options.messages_per_frame) {
                let text = Utf8Bytes::try_from(frame).map_err(|error| Error::Utf8(error.to_string()))?;
                socket.feed(Message::Text(text)).await?;
            }
            socket.flush().await
        };
        patiently(writing, link, options).await
    }
}

/// The outer error: it took too long.
type Written = Result<Result<(), Error>, Elapsed>;

/// Waits for a write, but no longer than a client may be silent, and hardly at all once the connection is to be closed.
async fn patiently(writing: impl Future<Output = Result<(), Error>>, link: &mut Link, options: &WsOptions) -> Written {
    let mut writing = std::pin::pin!(writing);
    // Nearly always the socket takes all of it, and there is nothing to wait for.
    if let Poll::Ready(written) = poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx))).await {
        return Ok(written);
    }
    // Boxed: connections whose client reads need no room for it.
    Box::pin(async {
        let mut writing = std::pin::pin!(timeout(options.idle_timeout, writing));
        tokio::select! {
            biased;
            written = &mut writing => written,
            // The reader is too slow for its queue, or the server stops.
            () = link.closing() => timeout(CLOSE_GRACE, writing).await.unwrap_or_else(Err),
        }
    })
    .await
}

/// The close that the engine asks for (rules TW-20, TW-22 to TW-24).
fn closing(reason: CloseReason) -> End {
    match reason {
        CloseReason::HandshakeInBatch => End::Close(CloseCode::Policy, "Handshake Must Be Alone"),
        CloseReason::Flooded => End::Close(CloseCode::Policy, "Too Many Messages"),
        CloseReason::SessionRemoved => End::Close(CloseCode::Normal, "Destroy"),
        CloseReason::Stopping => End::Close(CloseCode::Away, "Stopping"),
        CloseReason::Lingered | CloseReason::ConnectReplaced | _ => End::Close(CloseCode::Normal, "Disconnect"),
    }
}

/// The close that answers what is no WebSocket, or too much of one (rules TW-21, TW-28).
fn failed(error: &Error) -> End {
    tracing::debug!(%error, "connection failed");
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => End::Close(CloseCode::Size, "Message Too Large"),
        Error::Utf8(_) => End::Close(CloseCode::Invalid, "Not UTF-8"),
        // The client is gone: nobody is there to be told.
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Gone,
        Error::Protocol(_) => End::Close(CloseCode::Protocol, "Not WebSocket"),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_)
        | Error::Tls(_)
        | Error::Capacity(_)
        | Error::WriteBufferFull(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => End::Gone,
    }
}

/// Says why, and waits until the other side has heard it.
async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
    code: CloseCode,
    reason: &'static str,
) -> io::Result<()> {
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
    if let Err(error) = socket.close(Some(frame)).await {
        tracing::debug!(%error, "close failed");
        return Ok(());
    }
    // Until the client's close, where the stream can be read still.
    while let Some(Ok(_)) = socket.next().await {}
    let mut stream = socket.into_inner();
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(DISCARD_MAX), &mut tokio::io::sink()).await?;
    Ok(())
}
