//! HTTP/1 connections of a listener.
//!
//! Nearly all that Bayeux clients send is a small `POST` that arrives whole. Such exchanges are served here, straight on
//! the socket: [`request`] takes one out of what was read, the service answers it, [`response`] writes the answer. A
//! connection that waits, for its next request or for the response to a held connect, has no buffers.
//!
//! Everything else is served by [`full`], with hyper, which gets what was read as if nobody had looked at it. An
//! exchange that begins there and is held leaves it again, unless hyper knows something of its response that we do not.

mod full;
mod request;
mod response;
mod socket;

use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::server::conn::http1::Builder;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::coop::consume_budget;
use tokio::time::timeout;
use tower_service::Service;

use crate::body::RequestBody;
use crate::context::PeerAddr;
use crate::listener::until_stopped;
use request::Read;
use response::WriteError;

pub use full::Parking;
pub use socket::upgraded_socket;

/// How long each further part of a request may take, and in how many parts it may come, before it is left to hyper, which
/// knows what to say to slow clients, and need not begin anew with each part.
const PART_TIMEOUT: Duration = Duration::from_millis(200);
const PARTS_MAX: u32 = 4;

thread_local! {
    /// What is read in one go. Each thread has one such buffer, and connections none.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; request::SIZE_MAX].into_boxed_slice());
}

/// What serves requests: a `tower` service.
pub(crate) trait Serve: Clone + Send + 'static {
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;
    type Exchange: Future<Output = Result<Response<Self::Body>, Infallible>> + Send + 'static;

    fn exchange(&self, request: Request<RequestBody>) -> Self::Exchange;
}

impl<S, B> Serve for S
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Body = B;
    type Exchange = S::Future;

    fn exchange(&self, request: Request<RequestBody>) -> S::Future {
        self.clone().call(request)
    }
}

/// How connections are served.
#[derive(Debug)]
pub(crate) struct Http1 {
    pub(crate) hyper: Builder,
    /// How long a request's headers may take, the wait for it included, and how long a client may take nothing of a
    /// response.
    pub(crate) header_read_timeout: Duration,
}

/// A connection between two exchanges.
pub(crate) struct Connection<S> {
    pub(crate) stream: TcpStream,
    /// What was read and not used yet.
    pub(crate) ahead: Bytes,
    pub(crate) service: S,
    pub(crate) peer: PeerAddr,
    pub(crate) stopping: watch::Receiver<bool>,
}

/// What a connection has next.
#[allow(clippy::large_enum_variant, reason = "nearly always it is the large one, which is moved on at once")]
enum Next {
    Request(Request<RequestBody>),
    /// Something for hyper, in what was read.
    Other,
    /// Nothing: the client is gone, or silent for too long.
    End,
}

impl<S: Serve> Connection<S> {
    /// Serves the connection to its end.
    #[allow(clippy::manual_async_fn, reason = "an async function would have room for the connection twice")]
    pub(crate) fn serve(mut self, http: &Http1) -> impl Future<Output = Result<(), WriteError>> + Send {
        async move {
            loop {
                let plain = match self.next(http).await {
                    Next::Request(mut request) => {
                        request.extensions_mut().insert(self.peer);
                        // Boxed, so that a connection has no room for it while there is none.
                        Some(Box::pin(self.service.exchange(request)))
                    }
                    Next::Other => None,
                    Next::End => return Ok(()),
                };
                let exchange = match plain {
                    Some(exchange) => exchange,
                    None => {
                        // Boxed for the same reason.
                        let Some((connection, held)) = Box::pin(full::serve(self, http)).await? else { return Ok(()) };
                        self = connection;
                        held
                    }
                };
                let Some(response) = answer(&self.stream, exchange).await else { return Ok(()) };
                let last = *self.stopping.borrow();
                if !response::write(&self.stream, response, last, http.header_read_timeout).await? {
                    return Ok(());
                }
                // A client that sends many requests at once is not to keep others waiting.
                consume_budget().await;
            }
        }
    }

