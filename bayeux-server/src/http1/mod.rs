//! HTTP/1 connections of a listener.
//!
//! Nearly all that Bayeux clients send is a small `POST` that arrives whole. Such exchanges are served here, straight
//! on the socket: [`request`] reads one, the service answers it, [`response`] writes the answer. A connection that
//! waits, for its next request or for the response to a held connect, has no buffers. Where nothing is around the
//! endpoint, it gets the request as a [`Post`], which costs less to make, and [`direct`] has whoever makes the response
//! write it.
//!
//! Everything else is served by [`full`], with hyper, which gets what was read as if nobody had looked at it. An
//! exchange that begins there and is held leaves it again, unless hyper knows something of its response that we do not.

mod direct;
mod full;
mod request;
mod response;
mod socket;

use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Either;
use hyper::server::conn::http1::Builder;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::watch;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use crate::body::{RequestBody, ResponseBody};
use crate::context::PeerAddr;
use crate::endpoint::{Endpoint, ServiceFuture};
use crate::head::RequestHead;
use direct::{Vigil, Written};
use request::Read;
use response::{Rest, WriteError};

pub(crate) use direct::Line;
pub use direct::Responder;
pub use full::Parking;
pub use request::{Post, PostHead};
pub use response::RenderedHeaders;
pub use socket::upgraded_socket;

/// How long each further part of a request may take, and in how many parts it may come, before it is left to hyper, which
/// knows what to say to slow clients, and need not begin anew with each part.
const PART_TIMEOUT: Duration = Duration::from_millis(200);
const PARTS_MAX: u32 = 4;

thread_local! {
    /// What is read in one go. Each thread has one such buffer, and connections none.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; request::SIZE_MAX].into_boxed_slice());
}

/// What serves requests.
pub(crate) trait Serve: Clone + Send + 'static {
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;
    type Exchange: Future<Output = Result<Response<Self::Body>, Infallible>> + Send + 'static;

    fn exchange(&self, request: Request<RequestBody>) -> Self::Exchange;

    /// Whether requests to this path go to an endpoint past everything around it, if they can.
    fn straight(&self, path: &str) -> Option<&Endpoint>;
}

/// A `tower` service, and the endpoints in it that small `POST`s go to straight.
#[derive(Clone)]
pub(crate) struct Site<S> {
    pub(crate) service: S,
    pub(crate) endpoints: Arc<[Endpoint]>,
}

impl<S, B> Serve for Site<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Body = B;
    type Exchange = S::Future;

    fn exchange(&self, request: Request<RequestBody>) -> S::Future {
        self.service.clone().call(request)
    }

    fn straight(&self, path: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.takes(path))
    }
}

/// An exchange in progress. Boxed, so that a connection has no room for it while there is none.
pub(crate) enum Exchange<S: Serve> {
    /// With the service.
    Served(Pin<Box<S::Exchange>>),
    /// With an endpoint, past everything around it.
    Straight(ServiceFuture),
}

impl<S: Serve> Exchange<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Response<Either<S::Body, ResponseBody>>> {
        match self {
            Self::Served(exchange) => exchange.as_mut().poll(cx).map(|Ok(response)| response.map(Either::Left)),
            Self::Straight(exchange) => exchange.as_mut().poll(cx).map(|response| response.map(Either::Right)),
        }
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
    pub(crate) input: OwnedReadHalf,
    pub(crate) line: Arc<Line>,
    /// What was read and not used yet.
    pub(crate) ahead: Bytes,
    pub(crate) service: S,
    pub(crate) peer: PeerAddr,
}

/// What a connection has next.
enum Next<S: Serve> {
    /// A request, which was given to whoever answers it.
    Exchange(Exchange<S>),
    /// The beginning of one, perhaps, or nothing.
    Part,
    /// Something for hyper, in what was read.
    Other,
    /// Nothing: the client is gone, or silent for too long.
    End,
}

/// How an exchange ended.
enum Answer<B> {
    Response(Response<B>),
    /// Its [`Responder`] wrote all of the response.
    Written,
}

/// An exchange that ended with a response.
struct Ended<'a> {
    /// When that was written, or begun.
    at: Instant,
    /// Whether no other may follow.
    last: bool,
    rest: Option<Rest<'a>>,
}

impl<S: Serve> Connection<S> {
    /// Serves the connection to its end.
    #[allow(clippy::manual_async_fn, reason = "an async function would have room for the connection twice")]
    pub(crate) fn serve(mut self, http: &Http1) -> impl Future<Output = Result<(), WriteError>> + Send {
        async move {
            let mut vigil = pin!(Vigil::new(stopped(self.line.stopping()), http.header_read_timeout));
            // When the client was last answered.
            let mut since = Instant::now();
            loop {
                let begun = match self.next(vigil.as_mut(), since).await {
                    Next::Exchange(exchange) => Some(exchange),
                    Next::Part | Next::Other => None,
                    Next::End => return Ok(()),
                };
                let exchange = match begun {
                    Some(exchange) => exchange,
                    None => {
                        // Boxed, so that a connection has no room for it while there is none.
                        let Some((connection, held)) = Box::pin(full::serve(self, http)).await? else { return Ok(()) };
                        self = connection;
                        Exchange::Served(held)
                    }
                };
                let Some(answer) = answer(&self.line, exchange, vigil.as_mut()).await else { return Ok(()) };
                let ended = end(&self.line, answer, http.header_read_timeout)?;
                since = ended.at;
                if let Some(rest) = ended.rest {
                    rest.await?;
                    since = Instant::now();
                }
                if ended.last {
                    return Ok(());
                }
                // A client that sends many requests at once is not to keep others waiting.
                consume_budget().await;
            }
        }
    }

