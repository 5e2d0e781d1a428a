//! The long-polling transport: from a request to an exchange with the engine, and back.

use std::sync::Arc;

use bayeux_server::core::{BrowserId, LinkFacts};
use bayeux_server::proto::{Batch, DecodeError, Limits, decode, encode};
use bayeux_server::{
    CloseReason, Context, Link, Parking, RequestBody, ResponseBody, Server, ServiceFuture, Transport, TransportService,
    is_over_tls, text_response,
};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, SET_COOKIE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};

use crate::content::{Content, ContentError};
use crate::options::{HttpOptions, HttpOptionsError};
use crate::{body, cookie, cors, form};

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
            let begun = beginning.await;
            let mut response = match begun {
                Ok(begun) => {
                    if begun.link.is_held() {
                        parking.inspect(Parking::park);
                    }
                    begun.respond(&options).await
                }
                Err(refusal) => {
                    let mut response = refusal.response();
                    if http1 && refusal.leaves_body() {
                        // Said, so that no client is surprised (rule TH-53).
                        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    response
                }
            };
            response.headers_mut().extend(cors);
            response
        })
    }

    fn decorate(&self, request: &Parts, headers: &mut HeaderMap) {
        cors::decorate(&self.options.allowed_origins, request, headers);
    }
}

/// An exchange whose request was read and processed. Holds nothing of the request: it may be held for long.
struct Begun {
    link: Link,
    secure: bool,
}

/// Why a request was not processed as Bayeux (rule T-7).
enum Refusal {
    Content(ContentError),
    Body(body::ReadError),
    Decode(DecodeError),
    /// An empty array, or a form without messages (rule TH-42).
    NoMessages,
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
    let facts = LinkFacts {
        transport: Transport::LongPolling,
        http2: parts.version == Version::HTTP_2,
        browser: cookie::browser_id(&parts.headers, &options.browser_cookie_name),
    };
    let secure = is_over_tls(&parts);
    let context = server.wants_context().then(|| Arc::new(Context::new(parts)));
    let link = server.exchange(facts, context, batch).await;
    Ok(Begun { link, secure })
}

/// The messages of a body: JSON, or JSON in the fields of a form (rules TH-4, TH-6).
fn messages(content: Content, body: Bytes, limits: &Limits) -> Result<Batch, Refusal> {
    let mut batch = Batch::default();
    if content.is_form(&body) {
        for message in form::values(&body, "message") {
            let text = content.to_utf8(message).map_err(Refusal::Content)?;
            let part = decode(text, limits).map_err(Refusal::Decode)?;
            batch.messages.extend(part.messages);
            batch.bytes += part.bytes;
            if batch.messages.len() > limits.messages_max {
                return Err(Refusal::Decode(DecodeError::TooMany { limit: limits.messages_max }));
            }
        }
    } else {
        let text = content.to_utf8(body).map_err(Refusal::Content)?;
        batch = decode(text, limits).map_err(Refusal::Decode)?;
    }
    if batch.messages.is_empty() { Err(Refusal::NoMessages) } else { Ok(batch) }
}

impl Begun {
    async fn respond(mut self, options: &HttpOptions) -> Response<ResponseBody> {
        let messages = match self.link.response().await {
            Ok(messages) => messages,
            Err(reason) => return closed(reason, options),
        };
        let cookie = self.link.browser().and_then(|id| set_cookie(options, &id, self.secure));
        let mut response = Response::new(ResponseBody::answering(self.link, encode(&messages)));
        let headers = response.headers_mut();
        // Rule TH-7.
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json;charset=UTF-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
        response
    }
}

fn set_cookie(options: &HttpOptions, id: &BrowserId, secure: bool) -> Option<HeaderValue> {
    HeaderValue::try_from(cookie::set_cookie(options, id, secure)).ok()
}

/// The response to an exchange that the engine closed.
fn closed(reason: CloseReason, options: &HttpOptions) -> Response<ResponseBody> {
    let (status, text) = match reason {
        CloseReason::HandshakeInBatch => (StatusCode::BAD_REQUEST, "Handshake Must Be Alone"),
        CloseReason::Flooded => (StatusCode::SERVICE_UNAVAILABLE, "Too Many Requests At Once"),
        // Rules K-20, L-31, TH-46.
        CloseReason::ConnectReplaced
        | CloseReason::SessionRemoved
        | CloseReason::Lingered
        | CloseReason::Stopping
        | _ => {
            let code = options.duplicate_meta_connect_http_response_code;
            (StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "Connect Ended")
        }
    };
    text_response(status, text)
}

impl Refusal {
    /// Whether the body could not be read to its end, so that nothing more can be read from the connection.
    fn leaves_body(&self) -> bool {
        match self {
            Self::Body(_) => true,
            // hyper reads the rest of a small body by itself.
            Self::Content(_) | Self::Decode(_) | Self::NoMessages => false,
        }
    }

    fn response(&self) -> Response<ResponseBody> {
        let (status, text) = match self {
            Self::Content(ContentError::UnknownCharset) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unknown Charset"),
            Self::Content(ContentError::Malformed) => (StatusCode::BAD_REQUEST, "Not In The Charset Named"),
            Self::Body(body::ReadError::TooLarge) => (StatusCode::PAYLOAD_TOO_LARGE, "Too Large"),
            Self::Body(body::ReadError::TooSlow) => (StatusCode::REQUEST_TIMEOUT, "Too Slow"),
            Self::Body(body::ReadError::Broken) => (StatusCode::BAD_REQUEST, "Body Broken"),
            Self::Decode(error) => {
                tracing::debug!(%error, "not an envelope");
                let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
                (status, "Not Bayeux Messages")
            }
            Self::NoMessages => (StatusCode::BAD_REQUEST, "No Messages"),
        };
        text_response(status, text)
    }
}
