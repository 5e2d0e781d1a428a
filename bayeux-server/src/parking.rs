//! Parking: an exchange that waits long for its response leaves hyper meanwhile.
//!
//! hyper keeps two buffers of 8 KiB and the state of its parser for a connection that waits. Of an exchange whose
//! request was read and forgotten, none of that is needed: the future that will yield the response, and the socket, are
//! enough. So a service may say, through [`Parking`], that it is at that point; the connection then drops hyper, and
//! waits by itself for the response or the end of the client, whichever is first.
//!
//! The response is written by hyper after all, which begins anew on the same socket. It knows no way to begin with a
//! response, so it first gets the shortest request there is, and the service answers that one with the response that is
//! there already. So status line, headers, framing, keep-alive, partial writes and errors are hyper's, the same as of
//! any other exchange, and whatever wraps the endpoint sees its response as ever.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{Either, Full as FullBody};
use hyper::body::Incoming;
use hyper::server::conn::http1::{Parts, UpgradeableConnection};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::context::PeerAddr;
use crate::socket::{Full, Socket};

/// Lets an exchange wait for its response at the least cost: an extension of those requests that allow it, which are
/// some of those that come through a [`Listener`](crate::Listener).
#[derive(Clone)]
pub struct Parking(Arc<AtomicBool>);

impl Parking {
    /// Says that the response will take long, and that the request was read to its end. What can be is freed as soon as
    /// the service's future waits; the future goes on.
    pub fn park(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Parking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parking").finish_non_exhaustive()
    }
}

/// The exchanges of one HTTP/1 connection, one after the other, as hyper calls and polls them.
pub(crate) struct Exchanges<S, F, B> {
    service: S,
    peer: PeerAddr,
    lot: Lot<F, B>,
}

/// The hold on the exchange in progress from outside hyper.
pub(crate) struct Lot<F, B> {
    current: Arc<Mutex<Current<F, B>>>,
    /// What [`Parking`] asks for.
    asked: Arc<AtomicBool>,
    full: Arc<Full>,
}

/// The exchange in progress.
pub(crate) enum Current<F, B> {
    None,
    /// The service's future.
    Served(Pin<Box<F>>),
    /// The response to one that was parked.
    Answered(Box<Response<B>>),
}

/// An exchange that left hyper, and all that its connection is meanwhile.
pub(crate) struct Parked<S, F, B> {
    stream: TcpStream,
    /// What was read behind its request.
    ahead: Bytes,
    future: Pin<Box<F>>,
    exchanges: Exchanges<S, F, B>,
}

impl<S, F, B> Exchanges<S, F, B> {
    pub(crate) fn new(service: S, peer: PeerAddr) -> Self {
        let lot = Lot { current: Arc::new(Mutex::new(Current::None)), asked: Arc::default(), full: Arc::default() };
        Self { service, peer, lot }
    }

    /// The socket as hyper is to have it: behind the bytes `ahead`.
    pub(crate) fn socket(&self, stream: TcpStream, ahead: Bytes) -> Socket {
        Socket::new(stream, ahead, Arc::clone(&self.lot.full))
    }

    pub(crate) fn lot(&self) -> Lot<F, B> {
        self.lot.clone()
    }
}

impl<F, B> Lot<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Serves with hyper until the connection ends, or an exchange is to be parked.
    pub(crate) fn poll_serve<S>(
        &self,
        cx: &mut Context<'_>,
        serving: Pin<&mut UpgradeableConnection<Socket, Exchanges<S, F, B>>>,
    ) -> Poll<hyper::Result<()>>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future = F> + Clone,
    {
        match serving.poll(cx) {
            // With bytes of an earlier response that hyper could not write yet, it cannot be left. It is polled again
            // once they are gone.
            Poll::Pending if self.is_asked() && !self.full.is_set() => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
            Poll::Ready(served) => {
                self.asked.store(false, Ordering::Relaxed);
                Poll::Ready(served)
            }
        }
    }

    /// Takes the exchange in progress out of hyper, if it is to be parked.
    pub(crate) fn park<S>(&self, serving: UpgradeableConnection<Socket, Exchanges<S, F, B>>) -> Option<Parked<S, F, B>>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future = F> + Clone,
    {
        if !self.asked.load(Ordering::Relaxed) {
            return None;
        }
        // Before hyper drops its end of it.
        let Current::Served(future) = lock(&self.current).take() else { return None };
        let Parts { io, read_buf, service: exchanges, .. } = serving.into_parts()?;
        let (stream, ahead) = io.into_parts();
        // Copied: they are slices of hyper's buffer, which is to be freed.
        let ahead = concat(&read_buf, &ahead);
        Some(Parked { stream, ahead, future, exchanges })
    }
}