    /// Waits for the next request.
    async fn next(&mut self, http: &Http1) -> Next {
        let Self { stream, ahead, stopping, .. } = self;
        let next = timeout(http.header_read_timeout, async {
            let mut parts = 0;
            loop {
                match request::take(ahead) {
                    Read::Request(request) => return Next::Request(request),
                    Read::Other => return Next::Other,
                    Read::Part => {}
                }
                let reading = poll_fn(|cx| poll_read(stream, ahead, cx));
                let read = match parts {
                    0 => Ok(reading.await),
                    // Boxed, so that a connection that waits for a request has no room for it.
                    1..PARTS_MAX => Box::pin(timeout(PART_TIMEOUT, reading)).await,
                    _ => return Next::Other,
                };
                match read {
                    Ok(Ok(0) | Err(_)) => return Next::End,
                    Ok(Ok(_)) => parts += 1,
                    Err(_) => return Next::Other,
                }
            }
        });
        let next = until_stopped(next, stopping).await;
        // Whoever has begun a request gets an answer, if only that it came too late.
        let otherwise = if self.ahead.is_empty() { Next::End } else { Next::Other };
        next.and_then(Result::ok).unwrap_or(otherwise)
    }
}

/// Reads once, to the end of `ahead`. Says how much; 0 is the end of the stream.
fn poll_read(stream: &mut TcpStream, ahead: &mut Bytes, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    READ.with_borrow_mut(|buffer| {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        let read = read.filled();
        *ahead = if ahead.is_empty() { Bytes::copy_from_slice(read) } else { [ahead, read].concat().into() };
        Poll::Ready(Ok(read.len()))
    })
}

