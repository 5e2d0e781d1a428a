//! What answers a request: the endpoint, or the pages.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bayeux_server::{Endpoint, ResponseBody};
use http::{Request, Response};
use hyper::body::Incoming;
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

    async fn respond(self, request: Request<Incoming>) -> Response<ResponseBody> {
        let path = request.uri().path();
        if let Some(endpoint) = self.endpoints.iter().find(|endpoint| endpoint.takes(path)) {
            return endpoint.handle(request).await;
        }
        let page = match &self.pages {
            Some(pages) => pages.respond(request.method(), path, request.headers()),
            None => pages::not_found(),
        };
        page.map(ResponseBody::new)
    }
}

impl Service<Request<Incoming>> for Site {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = SiteFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> SiteFuture {
        let site = self.clone();
        Box::pin(async move { Ok(site.respond(request).await) })
    }
}

type SiteFuture = std::pin::Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;
