//! A listener: accepts connections and serves them.

use std::any::Any;
use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tower_service::Service;

use crate::body::RequestBody;
use crate::context::PeerAddr;
use crate::endpoint::Endpoint;
use crate::http1::{Connection, Http1, Line, Serve, Site};
use crate::server::Server;

/// Accepts TCP connections and serves HTTP/1.1 (keep-alive, pipelining, upgrades) and HTTP/2 by prior knowledge on
/// them.
///
/// # Example
///
/// ```no_run
/// use bayeux_server::{Config, Endpoint, Listener, Server};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder(Config::default()).build()?;
/// let endpoint = Endpoint::new(server.clone()).at("/cometd"); // and .with(...) the transports
/// let listener = Listener::bind("127.0.0.1:8080").await?;
/// listener.serve(server, endpoint, std::future::pending()).await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    options: ListenerOptions,
    endpoints: Vec<Endpoint>,
}

/// Options of a [`Listener`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerOptions {
    /// Connections open at once; further ones wait to be accepted. Default: 1,000,000, so that memory and descriptors
    /// are the limits that matter (ours).
    pub connections_max: usize,
    /// How long a request's headers may take to arrive, the wait between requests of a connection included, and how long
    /// a client may take nothing of its response. Default: 60 s: longer than clients keep idle connections, shorter than
    /// a slow attacker would like (ours).
    pub header_read_timeout: Duration,
    /// Bytes that hyper buffers of a connection at most. Default: 64 KiB, enough for the headers of any browser (ours).
    pub buffer_size_max: usize,
    /// Streams open at once on one HTTP/2 connection. Default: 1,000: a proxy puts many clients on one (ours).
    pub http2_streams_max: u32,
    /// How long connections may take to finish after the server was told to stop. Default: 5 s (ours).
    pub drain_timeout: Duration,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            connections_max: 1_000_000,
            header_read_timeout: Duration::from_secs(60),
            buffer_size_max: 64 * 1024,
            http2_streams_max: 1_000,
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// Connections that may wait to be accepted. With the usual 128 a burst of clients, after a restart say, loses its SYNs
/// and waits a second to repeat them.
const BACKLOG: u32 = 4_096;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As tokio's own `bind`: a restart need not wait for connections of the last run to time out.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Listener {
    /// Listens on an address; port 0 chooses one.
    ///
    /// # Errors
    /// Where the address is in use, or may not be used.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        let mut refused = io::Error::new(io::ErrorKind::InvalidInput, "the address names nothing to listen on");
        for address in tokio::net::lookup_host(address).await? {
            match listen(address) {
                Ok(tcp) => return Ok(Self::new(tcp)),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Takes over a listener.
    pub fn new(tcp: TcpListener) -> Self {
        Self { tcp, options: ListenerOptions::default(), endpoints: Vec::new() }
    }

    /// Gives small `POST`s to these endpoints to them straight, and has their responses written by whoever makes them,
    /// which spares an exchange a quarter of its instructions and a wake-up. For a service that only chooses between
    /// endpoints and something else: whatever is around an endpoint in there has no part in these exchanges. It can
    /// neither log nor refuse them, nor give them extensions, such as a principal or [`OverTls`](crate::OverTls).
    ///
    /// Each with its whole path ([`Endpoint::at`](crate::Endpoint::at)): without one it takes every small `POST` there
    /// is. A router that takes the path off has one without inside: name `endpoint.clone().at("/cometd")` here. Of
    /// several that take a path the first counts. An endpoint that is served by itself need not be named.
    #[must_use]
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        self.endpoints.extend(endpoints);
        self
    }

    /// With other options.
    #[must_use]
    pub fn options(mut self, options: ListenerOptions) -> Self {
        self.options = options;
        self
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// Where the operating system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `stop` is done, then drains: accepts no more, has the server answer held connects and close its
    /// WebSockets, and waits for all that up to [`ListenerOptions::drain_timeout`].
    ///
    /// `service` is an [`Endpoint`](crate::Endpoint), or anything around one; requests carry their [`PeerAddr`].
    pub async fn serve<S, B>(self, server: Server, service: S, stop: impl Future<Output = ()>)
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let Self { tcp, options, mut endpoints } = self;
        endpoints.extend((&service as &dyn Any).downcast_ref::<Endpoint>().cloned());
        let site = Site { service, endpoints: endpoints.into() };
        let http = Arc::new(Http::new(&options));
        let permits = Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS)));
        // Each connection holds a receiver: it hears of the stop, and its end is seen when all are dropped.
        let (stopping, stopped) = watch::channel(false);
        let mut stop = pin!(stop);
        loop {
            let accept = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, tcp.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = &mut stop => break,
                accepted = accept => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Small messages that must not wait for an acknowledgement. Where it fails, the connection is dead
                    // already.
                    let _ = stream.set_nodelay(true);
                    let (input, line) = Line::new(stream, stopped.clone());
                    let service = site.clone();
                    let connection = Connection { input, line, ahead: Bytes::new(), service, peer: PeerAddr(peer) };
                    tokio::spawn(serve_connection(Arc::clone(&http), connection, permit));
                }
                Err(error) => accept_failed(&error).await,
            }
        }
        drop((tcp, stopped));
        // Nobody listens any more where no connection is open.
        let _ = stopping.send(true);
        let deadline = tokio::time::Instant::now() + options.drain_timeout;
        server.shutdown(options.drain_timeout).await;
        if tokio::time::timeout_at(deadline, stopping.closed()).await.is_err() {
            tracing::warn!(connections = stopping.receiver_count(), "connections are cut at the deadline");
        }
    }
}

