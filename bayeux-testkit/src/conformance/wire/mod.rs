//! Bytes: HTTP/1.1, HTTP/2 and WebSocket, written so that a case can also say what no library would let it say.
//!
//! Whatever the server sends, reading ends: each read has a deadline, and what is kept of it has a limit.

mod dial;
mod http1;
mod http2;
mod websocket;

use std::io;
use std::time::Duration;

pub(super) use dial::{Dialer, Protocol, Stream};
pub(super) use http1::{Http1, Request, Response};
pub(super) use http2::Http2;
pub(super) use websocket::{Frame, Opcode, WebSocket, encode};

/// What is kept of an answer: no honest one comes near.
const HEAD_MAX: usize = 256 << 10;
const BODY_MAX: usize = 64 << 20;

/// Why no answer could be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("the server closed the connection without an answer")]
    Closed,
    #[error("no answer within {}", human(*.0))]
    Silent(Duration),
    #[error("cannot connect to the server: {0}")]
    Connect(io::Error),
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("the server's answer is not {protocol}: {what}")]
    Malformed { protocol: &'static str, what: String },
    #[error("the server refused the WebSocket with HTTP status {status}")]
    NotUpgraded { status: u16 },
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Closed } else { Self::Broken(error) }
    }
}

/// `1.5 s`, `300 ms`.
pub(super) fn human(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{} s", duration.as_millis() as f64 / 1000.0)
    }
}

/// Waits for `future`, but not for ever.
pub(super) async fn within<T>(patience: Duration, future: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
    tokio::time::timeout(patience, future).await.unwrap_or(Err(Lost::Silent(patience)))
}
