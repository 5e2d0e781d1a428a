//! Bodies of requests and responses.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use crate::link::Link;

/// The body of a request, whatever it was before.
pub struct RequestBody(Kind);

enum Kind {
    /// hyper's own, unboxed: the common case costs nothing.
    Hyper(hyper::body::Incoming),
    /// Read already.
    Whole(Bytes),
    Boxed(UnsyncBoxBody<Bytes, BodyError>),
}

/// A request's body could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the request's body could not be read")]
pub struct BodyError(#[source] Box<dyn Error + Send + Sync>);

impl RequestBody {
    /// Wraps a body.
    pub fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut body = Some(body);
        if let Some(hyper) = (&mut body as &mut dyn Any).downcast_mut::<Option<hyper::body::Incoming>>()
            && let Some(hyper) = hyper.take()
        {
            return Self(Kind::Hyper(hyper));
        }
        if let Some(own) = (&mut body as &mut dyn Any).downcast_mut::<Option<Self>>()
            && let Some(own) = own.take()
        {
            return own;
        }
        match body {
            Some(body) => Self(Kind::Boxed(body.map_err(|error| BodyError(error.into())).boxed_unsync())),
            None => Self::whole(Bytes::new()),
        }
    }

    /// A body that was read already.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(bytes))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut self.0 {
            Kind::Hyper(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|r| r.map_err(|error| BodyError(error.into()))))
            }
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Kind::Boxed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Hyper(body) => body.is_end_stream(),
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Hyper(body) => body.size_hint(),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

/// The body of a response: one piece of bytes.
///
/// Where it answers an exchange of Bayeux messages it holds that exchange's [`Link`], and dropping it, which is what
/// the HTTP implementation does once it wrote the body or gave up, tells the engine so (rule L-20).
#[derive(Debug, Default)]
pub struct ResponseBody {
    data: Bytes,
    /// Here for its drop.
    _link: Option<Link>,
}

impl ResponseBody {
    /// A body that answers no exchange.
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self { data: data.into(), _link: None }
    }

    /// The body that answers the exchange of `link`.
    pub fn answering(link: Link, data: Bytes) -> Self {
        Self { data, _link: Some(link) }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let data = std::mem::take(&mut self.data);
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.len() as u64)
    }
}
