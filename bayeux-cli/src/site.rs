//! What answers a request: the endpoint, or the pages.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bayeux_server::{Endpoint, EndpointFuture, RequestBody, ResponseBody};
use http::{Request, Response};
use tower_service::Service;

use crate::pages::{self, Pages};

/// A server's whole address space.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// One for each path. The first that takes a request serves it.
    endpoints: Arc<[Endpoint]>,
    pages: Option<Arc<Pages>>,
}

impl Site {
    /// `endpoints`, and at all other paths `pages`, if any.
    pub(crate) fn new(endpoints: Vec<Endpoint>, pages: Option<Pages>) -> Self {
        Self { endpoints: endpoints.into(), pages: pages.map(Arc::new) }
    }

    /// The endpoints in it.
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    fn respond(&self, request: Request<RequestBody>) -> SiteFuture {
        let path = request.uri().path();
        if let Some(endpoint) = self.endpoints.iter().find(|endpoint| endpoint.takes(path)) {
            return SiteFuture::Endpoint(Service::call(&mut endpoint.clone(), request));
        }
        let page = match &self.pages {
            Some(pages) => pages.respond(request.method(), path, request.headers()),
            None => pages::not_found(),
        };
        SiteFuture::Page(Some(Box::new(page.map(ResponseBody::new))))
    }
}

impl Service<Request<RequestBody>> for Site {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = SiteFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> SiteFuture {
        self.respond(request)
    }
}

/// A response to come. Held connects are many: it has no room for their requests.
#[derive(Debug)]
pub(crate) enum SiteFuture {
    Endpoint(EndpointFuture),
    Page(Option<Box<Response<ResponseBody>>>),
}

impl Future for SiteFuture {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Endpoint(endpoint) => Pin::new(endpoint).poll(cx),
            Self::Page(page) => page.take().map_or(Poll::Pending, |page| Poll::Ready(Ok(*page))),
        }
    }
}
