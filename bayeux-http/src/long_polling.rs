//! The long-polling transport: from a request to an exchange with the engine, and back.

use std::sync::Arc;

use bayeux_server::proto::{Batch, DecodeError, Limits, decode};
use bayeux_server::{
    Parking, Post, PostHead, RequestBody, RequestHead, Server, ServiceFuture, Transport, TransportService,
};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Version};

use crate::content::Content;
use crate::cors::Cors;
use crate::exchange::{self, Begun, Form, Prepared, Refusal, Way};
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
        let cors =
            cors::headers(&self.options.allowed_origins, request.headers().get(ORIGIN).map(HeaderValue::as_bytes));
        let http1 = request.version() < Version::HTTP_2;
        let parking = request.extensions().get::<Parking>().cloned();
        let beginning = Box::pin(begin(server.clone(), Arc::clone(&self.options), request, cors.clone()));
        Box::pin(exchange::respond(beginning, parking, http1, cors))
    }

    fn accepts_post(&self, _: &PostHead<'_>) -> bool {
        true
    }

    fn post(&self, server: &Server, post: Post<'_>) -> ServiceFuture {
        let Post { head, body, responder, .. } = post;
        let cors = cors::headers(&self.options.allowed_origins, head.value(&ORIGIN));
        let limits = server.limits(Transport::LongPolling);
        let body = if body.len() > limits.bytes_max { Err(Refusal::Body(body::ReadError::TooLarge)) } else { Ok(body) };
        let way = Way { form: Form::Json, cors: cors.clone(), responder: Some(responder) };
        match body.and_then(|body| prepare(server, head, body, way, &limits, &self.options)) {
            Ok(prepared) if server.has_room() => Box::pin(prepared.begin(server).respond()),
            Ok(prepared) => {
                let server = server.clone();
                Box::pin(async move { Box::pin(prepared.begin_when_possible(&server)).await.respond().await })
            }
            Err(refusal) => Box::pin(std::future::ready(refusal.response(true, &cors))),
        }
    }

    fn decorate(&self, request: &Parts, headers: &mut HeaderMap) {
        cors::decorate(&self.options.allowed_origins, request, headers);
    }
}

/// Reads a request and has the engine process it.
async fn begin(
    server: Server,
    options: Arc<HttpOptions>,
    request: Request<RequestBody>,
    cors: Cors,
) -> Result<Begun, Refusal> {
    let (parts, mut body) = request.into_parts();
    let limits = server.limits(Transport::LongPolling);
    let read = body::read(&mut body, limits.bytes_max, options.body_timeout).await;
    if read == Err(body::ReadError::TooLarge) && parts.version == Version::HTTP_2 {
        body::discard(body, options.body_timeout).await;
    }
    let way = Way { form: Form::Json, cors, responder: None };
    let prepared = prepare(&server, parts, read.map_err(Refusal::Body)?, way, &limits, &options)?;
    Ok(prepared.begin_when_possible(&server).await)
}

/// Makes an exchange of a request. Not before its body is read: the connection is to go on.
fn prepare(
    server: &Server,
    head: impl RequestHead,
    body: Bytes,
    way: Way,
    limits: &Limits,
    options: &Arc<HttpOptions>,
) -> Result<Prepared, Refusal> {
    let content = Content::of(head.value(&CONTENT_TYPE)).map_err(Refusal::Content)?;
    let batch = messages(content, body, limits)?;
    Ok(Prepared::new(server, Transport::LongPolling, head, batch, way, Arc::clone(options)))
}

/// The messages of a body: JSON, or JSON in the fields of a form (rules TH-4, TH-6).
fn messages(content: Content, body: Bytes, limits: &Limits) -> Result<Batch, Refusal> {
    let mut gathered = Gathered::new(limits);
    if content.is_form(&body) {
        for message in form::values(&body, "message") {
            gathered.add(content.to_utf8(message).map_err(Refusal::Content)?)?;
        }
    } else {
        gathered.add(content.to_utf8(body).map_err(Refusal::Content)?)?;
    }
    gathered.batch()
}

/// The messages of several fields, within the limits of one envelope.
pub(crate) struct Gathered<'a> {
    batch: Batch,
    limits: &'a Limits,
    /// What the fields so far have left of them.
    left: Limits,
}

impl<'a> Gathered<'a> {
    pub(crate) fn new(limits: &'a Limits) -> Self {
        Self { batch: Batch::default(), limits, left: *limits }
    }

    /// Adds the messages of one field.
    pub(crate) fn add(&mut self, text: Bytes) -> Result<(), Refusal> {
        let part = decode(text, &self.left).map_err(|error| Refusal::Decode(self.of_all(error)))?;
        let fields: usize = part.messages.iter().map(|message| message.fields.len()).sum();
        self.left.fields_max = self.left.fields_max.saturating_sub(fields);
        self.left.messages_max = self.left.messages_max.saturating_sub(part.messages.len());
        self.batch.bytes += part.bytes;
        if self.batch.messages.is_empty() {
            // Nearly always the only ones: not moved.
            self.batch.messages = part.messages;
        } else {
            self.batch.messages.extend(part.messages);
        }
        Ok(())
    }

    /// All of them; there must be one (rules TH-42, TJ-2).
    pub(crate) fn batch(self) -> Result<Batch, Refusal> {
        if self.batch.messages.is_empty() { Err(Refusal::NoMessages) } else { Ok(self.batch) }
    }

    /// The error with the limit that is in force, not what is left of it.
    fn of_all(&self, error: DecodeError) -> DecodeError {
        match error {
            DecodeError::TooMany { .. } => DecodeError::TooMany { limit: self.limits.messages_max },
            DecodeError::TooManyFields { .. } => DecodeError::TooManyFields { limit: self.limits.fields_max },
            DecodeError::TooLarge { .. }
            | DecodeError::NotUtf8 { .. }
            | DecodeError::Syntax { .. }
            | DecodeError::TooDeep { .. }
            | DecodeError::NotMessages { .. }
            | _ => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use bayeux_server::Config;

    use super::*;

    /// Exchanges are many, and nearly all of them are held.
    #[tokio::test]
    async fn exchanges_are_small() {
        let server = Server::builder(Config::default()).build().unwrap();
        let exchange = LongPolling::new(HttpOptions::default())
            .unwrap()
            .serve(&server, Request::new(RequestBody::new(http_body_util::Empty::new())));
        let size = size_of_val(&*exchange);
        assert!(size <= 500, "{size} bytes");
    }

    /// Z-9: however a form divides its messages, the limits are those of one envelope.
    #[test]
    fn limits_hold_for_all_fields_of_a_form_together() {
        let limits = Limits::default();
        let of = |field: &str| {
            let mut gathered = Gathered::new(&limits);
            let text = Bytes::from(field.to_owned());
            (0..4).try_for_each(|_| gathered.add(text.clone())).map(|()| gathered.batch.messages.len())
        };
        let fields = |count| format!("[{{{}}}]", vec!["\"\":0"; count].join(","));
        let messages = |count| format!("[{}]", vec!["{}"; count].join(","));
        assert_eq!(of(&fields(25_000)).unwrap(), 4);
        assert_eq!(of(&messages(5_000)).unwrap(), 20_000);
        for (field, error) in [
            (fields(25_001), DecodeError::TooManyFields { limit: limits.fields_max }),
            (messages(5_001), DecodeError::TooMany { limit: limits.messages_max }),
        ] {
            let refusal = of(&field).unwrap_err();
            assert!(matches!(&refusal, Refusal::Decode(found) if *found == error), "{refusal:?}");
        }
    }
}
