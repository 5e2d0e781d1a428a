//! A client: connections of its own, a cookie jar that it may share, and perhaps a WebSocket.

use std::future::Future;
use std::io;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::frame::{CLOSE, Frame};
use super::server::{Running, Version};

/// What a client noticed.
pub(crate) struct Happening {
    pub(crate) at: Instant,
    /// Which client, and which of its exchanges.
    pub(crate) who: usize,
    pub(crate) exchange: u64,
    pub(crate) what: What,
}

pub(crate) enum What {
    /// A response arrived, all of it.
    Response(StatusCode, HeaderMap, Bytes),
    /// There will be none.
    NoResponse,
    /// A frame arrived on the WebSocket.
    Frame(Frame),
    /// The WebSocket's connection ended without a close frame.
    End,
}

pub(crate) struct Client {
    pub(crate) name: String,
    /// Which cookie jar it has.
    pub(crate) browser: usize,
    pub(crate) version: Version,
    /// The next `c1`, `c2`, … of plain connects.
    pub(crate) polls: u64,
    /// What was sent in this step and is not answered yet: its exchange and how to name it.
    pub(crate) waiting: Vec<(u64, String)>,
    /// The ids of what was sent on the WebSocket in this step and has no reply yet.
    pub(crate) unanswered: Vec<String>,
    /// The bytes to write on the WebSocket, if there is one.
    websocket: Option<UnboundedSender<Vec<u8>>>,
    connections: Vec<Connection>,
    exchanges: Vec<(u64, AbortHandle)>,
    reporter: Reporter,
}

/// Tells what happens to a client.
#[derive(Clone)]
struct Reporter {
    who: usize,
    sender: UnboundedSender<Happening>,
}

struct Connection {
    requests: Requests,
    task: AbortHandle,
}

enum Requests {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    pub(crate) fn new(
        name: &str,
        version: Version,
        browser: usize,
        (who, sender): (usize, UnboundedSender<Happening>),
    ) -> Self {
        Self {
            name: name.to_owned(),
            browser,
            version,
            polls: 0,
            waiting: Vec::new(),
            unanswered: Vec::new(),
            websocket: None,
            connections: Vec::new(),
            exchanges: Vec::new(),
            reporter: Reporter { who, sender },
        }
    }

    /// Sends a request on a connection that is free, a new one if need be.
    pub(crate) async fn send(
        &mut self,
        server: &Running,
        exchange: u64,
        request: Request<Full<Bytes>>,
    ) -> io::Result<()> {
        self.connections.retain(|connection| !connection.requests.is_closed());
        let free = self.connections.iter().position(|connection| connection.requests.is_ready());
        let at = match free {
            Some(at) => at,
            None => {
                self.connections.push(Connection::open(server, self.version).await.map_err(io::Error::other)?);
                self.connections.len() - 1
            }
        };
        let (writes, to_write) = unbounded_channel();
        if request.headers().contains_key("upgrade") {
            self.websocket = Some(writes);
        }
        let reporter = self.reporter.clone();
        let task = match &mut self.connections[at].requests {
            Requests::One(requests) => {
                tokio::spawn(reporter.follow(exchange, requests.send_request(request), to_write))
            }
            Requests::Two(requests) => {
                tokio::spawn(reporter.follow(exchange, requests.send_request(request), to_write))
            }
        };
        self.exchanges.push((exchange, task.abort_handle()));
        Ok(())
    }

    /// Whether there is a WebSocket, or will be when the upgrade is answered.
    pub(crate) fn has_websocket(&self) -> bool {
        self.websocket.as_ref().is_some_and(|websocket| !websocket.is_closed())
    }

    /// Writes on the WebSocket.
    pub(crate) fn write(&self, bytes: Vec<u8>) -> io::Result<()> {
        let websocket = self.websocket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        websocket.send(bytes).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Waits no longer for what has no answer yet.
    pub(crate) fn give_up(&mut self) {
        self.waiting.clear();
        self.unanswered.clear();
        for (_, task) in self.exchanges.drain(..) {
            task.abort();
        }
    }

    /// Closes all its connections.
    pub(crate) fn hang_up(&mut self) {
        self.give_up();
        self.websocket = None;
        for connection in self.connections.drain(..) {
            connection.task.abort();
        }
    }
}

impl Connection {
    async fn open(server: &Running, version: Version) -> hyper::Result<Self> {
        let stream = TokioIo::new(server.accept(version));
        Ok(match version {
            Version::Http1 => {
                let (requests, connection) = http1::handshake(stream).await?;
                let task = tokio::spawn(connection.with_upgrades()).abort_handle();
                Self { requests: Requests::One(requests), task }
            }
            Version::Http2 => {
                let (requests, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                Self { requests: Requests::Two(requests), task: tokio::spawn(connection).abort_handle() }
            }
        })
    }
}

impl Requests {
    fn is_ready(&self) -> bool {
        match self {
            Self::One(requests) => requests.is_ready(),
            Self::Two(requests) => requests.is_ready(),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::One(requests) => requests.is_closed(),
            Self::Two(requests) => requests.is_closed(),
        }
    }
}

impl Reporter {
    fn tell(&self, exchange: u64, what: What) {
        // Nobody listens any more when the script is over.
        let _ = self.sender.send(Happening { at: Instant::now(), who: self.who, exchange, what });
    }

    /// Waits for a response, and goes on with the WebSocket where it opened one.
    async fn follow(
        self,
        exchange: u64,
        response: impl Future<Output = hyper::Result<Response<hyper::body::Incoming>>>,
        to_write: UnboundedReceiver<Vec<u8>>,
    ) {
        let Ok(response) = response.await else { return self.tell(exchange, What::NoResponse) };
        let (status, headers) = (response.status(), response.headers().clone());
        if status == StatusCode::SWITCHING_PROTOCOLS {
            self.tell(exchange, What::Response(status, headers, Bytes::new()));
            let Ok(upgraded) = hyper::upgrade::on(response).await else { return self.tell(exchange, What::End) };
            if self.converse(exchange, TokioIo::new(upgraded), to_write).await.is_err() {
                self.tell(exchange, What::End);
            }
            return;
        }
        match response.into_body().collect().await {
            Ok(body) => self.tell(exchange, What::Response(status, headers, body.to_bytes())),
            Err(_) => self.tell(exchange, What::NoResponse),
        }
    }

    /// Reads and writes on a WebSocket until the server closes it, or the client hangs up. An error is a connection
    /// that ended without a close frame.
    async fn converse(
        &self,
        exchange: u64,
        stream: impl AsyncRead + AsyncWrite,
        mut to_write: UnboundedReceiver<Vec<u8>>,
    ) -> io::Result<()> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let read = async {
            loop {
                let frame = Frame::read(&mut reader).await?;
                let is_close = frame.first == CLOSE;
                self.tell(exchange, What::Frame(frame));
                if is_close {
                    return Ok(());
                }
            }
        };
        let write = async {
            while let Some(bytes) = to_write.recv().await {
                writer.write_all(&bytes).await?;
            }
            Ok(())
        };
        tokio::select! {
            read = read => read,
            write = write => write,
        }
    }
}
