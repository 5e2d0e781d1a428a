//! The HTTP endpoint: one path, all transports.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bayeux_core::Transport;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};

use crate::body::{RequestBody, ResponseBody};
use crate::head::RequestHead;
use crate::http1::{Post, PostHead};
use crate::server::Server;

/// A transport that can be mounted on an [`Endpoint`].
pub trait TransportService: Send + Sync + 'static {
    /// Which transport it is. An endpoint offers it only where [`Config`](crate::Config) allows it (rule T-6).
    fn transport(&self) -> Transport;

    /// Whether this request is one of its own (rule T-3).
    fn accepts(&self, request: &Parts) -> bool;

    /// Answers a request that it accepted. Dropping the future means that the client is gone.
    fn serve(&self, server: &Server, request: Request<RequestBody>) -> ServiceFuture;

    /// Whether this `POST`, one that [`TransportService::post`] is for, is one of its own (rule T-3). As
    /// [`TransportService::accepts`] would say, which is the default; to be implemented where it costs less to find out.
    fn accepts_post(&self, head: &PostHead<'_>) -> bool {
        self.accepts(&head.into_parts())
    }

    /// Answers a small `POST` that it accepted, as [`TransportService::serve`] would, which is the default. Called for
    /// those that a [`Listener`](crate::Listener) has read whole, and that nothing is around the endpoint for; all others
    /// are served.
    fn post(&self, server: &Server, post: Post<'_>) -> ServiceFuture {
        self.serve(server, post.into_request())
    }

    /// Adds headers to a response that is not its own: to an `OPTIONS` request, or to one that no transport accepted.
    /// Default: none.
    fn decorate(&self, request: &Parts, headers: &mut HeaderMap) {
        let _ = (request, headers);
    }

    /// Called once when it is mounted. Default: nothing.
    fn mounted(&self, server: &Server) {
        let _ = server;
    }
}

/// A response to come.
pub type ServiceFuture = Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>>;

/// The one HTTP endpoint of a server (rule T-3): a `tower` service for routers, and a hyper service.
///
/// Mounted in a router, it takes its path and all paths below (rule T-5). Served by itself it takes every path, unless
/// [`Endpoint::at`] names one.
#[derive(Clone)]
pub struct Endpoint {
    server: Server,
    path: Option<Arc<str>>,
    transports: Arc<[Arc<dyn TransportService>]>,
}

impl Endpoint {
    /// An endpoint of `server` without transports.
    pub fn new(server: Server) -> Self {
        Self { server, path: None, transports: Arc::from([]) }
    }

    /// With one more transport. Of those that accept a request, the first one added serves it; WebSocket comes first
    /// wherever it was added (rule T-3). A transport that the server's options do not allow is never used (rule T-6).
    #[must_use]
    pub fn with(mut self, transport: impl TransportService) -> Self {
        transport.mounted(&self.server);
        self.server.offer(transport.transport());
        let mut transports = self.transports.to_vec();
        transports.push(Arc::new(transport));
        transports.sort_by_key(|transport| transport.transport().is_http());
        self.transports = transports.into();
        self
    }

    /// Only for `path` and paths below; others are answered 404. For serving it without a router.
    #[must_use]
    pub fn at(mut self, path: &str) -> Self {
        self.path = Some(path.trim_end_matches('/').into());
        self
    }

    /// Whether it takes requests to `path` (rule T-5).
    pub fn takes(&self, path: &str) -> bool {
        let Some(own) = &self.path else { return true };
        path.strip_prefix(&**own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The server that it belongs to.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Answers a request.
    pub fn handle<B>(&self, request: Request<B>) -> ServiceFuture
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if !self.takes(request.uri().path()) {
            return ready(text_response(StatusCode::NOT_FOUND, "Not Found"));
        }
        let (parts, body) = request.into_parts();
        let options = parts.method == Method::OPTIONS;
        if !options && let Some(transport) = self.choose(|transport| transport.accepts(&parts)) {
            if self.server.is_stopping() {
                return ready(text_response(StatusCode::SERVICE_UNAVAILABLE, "Stopping"));
            }
            return transport.serve(&self.server, Request::from_parts(parts, RequestBody::new(body)));
        }
        let mut response = if options {
            // Rule T-4.
            Response::new(ResponseBody::default())
        } else {
            text_response(StatusCode::BAD_REQUEST, "Unknown Bayeux Transport")
        };
        for transport in &*self.transports {
            transport.decorate(&parts, response.headers_mut());
        }
        ready(response)
    }

    /// Answers a small `POST` that it takes.
    pub(crate) fn post(&self, post: Post<'_>) -> ServiceFuture {
        match self.choose(|transport| transport.accepts_post(&post.head)) {
            Some(transport) if !self.server.is_stopping() => transport.post(&self.server, post),
            Some(_) | None => self.handle(post.into_request()),
        }
    }

    fn choose(&self, accepts: impl Fn(&dyn TransportService) -> bool) -> Option<&Arc<dyn TransportService>> {
        let allowed = &self.server.config().allowed_transports;
        self.transports.iter().find(|t| allowed.contains(&t.transport()) && accepts(&***t))
    }
}

impl<B> tower_service::Service<Request<B>> for Endpoint
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = EndpointFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        EndpointFuture(self.handle(request))
    }
}

impl<B> hyper::service::Service<Request<B>> for Endpoint
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = EndpointFuture;

    fn call(&self, request: Request<B>) -> Self::Future {
        EndpointFuture(self.handle(request))
    }
}

/// A response of an [`Endpoint`] to come.
pub struct EndpointFuture(ServiceFuture);

impl Future for EndpointFuture {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

/// A response with a line of text, for what is no Bayeux error.
pub fn text_response(status: StatusCode, text: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=UTF-8"));
    response
}

fn ready(response: Response<ResponseBody>) -> ServiceFuture {
    Box::pin(std::future::ready(response))
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("server", &self.server).field("path", &self.path).finish_non_exhaustive()
    }
}

impl fmt::Debug for EndpointFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointFuture").finish_non_exhaustive()
    }
}