impl<S, F, B> Parked<S, F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    /// Waits for the response. What is returned is for hyper, to write it and to go on; `None` where the client is gone.
    /// The connection ends with the response unless `keep_alive` says otherwise when it is there.
    pub(crate) async fn answered(mut self, keep_alive: impl FnOnce() -> bool) -> Option<(Socket, Exchanges<S, F, B>)> {
        let response = wait(&self.stream, self.future.as_mut()).await?;
        *lock(&self.exchanges.lot.current) = Current::Answered(Box::new(response));
        let request: &[u8] =
            if keep_alive() { b"POST / HTTP/1.1\r\n\r\n" } else { b"POST / HTTP/1.1\r\nConnection: close\r\n\r\n" };
        let socket = self.exchanges.socket(self.stream, concat(request, &self.ahead));
        Some((socket, self.exchanges))
    }
}

fn concat(first: &[u8], second: &[u8]) -> Bytes {
    if first.is_empty() && second.is_empty() { Bytes::new() } else { [first, second].concat().into() }
}

impl<F, B> Lot<F, B> {
    /// Whether the exchange in progress is to be parked. It may be answered since it asked: hyper polls it more than
    /// once at a time.
    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && matches!(*lock(&self.current), Current::Served(_))
    }
}

/// Only the connection's task takes it, except where it is dropped.
fn lock<F, B>(current: &Mutex<Current<F, B>>) -> MutexGuard<'_, Current<F, B>> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<F, B> Current<F, B> {
    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::None)
    }
}

/// Waits for a response while the client is there.
async fn wait<F, B>(stream: &TcpStream, mut future: Pin<&mut F>) -> Option<Response<B>>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    let mut watched = true;
    poll_fn(|cx| {
        // The client first: for one that is gone, nothing is to be taken out of the engine (rule Z-16).
        if watched {
            let mut byte = [0];
            match stream.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
                // As hyper does, a client that will send no more counts as gone.
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                // The next request has its turn after this one (rule TH-53), and stays where it is.
                Poll::Ready(Ok(_)) => watched = false,
                Poll::Pending => {}
            }
        }
        future.as_mut().poll(cx).map(|Ok(response)| Some(response))
    })
    .await
}

/// Whether a request names its host as it must: HTTP/1.1 once, HTTP/1.0 at most once, and as a host. So nobody on the
/// way takes it for another's.
fn names_host(request: &Request<Incoming>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let is_host = |host: &HeaderValue| {
        let host = host.as_bytes();
        host.is_empty() || !host.contains(&b'@') && Authority::try_from(host).is_ok()
    };
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host),
        (None, _) => request.version() != Version::HTTP_11,
        (Some(_), Some(_)) => false,
    }
}

/// Whether the exchange of a request may be parked: the request that hyper gets in its place must have the same meaning
/// for how the response is written.
fn may_park(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    request.version() == Version::HTTP_11
        && (request.method() == Method::POST || request.method() == Method::GET)
        && !headers.contains_key(UPGRADE)
        && headers.get_all(CONNECTION).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
}

impl<F, B> Clone for Lot<F, B> {
    fn clone(&self) -> Self {
        Self { current: Arc::clone(&self.current), asked: Arc::clone(&self.asked), full: Arc::clone(&self.full) }
    }
}

impl<S, F, B> hyper::service::Service<Request<Incoming>> for Exchanges<S, F, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future = F> + Clone,
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Response = Response<Either<B, FullBody<Bytes>>>;
    type Error = Infallible;
    type Future = Exchange<F, B>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let mut current = lock(&self.lot.current);
        if !matches!(*current, Current::Answered(_)) {
            self.lot.asked.store(false, Ordering::Relaxed);
            if !names_host(&request) {
                return Exchange::Refused;
            }
            if may_park(&request) {
                request.extensions_mut().insert(Parking(Arc::clone(&self.lot.asked)));
            }
            request.extensions_mut().insert(self.peer);
            *current = Current::Served(Box::pin(self.service.clone().call(request)));
        }
        drop(current);
        Exchange::Served(Arc::clone(&self.lot.current))
    }
}

/// The exchange in progress, as hyper polls it.
pub(crate) enum Exchange<F, B> {
    Served(Arc<Mutex<Current<F, B>>>),
    /// The request does not name its host.
    Refused,
}

