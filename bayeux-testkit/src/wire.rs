//! In-memory connections, as a client sees them.

use std::collections::VecDeque;

use bayeux_core::{ConnectionKey, ShardId, Time, Transport};
use bayeux_proto::Batch;
use serde_json::Value;

/// A browser of a [`World`](crate::World): a cookie jar. Sessions of one jar count together (rule TH-30).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BrowserKey(pub(crate) usize);

/// One HTTP exchange of a [`World`](crate::World).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExchangeKey(pub(crate) usize);

/// One WebSocket of a [`World`](crate::World).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketKey(pub(crate) usize);

/// One envelope from the server: an HTTP body or a WebSocket frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// When it had left the server.
    pub at: Time,
    /// The bytes, which are JSON.
    pub text: String,
    /// The messages in it.
    pub messages: Vec<Value>,
}

impl Envelope {
    /// The events in it: messages that are no replies.
    pub fn events(&self) -> impl Iterator<Item = &Value> {
        self.messages.iter().filter(|message| message.get("successful").is_none())
    }

    /// The replies in it.
    pub fn replies(&self) -> impl Iterator<Item = &Value> {
        self.messages.iter().filter(|message| message.get("successful").is_some())
    }
}

/// What became of an HTTP exchange.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Nothing yet: the server holds it, or is still writing.
    Held,
    /// Status 200 with a body.
    Answered(Envelope),
    /// Another status, without body.
    Status(u16),
    /// The client gave up.
    Aborted,
}

/// One HTTP exchange: a request with one envelope, and its response.
#[derive(Debug)]
pub struct Exchange {
    pub(crate) browser: BrowserKey,
    pub(crate) conn: Option<ConnectionKey>,
    pub(crate) http: Http,
    /// The browser cookie that came with the request.
    pub(crate) cookie_sent: Option<String>,
    /// What was sent.
    pub request: String,
    /// When.
    pub sent_at: Time,
    /// What became of it.
    pub outcome: Outcome,
    /// The browser cookie that the response set.
    pub cookie: Option<String>,
    /// When the outcome was known.
    pub ended_at: Option<Time>,
}

impl Exchange {
    /// Whether there is no outcome yet.
    pub fn is_held(&self) -> bool {
        self.outcome == Outcome::Held
    }

    /// The messages of the response.
    ///
    /// # Panics
    /// Where there is no response, or one without body.
    pub fn messages(&self) -> &[Value] {
        match &self.outcome {
            Outcome::Answered(envelope) => &envelope.messages,
            other @ (Outcome::Held | Outcome::Status(_) | Outcome::Aborted) => {
                panic!("{} has no body: {other:?}", self.request)
            }
        }
    }

    /// The status, or `None` where there is no response.
    pub fn status(&self) -> Option<u16> {
        match self.outcome {
            Outcome::Answered(_) => Some(200),
            Outcome::Status(status) => Some(status),
            Outcome::Held | Outcome::Aborted => None,
        }
    }
}

/// How a WebSocket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The server closed it.
    ByServer {
        /// Close code.
        code: u16,
        /// Why, in a word.
        reason: &'static str,
    },
    /// The client did, or the network.
    ByClient,
}

/// One WebSocket: what the client received on it.
#[derive(Debug)]
pub struct Socket {
    pub(crate) conn: ConnectionKey,
    pub(crate) shard: ShardId,
    /// Envelopes that the server does not read yet.
    pub(crate) inbox: VecDeque<Batch>,
    /// Frames received, oldest first.
    pub frames: Vec<Envelope>,
    /// How it ended, unless it is open.
    pub ended: Option<Ended>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// How often it moved to another shard.
    pub moves: usize,
}

impl Socket {
    /// Whether neither side has closed it.
    pub fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    /// All messages received, oldest first.
    pub fn messages(&self) -> Vec<Value> {
        self.frames.iter().flat_map(|frame| frame.messages.clone()).collect()
    }

    /// Envelopes that the server has not read.
    pub fn unread(&self) -> usize {
        self.inbox.len()
    }
}

/// How a request travels over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http {
    /// Long-polling or callback-polling.
    pub transport: Transport,
    /// Whether it is HTTP/2 (rule O-26).
    pub http2: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self { transport: Transport::LongPolling, http2: false }
    }
}
