//! One WebSocket over any stream, from its upgrade to its end: what is to be written is handed to its task.

use std::future::Future;
use std::sync::Arc;

use bayeux_server::proto::{Limits, Outgoing, decode, frames};
use bayeux_server::{Link, LinkEvent};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::ending::{CLOSE_GRACE, End, Written, closing, failed, farewell, not_an_envelope, patiently, settled};
use crate::options::WsOptions;

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

    #[allow(clippy::manual_async_fn, reason = "an async function would have room for the connection twice")]
    pub(crate) fn run(mut self) -> impl Future<Output = ()> {
        async move {
            if let End::Close(code, reason) = self.converse().await {
                // Boxed: connections that are open need no room for it.
                Box::pin(self.close(code, reason)).await;
            }
        }
    }

    /// Says farewell.
    async fn close(self, code: CloseCode, reason: &'static str) {
        let Self { socket, mut link, .. } = self;
        // However long the farewell takes, the session need not wait for it. The link lives until then, since a server
        // that stops waits for it.
        link.close();
        drop(timeout(CLOSE_GRACE, farewell(socket, code, reason)).await);
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
            Err(error) => Err(not_an_envelope(&error)),
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
        settled(written)?;
        self.active = Instant::now();
        Ok(())
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