/// Waits for the response to a request while the client is there.
async fn answer<F, B>(stream: &TcpStream, mut exchange: Pin<Box<F>>) -> Option<Response<B>>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    // Most are answered at once, and who sends a request and then the end of the stream is answered, too.
    if let Poll::Ready(Ok(response)) = poll_fn(|cx| Poll::Ready(exchange.as_mut().poll(cx))).await {
        return Some(response);
    }
    let mut watched = true;
    poll_fn(|cx| {
        // The client first: for one that is gone, nothing is to be taken out of the engine (rule Z-16).
        if watched {
            let mut byte = [0];
            match stream.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
                // As for hyper, a client that will send no more counts as gone.
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                // The next request has its turn after this one (rule TH-53), and stays where it is.
                Poll::Ready(Ok(_)) => watched = false,
                Poll::Pending => {}
            }
        }
        exchange.as_mut().poll(cx).map(|Ok(response)| Some(response))
    })
    .await
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers late, and wants to be parked meanwhile. Says how long the request's body was.
    #[derive(Clone)]
    struct Late;

    impl Service<Request<RequestBody>> for Late {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
            let parking = request.extensions().get::<Parking>().cloned();
            let peer = request.extensions().get::<PeerAddr>().copied();
            Box::pin(async move {
                let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                parking.inspect(Parking::park);
                tokio::time::sleep(Duration::from_millis(20)).await;
                assert!(peer.is_some(), "every request says whose it is");
                Ok(Response::new(Full::from(format!("late{}", body.len()))))
            })
        }
    }

    /// A connection that is served, and its client.
    struct Stage {
        client: TcpStream,
        stop: watch::Sender<bool>,
        read: Vec<u8>,
    }

    impl Stage {
        async fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, peer) = listener.accept().await.unwrap();
            let (stop, stopping) = watch::channel(false);
            let mut hyper = Builder::new();
            hyper.timer(hyper_util::rt::TokioTimer::new());
            let http = Http1 { hyper, header_read_timeout: Duration::from_secs(1) };
            let connection = Connection { stream, ahead: Bytes::new(), service: Late, peer: PeerAddr(peer), stopping };
            tokio::spawn(async move { connection.serve(&http).await });
            Self { client, stop, read: Vec::new() }
        }

        async fn send(&mut self, text: &str) {
            self.client.write_all(text.as_bytes()).await.unwrap();
        }

        /// What is read until there are that many responses.
        async fn responses(&mut self, count: usize) -> String {
            while self.read.windows(4).filter(|window| window == b"late").count() < count {
                let read = self.client.read_buf(&mut self.read).await.unwrap();
                assert!(read > 0, "{}", String::from_utf8_lossy(&self.read));
            }
            String::from_utf8(std::mem::take(&mut self.read)).unwrap()
        }

        /// What is read to the end.
        async fn rest(mut self) -> String {
            self.client.read_to_end(&mut self.read).await.unwrap();
            String::from_utf8(self.read).unwrap()
        }
    }

    const PLAIN: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n[]";

    /// Connections are many, and nearly all of them wait.
    #[tokio::test]
    async fn connections_are_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let (_stop, stopping) = watch::channel(false);
        let http = Http1 { hyper: Builder::new(), header_read_timeout: Duration::from_secs(1) };
        let connection = Connection { stream, ahead: Bytes::new(), service: Late, peer: PeerAddr(peer), stopping };
        let size = size_of_val(&connection.serve(&http));
        assert!(size <= 500, "{size} bytes, beside what a held exchange takes");
    }

    /// Whoever serves it, a response looks the same.
    #[tokio::test]
    async fn requests_of_any_form_are_answered_alike() {
        for (request, body) in [
            (PLAIN, 2),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n", 2),
            ("POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", 0),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
            ("PUT / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
        ] {
            let mut stage = Stage::new().await;
            for _ in 0..2 {
                stage.send(request).await;
                let response = stage.responses(1).await;
                let (head, date) = response.split_once("date: ").unwrap();
                assert_eq!(head, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n", "{request}");
                assert!(date.ends_with(&format!(" GMT\r\n\r\nlate{body}")), "{request}: {date}");
            }
        }
    }

    #[tokio::test]
    async fn requests_that_end_a_connection_do() {
        let chunked = "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        for request in [
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n",
            "POST / HTTP/1.0\r\n\r\n",
            // What two programs may take for different requests (RFC 9112, 6.1).
            &format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{chunked}{PLAIN}"),
        ] {
            let mut stage = Stage::new().await;
            stage.send(request).await;
            let response = stage.rest().await;
            assert!(response.contains(" 200 OK\r\n") && response.ends_with("late0"), "{response}");
        }
    }

    #[tokio::test]
    async fn requests_behind_a_late_response_have_their_turn() {
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n";
        let mut stage = Stage::new().await;
        stage.send(&format!("{}{}{PLAIN}", PLAIN.repeat(3), chunked.repeat(2))).await;
        let responses = stage.responses(6).await;
        assert_eq!(responses.matches("HTTP/1.1 200 OK\r\n").count(), 6);
        assert_eq!(responses.matches("late2").count(), 6);
    }

    #[tokio::test]
    async fn request_may_come_in_pieces() {
        for pause in [Duration::ZERO, Duration::from_millis(5)] {
            let mut stage = Stage::new().await;
            for byte in PLAIN.chars() {
                stage.send(&byte.to_string()).await;
                tokio::time::sleep(pause).await;
            }
            assert!(stage.responses(1).await.ends_with("late2"));
        }
        // Too long for this server's own patience, but not for hyper's.
        let (first, last) = PLAIN.split_at(40);
        let mut stage = Stage::new().await;
        stage.send(first).await;
        tokio::time::sleep(PART_TIMEOUT * 2).await;
        stage.send(last).await;
        assert!(stage.responses(1).await.ends_with("late2"));
    }

    #[tokio::test]
    async fn client_that_says_nothing_is_let_go() {
        let stage = Stage::new().await;
        assert_eq!(stage.rest().await, "");
        let mut stage = Stage::new().await;
        stage.send(PLAIN).await;
        stage.responses(1).await;
        assert_eq!(stage.rest().await, "");
    }

    #[tokio::test]
    async fn server_that_stops_lets_idle_clients_go_and_answers_others() {
        let mut stage = Stage::new().await;
        stage.send(PLAIN).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        stage.stop.send(true).unwrap();
        let response = stage.rest().await;
        assert!(response.contains("connection: close\r\n") && response.ends_with("late2"), "{response}");
        let mut stage = Stage::new().await;
        stage.send(PLAIN).await;
        stage.responses(1).await;
        stage.stop.send(true).unwrap();
        assert_eq!(stage.rest().await, "");
    }
}
