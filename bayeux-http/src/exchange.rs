//! What the HTTP transports share: from the messages of a request to an exchange with the engine, and back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bayeux_server::core::{BrowserId, LinkFacts};
use bayeux_server::proto::{Batch, DecodeError, Outgoing, encode, escape_line_separators};
use bayeux_server::{
    CloseReason, Link, Parking, ResponseBody, ResponseHeaders, Server, Transport, is_over_tls, text_response,
};
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_DISPOSITION, CONTENT_TYPE, SET_COOKIE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};

use crate::content::ContentError;
use crate::options::HttpOptions;
use crate::{body, cookie};

/// An exchange whose request was read and processed. Holds nothing of the request: it may be held for long.
pub(crate) struct Begun {
    link: Link,
    form: Form,
    secure: bool,
    /// What hooks add to the response, where there are any.
    headers: Option<ResponseHeaders>,
}

/// The form of a response.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// A JSON array.
    Json,
    /// A script that calls a function of that name with the array (rule TJ-4).
    Script(Bytes),
}

/// Why a request was not processed as Bayeux (rule T-7).
#[derive(Debug)]
pub(crate) enum Refusal {
    Content(ContentError),
    Body(body::ReadError),
    Decode(DecodeError),
    /// An empty array, or a form or query without messages (rules TH-42, TJ-2).
    NoMessages,
    /// No name of a function, or several, or one that is no name (rule TJ-3).
    Callback,
}

impl Begun {
    /// Has the engine process the messages of a request.
    pub(crate) async fn new(
        server: Server,
        options: &HttpOptions,
        transport: Transport,
        parts: Parts,
        batch: Batch,
        form: Form,
    ) -> Self {
        let browsers = cookie::browser_ids(&parts.headers, &options.browser_cookie_name);
        let facts = LinkFacts {
            transport,
            http2: parts.version == Version::HTTP_2,
            browser: server.choose_browser(browsers, &batch),
        };
        let secure = is_over_tls(&parts);
        let (origin, headers) = server.origin(parts, Some(&batch));
        let link = server.exchange(facts, origin, batch).await;
        Self { link, form, secure, headers }
    }

    /// The response with those messages, or the one that says why there are none.
    fn response(
        mut self,
        messages: Result<Vec<Outgoing>, CloseReason>,
        options: &HttpOptions,
    ) -> Response<ResponseBody> {
        let mut response = match messages {
            Ok(messages) => {
                let cookie = self.link.browser().and_then(|id| set_cookie(options, &id, self.secure));
                let body = self.form.body(encode(&messages));
                let mut response = Response::new(ResponseBody::answering(self.link, body));
                let headers = response.headers_mut();
                self.form.add_headers(headers);
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
                headers.extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
                response
            }
            Err(reason) => closed(reason, options),
        };
        if let Some(headers) = self.headers {
            headers.add_to(response.headers_mut());
        }
        response
    }
}

/// Waits for the response to a request, as long as it takes. `beginning` is boxed, so that an exchange that is held has
/// no room for its request.
#[allow(clippy::manual_async_fn, reason = "an async function would have room for its arguments twice")]
pub(crate) fn respond(
    beginning: Pin<Box<impl Future<Output = Result<Begun, Refusal>> + Send>>,
    parking: Option<Parking>,
    http1: bool,
    options: Arc<HttpOptions>,
) -> impl Future<Output = Response<ResponseBody>> + Send {
    async move {
        match beginning.await {
            Ok(mut begun) => {
                if begun.link.is_held() {
                    parking.inspect(Parking::park);
                }
                let messages = begun.link.response().await;
                begun.response(messages, &options)
            }
            Err(refusal) => {
                let mut response = refusal.response();
                if http1 && refusal.leaves_body() {
                    // Said, so that no client is surprised (rule TH-53).
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        }
    }
}

impl Form {
    fn body(&self, messages: Bytes) -> Bytes {
        match self {
            Self::Json => messages,
            Self::Script(callback) => {
                let messages = escape_line_separators(messages);
                let mut script = BytesMut::with_capacity(callback.len() + messages.len() + 2);
                script.put_slice(callback);
                script.put_u8(b'(');
                script.put_slice(&messages);
                script.put_u8(b')');
                script.freeze()
            }
        }
    }

    fn add_headers(&self, headers: &mut HeaderMap) {
        match self {
            // Rule TH-7.
            Self::Json => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json;charset=UTF-8"));
            }
            Self::Script(_) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/javascript;charset=UTF-8"));
                // Nothing that is looked at by itself, whatever its beginning may be taken for.
                headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=f.txt"));
            }
        }
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
            // Read, or none to speak of: hyper reads the rest of a small one by itself.
            Self::Content(_) | Self::Decode(_) | Self::NoMessages | Self::Callback => false,
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
            Self::Callback => (StatusCode::BAD_REQUEST, "No Callback"),
        };
        text_response(status, text)
    }
}
