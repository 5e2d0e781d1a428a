//! Whatever HTTP/1 allows, with hyper; and the way out of it for exchanges that are held.
//!
//! hyper keeps two buffers of 8 KiB and the state of its parser for a connection that waits. Of an exchange whose
//! request was read and forgotten, none of that is needed: the future that will yield the response, and the socket, are
//! enough. So a service may say, through [`Parking`], that it is at that point; the connection then drops hyper.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{TRANSFER_ENCODING, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{Either, Full as FullBody};
use hyper::body::Incoming;
use hyper::server::conn::http1::{Parts, UpgradeableConnection};

use super::request::{keeps_alive, names_host};
use super::socket::{Full, Socket};
use super::{Connection, Http1, Line, Serve};
use crate::body::RequestBody;
use crate::context::PeerAddr;
use crate::listener::until_stopped;

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

/// An exchange in progress, with the service.
type Served<S> = Pin<Box<<S as Serve>::Exchange>>;

/// Serves a connection with hyper, until it ends or an exchange is parked: that one, and the connection, which may go on
/// once it is answered.
pub(super) async fn serve<S: Serve>(
    connection: Connection<S>,
    http: &Http1,
) -> hyper::Result<Option<(Connection<S>, Served<S>)>> {
    let Connection { input, line, ahead, service, peer } = connection;
    let mut stopping = line.stopping();
    let Some(stream) = line.into_socket(input).await else { return Ok(None) };
    let lot = Lot { current: Arc::default(), asked: Arc::default(), full: Arc::default() };
    let socket = Socket::new(stream, ahead, Arc::clone(&lot.full));
    let exchanges = Exchanges { service, peer, lot: lot.clone() };
    let mut serving = Box::pin(http.hyper.serve_connection(socket, exchanges).with_upgrades());
    match until_stopped(poll_fn(|cx| lot.poll_serve(cx, serving.as_mut())), &mut stopping).await {
        Some(served) => served?,
        None => {
            serving.as_mut().graceful_shutdown();
            poll_fn(|cx| lot.poll_serve(cx, serving.as_mut())).await?;
        }
    }
    let parked = lot.leave(*Pin::into_inner(serving));
    Ok(parked.map(|(stream, ahead, service, held)| {
        let (input, line) = Line::new(stream, stopping);
        (Connection { input, line, ahead, service, peer }, held)
    }))
}

/// The exchanges of one connection, one after the other, as hyper calls and polls them.
struct Exchanges<S: Serve> {
    service: S,
    peer: PeerAddr,
    lot: Lot<S>,
}

/// The hold on the exchange in progress from outside hyper.
struct Lot<S: Serve> {
    current: Arc<Current<S>>,
    /// What [`Parking`] asks for.
    asked: Arc<AtomicBool>,
    full: Arc<Full>,
}

/// The exchange in progress, if any. Only the connection's task takes it, except where that is dropped.
struct Current<S: Serve>(Mutex<Option<Served<S>>>);

impl<S: Serve> Current<S> {
    fn lock(&self) -> MutexGuard<'_, Option<Served<S>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Serve> Lot<S> {
    /// Serves with hyper until the connection ends, or an exchange is to be parked.
    fn poll_serve(
        &self,
        cx: &mut Context<'_>,
        serving: Pin<&mut UpgradeableConnection<Socket, Exchanges<S>>>,
    ) -> Poll<hyper::Result<()>> {
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

    /// Whether the exchange in progress is to be parked. It may be answered since it asked: hyper polls it more than
    /// once at a time.
    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && self.current.lock().is_some()
    }

    /// Takes the exchange in progress out of hyper, if it is to be parked, with all that its connection is: the socket,
    /// and what was read of it behind the request.
    fn leave(
        &self,
        serving: UpgradeableConnection<Socket, Exchanges<S>>,
    ) -> Option<(tokio::net::TcpStream, Bytes, S, Served<S>)> {
        if !self.asked.load(Ordering::Relaxed) {
            return None;
        }
        // Before hyper drops its end of it.
        let held = self.current.lock().take()?;
        let Parts { io, read_buf, service: exchanges, .. } = serving.into_parts()?;
        let (stream, ahead) = io.into_parts();
        // Copied: they are slices of hyper's buffer, which is to be freed.
        let ahead = [read_buf, ahead].concat();
        Some((stream, ahead.into(), exchanges.service, held))
    }
}

/// Whether the exchange of a request may be parked: the response to it is to be written as to any other.
///
/// With a `Transfer-Encoding` there may have been a `Content-Length`, which hyper takes away. It closes such a connection
/// behind the response, as it must (RFC 9112, 6.1), and tells nobody before.
fn may_park(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    request.version() == Version::HTTP_11
        && (request.method() == Method::POST || request.method() == Method::GET)
        && ![TRANSFER_ENCODING, UPGRADE].iter().any(|name| headers.contains_key(name))
        && keeps_alive(headers)
}

impl<S: Serve> hyper::service::Service<Request<Incoming>> for Exchanges<S> {
    type Response = Response<Either<S::Body, FullBody<Bytes>>>;
    type Error = Infallible;
    type Future = InHyper<S>;

    fn call(&self, mut request: Request<Incoming>) -> InHyper<S> {
        self.lot.asked.store(false, Ordering::Relaxed);
        if !names_host(request.headers(), request.version()) {
            return InHyper::Refused;
        }
        if may_park(&request) {
            request.extensions_mut().insert(Parking(Arc::clone(&self.lot.asked)));
        }
        request.extensions_mut().insert(self.peer);
        let exchange = self.service.exchange(request.map(RequestBody::new));
        *self.lot.current.lock() = Some(Box::pin(exchange));
        InHyper::Served(Arc::clone(&self.lot.current))
    }
}

/// The exchange in progress, as hyper polls it.
enum InHyper<S: Serve> {
    Served(Arc<Current<S>>),
    /// The request does not name its host.
    Refused,
}

impl<S: Serve> Future for InHyper<S> {
    type Output = Result<Response<Either<S::Body, FullBody<Bytes>>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self::Served(current) = &*self else {
            let mut response = Response::new(Either::Right(FullBody::from("One Host, Please")));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return Poll::Ready(Ok(response));
        };
        let mut current = current.lock();
        let Some(exchange) = &mut *current else { return Poll::Pending };
        let polled = exchange.as_mut().poll(cx);
        if polled.is_ready() {
            *current = None;
        }
        polled.map_ok(|response| response.map(Either::Left))
    }
}

impl<S: Serve> Drop for InHyper<S> {
    /// The client is gone, and the service is to know it.
    fn drop(&mut self) {
        if let Self::Served(current) = self {
            let exchange = current.lock().take();
            drop(exchange);
        }
    }
}

impl<S: Serve> Default for Current<S> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<S: Serve> Clone for Lot<S> {
    fn clone(&self) -> Self {
        Self { current: Arc::clone(&self.current), asked: Arc::clone(&self.asked), full: Arc::clone(&self.full) }
    }
}