impl<F, B> Future for Exchange<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<Either<B, FullBody<Bytes>>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self::Served(current) = &*self else {
            let mut response = Response::new(Either::Right(FullBody::from("One Host, Please")));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return Poll::Ready(Ok(response));
        };
        let mut current = lock(current);
        let polled = match current.take() {
            Current::Answered(response) => Poll::Ready(Ok(*response)),
            Current::Served(mut future) => {
                let polled = future.as_mut().poll(cx);
                if polled.is_pending() {
                    *current = Current::Served(future);
                }
                polled
            }
            Current::None => Poll::Pending,
        };
        polled.map_ok(|response| response.map(Either::Left))
    }
}

impl<F, B> Drop for Exchange<F, B> {
    /// The client is gone, and the service is to know it.
    fn drop(&mut self) {
        if let Self::Served(current) = self {
            let current = lock(current).take();
            drop(current);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::{BodyExt, Full};
    use hyper::server::conn::http1::Builder;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers late, and wants to be parked meanwhile.
    #[derive(Clone)]
    struct Late;

    type Answer = Result<Response<Full<Bytes>>, Infallible>;

    impl Service<Request<Incoming>> for Late {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Incoming>) -> Self::Future {
            let parking = request.extensions().get::<Parking>().cloned();
            Box::pin(async move {
                let _ = request.into_body().collect().await;
                parking.inspect(Parking::park);
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(Response::new(Full::from("late")))
            })
        }
    }

    /// Serves a client that sends `requests` and no more, and reads `responses`. Returns those, and how many exchanges
    /// were parked.
    async fn serve(requests: &str, responses: usize) -> (String, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let mut exchanges = Exchanges::new(Late, PeerAddr(peer));
        let mut socket = exchanges.socket(stream, Bytes::new());
        let lot = exchanges.lot();
        let mut count = 0;
        let serving = async {
            loop {
                let mut serving = Box::pin(Builder::new().serve_connection(socket, exchanges).with_upgrades());
                let _ = poll_fn(|cx| lot.poll_serve(cx, serving.as_mut())).await;
                let Some(parked) = lot.park(*Pin::into_inner(serving)) else { return };
                count += 1;
                let Some(answered) = parked.answered(|| true).await else { return };
                (socket, exchanges) = answered;
            }
        };
        let reading = async {
            client.write_all(requests.as_bytes()).await.unwrap();
            let mut read = Vec::new();
            while read.windows(4).filter(|window| window == b"late").count() < responses {
                assert!(client.read_buf(&mut read).await.unwrap() > 0, "{}", String::from_utf8_lossy(&read));
            }
            drop(client);
            String::from_utf8(read).unwrap()
        };
        let (read, ()) = tokio::join!(reading, serving);
        (read, count)
    }

    #[tokio::test]
    async fn exchanges_are_parked_where_nothing_speaks_against_it() {
        for (request, parked) in [
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n[]", 1),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n", 1),
            ("POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", 1),
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\n", 1),
            ("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 0),
            ("POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n", 0),
            ("POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 0),
            ("POST / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 0),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
            ("PUT / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
        ] {
            let (response, count) = serve(request, 1).await;
            assert_eq!(count, parked, "{request}");
            assert!(response.starts_with("HTTP/1.") && response.contains(" 200 OK\r\n"), "{response}");
            assert!(response.contains("content-length: 4\r\n") && response.contains("\r\ndate: "), "{response}");
        }
    }

    /// An exchange that is answered while hyper polls it stays there, and so does the connection.
    #[tokio::test]
    async fn exchange_that_was_answered_is_not_parked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let exchanges = Exchanges::new(Late, PeerAddr(peer));
        let lot = exchanges.lot();
        let mut serving = Box::pin(
            Builder::new().serve_connection(exchanges.socket(stream, Bytes::new()), exchanges).with_upgrades(),
        );
        lot.asked.store(true, Ordering::Relaxed);
        *lock(&lot.current) = Current::Served(Box::pin(Box::pin(async { Ok(Response::new(Full::from("late"))) })));
        Exchange::Served(Arc::clone(&lot.current)).await.unwrap();
        let served = poll_fn(|cx| Poll::Ready(lot.poll_serve(cx, serving.as_mut()))).await;
        assert!(served.is_pending());
    }

    #[tokio::test]
    async fn exchanges_are_parked_one_after_the_other() {
        let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n[]";
        let (responses, count) = serve(&request.repeat(5), 5).await;
        assert_eq!(count, 5);
        assert_eq!(responses.matches("HTTP/1.1 200 OK").count(), 5);
    }
}
