//! How WebSockets end: why, with which close code, and how long anybody waits for a client that does not read.

use std::future::{Future, poll_fn};
use std::io;
use std::task::Poll;
use std::time::Duration;

use bayeux_server::proto::DecodeError;
use bayeux_server::{CloseReason, Link};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Utf8Bytes, protocol::CloseFrame};

use crate::options::WsOptions;

/// How long the other side may take to answer a close, and a write that is under way to end when the connection is to
/// be closed.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// What is read and thrown away of a client that still sends when its connection is closed: otherwise the operating
/// system would reset the connection, and the client might never see why.
const DISCARD_MAX: u64 = 16 * 1024 * 1024;

/// Why a conversation ends.
#[derive(Debug)]
pub(crate) enum End {
    /// The connection is gone, or as good as gone.
    Gone,
    /// The client closes it, and its close is to be answered.
    Bidden,
    /// It is to be closed with this.
    Close(CloseCode, &'static str),
}

/// The outer error: it took too long.
pub(crate) type Written = Result<Result<(), Error>, Elapsed>;

/// Waits for a write, but no longer than a client may be silent, and hardly at all once the connection is to be closed.
pub(crate) async fn patiently(
    writing: impl Future<Output = Result<(), Error>>,
    link: &mut Link,
    options: &WsOptions,
) -> Written {
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

/// What a write that was waited for means for the connection.
pub(crate) fn settled(written: Written) -> Result<(), End> {
    match written {
        Ok(Ok(())) => Ok(()),
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

/// The close that the engine asks for (rules TW-20, TW-22 to TW-24).
pub(crate) fn closing(reason: CloseReason) -> End {
    match reason {
        CloseReason::HandshakeInBatch => End::Close(CloseCode::Policy, "Handshake Must Be Alone"),
        CloseReason::Flooded => End::Close(CloseCode::Policy, "Too Many Messages"),
        CloseReason::SessionRemoved => End::Close(CloseCode::Normal, "Destroy"),
        CloseReason::Stopping => End::Close(CloseCode::Away, "Stopping"),
        CloseReason::Lingered | CloseReason::ConnectReplaced | _ => End::Close(CloseCode::Normal, "Disconnect"),
    }
}

/// The close that answers what is no envelope (rule TW-20).
pub(crate) fn not_an_envelope(error: &DecodeError) -> End {
    tracing::debug!(%error, "not an envelope");
    End::Close(CloseCode::from(error.close_code()), "Not Bayeux Messages")
}

/// The close that answers what is no WebSocket, or too much of one (rules TW-21, TW-28).
pub(crate) fn failed(error: &Error) -> End {
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
pub(crate) async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(
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