/// How connections are served.
struct Http {
    one: Http1,
    two: http2::Builder<TokioExecutor>,
}

impl Http {
    fn new(options: &ListenerOptions) -> Self {
        let mut hyper = http1::Builder::new();
        hyper
            .timer(TokioTimer::new())
            .header_read_timeout(options.header_read_timeout)
            .max_buf_size(options.buffer_size_max.max(BUFFER_SIZE_MIN));
        let one = Http1 { hyper, header_read_timeout: options.header_read_timeout };
        let mut two = http2::Builder::new(TokioExecutor::new());
        two.timer(TokioTimer::new()).max_concurrent_streams(options.http2_streams_max);
        Self { one, two }
    }
}

/// The least that hyper takes.
const BUFFER_SIZE_MIN: usize = 8 * 1024;

/// Serves a connection, which has a `permit` until it ends.
#[allow(clippy::manual_async_fn, reason = "an async function would have room for its arguments twice")]
fn serve_connection<S: Serve>(
    http: Arc<Http>,
    connection: Connection<S>,
    permit: Result<OwnedSemaphorePermit, AcquireError>,
) -> impl Future<Output = ()> + Send {
    async move {
        let PeerAddr(peer) = connection.peer;
        // A client that has asked for nothing yet keeps nobody from stopping.
        let first_bytes = timeout(http.one.header_read_timeout, is_http2(connection.line.socket()));
        let Some(Ok(Ok(is_http2))) = until_stopped(first_bytes, &mut connection.line.stopping()).await else { return };
        let served = if is_http2 {
            // Boxed, so that the task has room for the one that it is.
            Box::pin(serve_http2(&http.two, connection)).await.map_err(Into::into)
        } else {
            connection.serve(&http.one).await
        };
        if let Err(error) = served {
            // Bytes that are not HTTP, a client that went away: everyday events of a server on the internet.
            tracing::debug!(%peer, %error, "connection failed");
        }
        drop(permit);
    }
}

async fn serve_http2<S: Serve>(http: &http2::Builder<TokioExecutor>, connection: Connection<S>) -> hyper::Result<()> {
    let Connection { input, line, service, peer, .. } = connection;
    let mut stopping = line.stopping();
    let Some(stream) = line.into_socket(input).await else { return Ok(()) };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        service.exchange(request.map(RequestBody::new))
    });
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
    if let Some(served) = until_stopped(serving.as_mut(), &mut stopping).await {
        return served;
    }
    serving.as_mut().graceful_shutdown();
    serving.await
}

/// Whether a connection begins as HTTP/2 by prior knowledge does. Looks without reading: hyper would make its buffer
/// twice as large for what is handed to it in two parts.
async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    // No other method begins so.
    const PREFACE: &[u8; 3] = b"PRI";
    let mut start = [0; PREFACE.len()];
    // A second in all: whoever takes longer for three bytes is no HTTP/2 client.
    for _ in 0..100 {
        let length = stream.peek(&mut start).await?;
        if length == 0 || !PREFACE.starts_with(&start[..length]) {
            return Ok(false);
        }
        if length == PREFACE.len() {
            return Ok(true);
        }
        // One or two bytes, `P` or `PR`: nothing tells when a third is there. Clients do not send like this, so that
        // nobody has room for it.
        Box::pin(tokio::time::sleep(Duration::from_millis(10))).await;
    }
    Ok(false)
}

/// Runs `serving` to its end, or until the listener stops.
pub(crate) fn until_stopped<T>(
    serving: impl Future<Output = T>,
    stopping: &mut watch::Receiver<bool>,
) -> impl Future<Output = Option<T>> {
    // No async function: it would have room for `serving` twice, once where it is before it is first polled.
    UntilStopped { serving, stopped: stopping.wait_for(|&stopping| stopping) }
}

pin_project! {
    struct UntilStopped<F, W> {
        #[pin]
        serving: F,
        #[pin]
        stopped: W,
    }
}

impl<F: Future, W: Future> Future for UntilStopped<F, W> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // First, since hyper does not answer what it has not read when it is told to stop.
        if let Poll::Ready(served) = this.serving.poll(cx) {
            return Poll::Ready(Some(served));
        }
        // An error is as good: the listener is gone.
        this.stopped.poll(cx).map(|_| None)
    }
}

async fn accept_failed(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        // Not a client that was gone before it was accepted. Out of descriptors, most likely: without a pause this
        // would be a busy loop until one is free.
        tracing::error!(%error, "cannot accept connections");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