    /// Takes a request out of what was read, and has it answered.
    fn begin(&mut self) -> Next<S> {
        let mut room = request::room();
        let (head, body, length) = match request::read(&self.ahead, self.peer, &mut room) {
            Read::Post(head, body, length) => (head, body, length),
            Read::Part => return Next::Part,
            Read::Other => return Next::Other,
        };
        let exchange = match self.service.straight(head.path()) {
            Some(endpoint) => {
                // What was read already wakes nobody.
                let responder = self.line.begin(length < self.ahead.len());
                Exchange::Straight(endpoint.post(Post { head, body, responder }))
            }
            None => {
                let request = Request::from_parts(head.into_parts(), RequestBody::whole(body));
                Exchange::Served(Box::pin(self.service.exchange(request)))
            }
        };
        // Nothing is kept of the memory that is used up.
        let used = std::mem::take(&mut self.ahead);
        if length < used.len() {
            self.ahead = used.slice(length..);
        }
        Next::Exchange(exchange)
    }

    /// Waits for the next request of a client that was last answered then.
    async fn next(&mut self, mut vigil: Pin<&mut Vigil<impl Future<Output = ()>>>, since: Instant) -> Next<S> {
        let mut parts = 0;
        loop {
            match self.begin() {
                Next::Part => {}
                next @ (Next::Exchange(_) | Next::Other | Next::End) => return next,
            }
            let Self { input, ahead, .. } = self;
            let read = match parts {
                0 => {
                    let reading = poll_fn(|cx| match poll_read(input, ahead, cx) {
                        Poll::Pending => vigil.as_mut().poll_end(cx, since).map(|()| None),
                        read => read.map(Some),
                    });
                    let Some(read) = reading.await else {
                        // Whoever has begun a request gets an answer, if only that it came too late.
                        return if ahead.is_empty() { Next::End } else { Next::Other };
                    };
                    Ok(read)
                }
                // Boxed, so that a connection that waits for a request has no room for it.
                1..PARTS_MAX => Box::pin(timeout(PART_TIMEOUT, poll_fn(|cx| poll_read(input, ahead, cx)))).await,
                _ => return Next::Other,
            };
            match read {
                Ok(Ok(0) | Err(_)) => return Next::End,
                Ok(Ok(_)) => parts += 1,
                Err(_) => return Next::Other,
            }
        }
    }
}

/// Waits until the listener stops. That it is gone is as good.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|&stopping| stopping).await;
}

/// Reads once, to the end of `ahead`. Says how much; 0 is the end of the stream.
fn poll_read(input: &mut OwnedReadHalf, ahead: &mut Bytes, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    READ.with_borrow_mut(|buffer| {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(input).poll_read(cx, &mut read))?;
        let read = read.filled();
        *ahead = if ahead.is_empty() { Bytes::copy_from_slice(read) } else { [ahead, read].concat().into() };
        Poll::Ready(Ok(read.len()))
    })
}

/// Waits for the end of an exchange while the client is there; `None` where it is gone.
async fn answer<S: Serve>(
    line: &Line,
    mut exchange: Exchange<S>,
    mut vigil: Pin<&mut Vigil<impl Future<Output = ()>>>,
) -> Option<Answer<Either<S::Body, ResponseBody>>> {
    // Most are answered at once, and who sends a request and then the end of the stream is answered, too.
    if let Poll::Ready(response) = poll_fn(|cx| Poll::Ready(exchange.poll(cx))).await {
        return Some(Answer::Response(response));
    }
    let mut watched = true;
    poll_fn(|cx| {
        if line.is_over() {
            return Poll::Ready(Some(Answer::Written));
        }
        // The client first: for one that is gone, nothing is to be taken out of the engine (rule Z-16).
        if watched {
            let mut byte = [0];
            match line.socket().poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
                // As for hyper, a client that will send no more counts as gone.
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                // The next request has its turn after this one (rule TH-53), and stays where it is.
                Poll::Ready(Ok(_)) => {
                    watched = false;
                    if line.wake_task() {
                        return Poll::Ready(Some(Answer::Written));
                    }
                }
                Poll::Pending => {}
            }
        }
        vigil.as_mut().rouse(cx);
        exchange.poll(cx).map(|response| Some(Answer::Response(response)))
    })
    .await
}

/// Writes the response, where no [`Responder`] did, as far as the socket takes it.
fn end<B>(line: &Line, answer: Answer<B>, patience: Duration) -> Result<Ended<'_>, WriteError>
where
    B: http_body::Body<Data = Bytes, Error: Into<WriteError>> + Send + 'static,
{
    let socket = line.socket();
    match (line.take_written(), answer) {
        (Some(Written { at, last, rest, .. }), answer) => {
            let rest = rest?;
            let rest = (!rest.is_empty()).then(|| -> Rest<'_> {
                Box::pin(async move {
                    response::write_all(socket, &rest, patience).await?;
                    // Not before: while it is there, the session is being answered (rule L-20).
                    drop(answer);
                    Ok(())
                })
            });
            Ok(Ended { at, last, rest })
        }
        (None, Answer::Response(response)) => {
            let (last, rest) = response::write(socket, response, line.is_stopping(), patience)?;
            Ok(Ended { at: Instant::now(), last, rest })
        }
        // Not the case.
        (None, Answer::Written) => Ok(Ended { at: Instant::now(), last: true, rest: None }),
    }
}

#[cfg(test)]
mod tests;
