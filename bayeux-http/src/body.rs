//! Reading a request's body, bounded in size and time.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bayeux_server::RequestBody;
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// Longer than allowed (rule TH-44).
    TooLarge,
    /// Not all there in time.
    TooSlow,
    /// It ended early, or its framing was wrong.
    Broken,
}

/// What is read and thrown away of a body that is too large: over HTTP/2 a response that comes before the end of its
/// request looks to many clients like a broken stream. A body beyond that is cut.
const DISCARD_MAX: usize = 64 * 1024 * 1024;

/// Reads a body to its end, or a good part of it, for the sake of the client that sends it.
pub(crate) async fn discard(mut body: RequestBody, within: Duration) {
    let all = async {
        let mut left = DISCARD_MAX;
        while let Ok(Some(piece)) = next(&mut body).await {
            let Some(rest) = left.checked_sub(piece.len()) else { return };
            left = rest;
        }
    };
    // Too slow is as good as read: the answer is the same.
    let _ = tokio::time::timeout(within, all).await;
}

/// Reads all of a body. Up to one piece beyond `limit` is held.
pub(crate) async fn read(body: &mut RequestBody, limit: usize, within: Duration) -> Result<Bytes, ReadError> {
    // Refused before a byte of it is asked for: a client that expects `100 Continue` need not send it.
    if body.size_hint().lower() > limit as u64 {
        return Err(ReadError::TooLarge);
    }
    let mut reading = pin!(read_all(body, limit));
    // Nearly always all of it is there, and no time needs to be taken.
    if let Poll::Ready(read) = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await {
        return read;
    }
    tokio::time::timeout(within, reading).await.unwrap_or(Err(ReadError::TooSlow))
}

async fn read_all(body: &mut RequestBody, limit: usize) -> Result<Bytes, ReadError> {
    // Most bodies come in one piece, which is used as it is.
    let Some(first) = next(body).await? else { return Ok(Bytes::new()) };
    if first.len() > limit {
        return Err(ReadError::TooLarge);
    }
    let Some(second) = next(body).await? else { return Ok(first) };
    // The length that the client declared is reserved as far as it was sent already, so that declaring costs nothing.
    let mut all = BytesMut::with_capacity((first.len() + second.len()) * 2);
    all.extend_from_slice(&first);
    let mut piece = Some(second);
    while let Some(bytes) = piece {
        if all.len() + bytes.len() > limit {
            return Err(ReadError::TooLarge);
        }
        all.extend_from_slice(&bytes);
        piece = next(body).await?;
    }
    Ok(all.freeze())
}

/// The next piece of data that is not empty; `None` at the end.
async fn next(body: &mut RequestBody) -> Result<Option<Bytes>, ReadError> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => {
                tracing::debug!(%error, "body broken");
                return Err(ReadError::Broken);
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                // Trailers say nothing to us.
                Err(_) => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn pieces(pieces: &[&'static str]) -> RequestBody {
        let frames: Vec<_> = pieces
            .iter()
            .map(|p| Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from_static(p.as_bytes()))))
            .collect();
        RequestBody::new(StreamBody::new(futures_util::stream::iter(frames)))
    }

    #[tokio::test]
    async fn body_comes_in_whatever_pieces() {
        let read = read(&mut pieces(&["", "[{", "", "}", "]"]), 10, Duration::from_secs(1)).await;
        assert_eq!(read, Ok(Bytes::from_static(b"[{}]")));
    }

    /// TH-44: `maxMessageSize` exceeded, whether the length is declared or not.
    #[tokio::test]
    async fn body_over_the_limit_is_refused() {
        let limit = 4;
        let mut declared = RequestBody::new(Full::new(Bytes::from_static(b"[{ }]")));
        assert_eq!(read(&mut declared, limit, Duration::from_secs(1)).await, Err(ReadError::TooLarge));
        assert_eq!(read(&mut pieces(&["[{", " }]"]), limit, Duration::from_secs(1)).await, Err(ReadError::TooLarge));
        assert_eq!(read(&mut pieces(&["[{ }]"]), limit, Duration::from_secs(1)).await, Err(ReadError::TooLarge));
        assert_eq!(
            read(&mut pieces(&["[{", "}]"]), limit, Duration::from_secs(1)).await,
            Ok(Bytes::from_static(b"[{}]"))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn slow_body_is_given_up() {
        let never = StreamBody::new(futures_util::stream::pending::<Result<_, std::io::Error>>());
        let read = read(&mut RequestBody::new(never), 10, Duration::from_secs(30)).await;
        assert_eq!(read, Err(ReadError::TooSlow));
    }

    #[tokio::test]
    async fn body_that_breaks_off_is_refused() {
        let end = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let broken = StreamBody::new(futures_util::stream::iter([
            Ok(http_body::Frame::data(Bytes::from_static(b"[{"))),
            Err(end),
        ]));
        assert_eq!(read(&mut RequestBody::new(broken), 10, Duration::from_secs(1)).await, Err(ReadError::Broken));
    }
}
