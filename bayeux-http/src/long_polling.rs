//! The long-polling transport: from a request to an exchange with the engine, and back.

use std::sync::Arc;

use bayeux_server::proto::{Batch, DecodeError, Limits, decode};
use bayeux_server::{Parking, RequestBody, Server, ServiceFuture, Transport, TransportService};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Version};

use crate::content::Content;
use crate::exchange::{self, Begun, Form, Refusal};
use crate::options::{HttpOptions, HttpOptionsError};
use crate::{body, cors, form};

/// The `long-polling` transport: a `POST` with messages, answered with messages (section TH).
#[derive(Debug)]
pub struct LongPolling {
    options: Arc<HttpOptions>,
}

impl LongPolling {
    /// The transport with these options.
    ///
    /// # Errors
    /// [`HttpOptionsError`] where the options cannot be used.
    pub fn new(options: HttpOptions) -> Result<Self, HttpOptionsError> {
        options.validate()?;
        Ok(Self { options: Arc::new(options) })
    }
}

impl TransportService for LongPolling {
    fn transport(&self) -> Transport {
        Transport::LongPolling
    }

    fn accepts(&self, request: &Parts) -> bool {
        request.method.as_str().eq_ignore_ascii_case("POST")
    }

    fn serve(&self, server: &Server, request: Request<RequestBody>) -> ServiceFuture {
        let options = Arc::clone(&self.options);
        let cors = cors::headers(&options.allowed_origins, request.headers());
        let http1 = request.version() < Version::HTTP_2;
        let parking = request.extensions().get::<Parking>().cloned();
        // Boxed, so that an exchange that is held has no room for reading its request.
        let beginning = Box::pin(begin(server.clone(), Arc::clone(&options), request));
        Box::pin(async move {
            let mut response = exchange::respond(beginning.await, parking, http1, &options).await;
            response.headers_mut().extend(cors);
            response
        })
    }

    fn decorate(&self, request: &Parts, headers: &mut HeaderMap) {
        cors::decorate(&self.options.allowed_origins, request, headers);
    }
}

/// Reads a request and has the engine process it.
async fn begin(server: Server, options: Arc<HttpOptions>, request: Request<RequestBody>) -> Result<Begun, Refusal> {
    let (parts, mut body) = request.into_parts();
    let content = Content::of(&parts.headers).map_err(Refusal::Content)?;
    let limits = server.limits(Transport::LongPolling);
    let read = body::read(&mut body, limits.bytes_max, options.body_timeout).await;
    if read == Err(body::ReadError::TooLarge) && parts.version == Version::HTTP_2 {
        body::discard(body, options.body_timeout).await;
    }
    let body = read.map_err(Refusal::Body)?;
    let batch = messages(content, body, &limits)?;
    Ok(Begun::new(server, &options, Transport::LongPolling, parts, batch, Form::Json).await)
}

/// The messages of a body: JSON, or JSON in the fields of a form (rules TH-4, TH-6).
fn messages(content: Content, body: Bytes, limits: &Limits) -> Result<Batch, Refusal> {
    let mut batch = Batch::default();
    if content.is_form(&body) {
        for message in form::values(&body, "message") {
            let text = content.to_utf8(message).map_err(Refusal::Content)?;
            append(&mut batch, text, limits)?;
        }
    } else {
        let text = content.to_utf8(body).map_err(Refusal::Content)?;
        batch = decode(text, limits).map_err(Refusal::Decode)?;
    }
    if batch.messages.is_empty() { Err(Refusal::NoMessages) } else { Ok(batch) }
}

/// Adds the messages of one field.
pub(crate) fn append(batch: &mut Batch, text: Bytes, limits: &Limits) -> Result<(), Refusal> {
    let part = decode(text, limits).map_err(Refusal::Decode)?;
    batch.messages.extend(part.messages);
    batch.bytes += part.bytes;
    if batch.messages.len() > limits.messages_max {
        return Err(Refusal::Decode(DecodeError::TooMany { limit: limits.messages_max }));
    }
    Ok(())
}
