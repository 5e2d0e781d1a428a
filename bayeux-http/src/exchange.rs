//! What the HTTP transports share: from the messages of a request to an exchange with the engine, and back.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};

use bayeux_server::core::{BrowserId, LinkFacts};
use bayeux_server::proto::{Batch, DecodeError, Outgoing, encode, encode_into, escape_line_separators};
use bayeux_server::{
    CloseReason, DirectResponse, Link, Origin, Parking, RenderedHeaders, RequestHead, Responder, ResponseBody,
    ResponseHeaders, Server, Transport, Wrote, text_response,
};
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_DISPOSITION, CONTENT_TYPE, COOKIE, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};

use crate::content::ContentError;
use crate::cors::{self, Cors};
use crate::options::HttpOptions;
use crate::{body, cookie};

/// An exchange whose request was read.
pub(crate) struct Prepared {
    facts: LinkFacts,
    origin: Origin,
    batch: Batch,
    answer: Arc<Answer>,
}

/// An exchange whose request was processed.
pub(crate) struct Begun {
    link: Link,
    answer: Arc<Answer>,
}

/// How an exchange is answered. Holds nothing of the request: it may be held for long.
pub(crate) struct Answer {
    form: Form,
    secure: bool,
    /// What hooks add to the response, where there are any.
    added: Option<ResponseHeaders>,
    cors: Cors,
    /// What writes the response without this exchange's task, where there is such.
    responder: Option<Responder>,
    options: Arc<HttpOptions>,
}

/// What is known of how to answer a request before its messages are.
pub(crate) struct Way {
    pub(crate) form: Form,
    pub(crate) cors: Cors,
    pub(crate) responder: Option<Responder>,
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

impl Prepared {
    /// With the messages of a request.
    pub(crate) fn new(
        server: &Server,
        transport: Transport,
        head: impl RequestHead,
        batch: Batch,
        way: Way,
        options: Arc<HttpOptions>,
    ) -> Self {
        let Way { form, cors, responder } = way;
        let browsers = cookie::browser_ids(head.values(&COOKIE), &options.browser_cookie_name);
        let facts = LinkFacts {
            transport,
            http2: head.version() == Version::HTTP_2,
            browser: server.choose_browser(browsers, &batch),
        };
        let secure = head.is_over_tls();
        let (origin, added) = server.origin(head, Some(&batch));
        let answer = Arc::new(Answer { form, secure, added, cors, responder, options });
        Self { facts, origin, batch, answer }
    }

    /// Has the engine process them, where there is room for that: see [`Server::room`].
    pub(crate) fn begin(self, server: &Server) -> Begun {
        let Self { facts, origin, batch, answer } = self;
        let writer = answer.responder.is_some().then(|| Arc::clone(&answer) as Arc<dyn DirectResponse>);
        let link = server.exchange(facts, origin, batch, writer);
        Begun { link, answer }
    }

    /// The same, when there is room.
    pub(crate) async fn begin_when_possible(self, server: &Server) -> Begun {
        server.room().await;
        self.begin(server)
    }
}

impl Begun {
    /// Waits for the response, as long as it takes.
    #[allow(clippy::manual_async_fn, reason = "an async function would have room for the exchange twice")]
    pub(crate) fn respond(mut self) -> impl Future<Output = Response<ResponseBody>> + Send {
        async move {
            let messages = self.link.response().await;
            self.response(messages)
        }
    }

    /// The response with those messages, or the one that says why there are none.
    fn response(self, messages: Result<Vec<Outgoing>, CloseReason>) -> Response<ResponseBody> {
        let Self { mut link, answer } = self;
        match messages {
            Ok(messages) => {
                let headers = answer.headers(link.browser()).into_owned();
                let body = answer.form.body(encode(&messages));
                let mut response = Response::new(ResponseBody::answering(link, body));
                *response.headers_mut() = headers;
                response
            }
            Err(reason) => {
                let mut response = closed(reason, &answer.options);
                answer.add_to(response.headers_mut());
                response
            }
        }
    }
}

impl Answer {
    /// The headers of a response with messages, and the cookie of that browser, if any.
    fn headers(&self, browser: Option<BrowserId>) -> Cow<'static, HeaderMap> {
        let usual = self.form.headers();
        let cookie = browser.and_then(|id| set_cookie(&self.options, &id, self.secure));
        if cookie.is_none() && self.cors.is_none() && self.added.as_ref().is_none_or(ResponseHeaders::is_empty) {
            return Cow::Borrowed(usual);
        }
        let mut headers = usual.clone();
        headers.extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
        self.add_to(&mut headers);
        Cow::Owned(headers)
    }

    /// Adds what any response to this request gets.
    fn add_to(&self, headers: &mut HeaderMap) {
        if let Some(added) = &self.added {
            added.add_to(headers);
        }
        cors::add(&self.cors, headers);
    }
}

impl DirectResponse for Answer {
    fn respond(&self, messages: &[Outgoing], browser: Option<BrowserId>, scratch: &mut Vec<u8>) -> Wrote {
        /// Those of nearly all responses.
        static USUAL: LazyLock<RenderedHeaders> = LazyLock::new(|| RenderedHeaders::new(Form::Json.headers()));
        // Always so: no other answer is a writer.
        let (Some(responder), Form::Json) = (&self.responder, &self.form) else { return Wrote::Part };
        encode_into(messages, scratch);
        match self.headers(browser) {
            Cow::Borrowed(_) => responder.respond(&USUAL, scratch),
            Cow::Owned(headers) => responder.respond(&RenderedHeaders::new(&headers), scratch),
        }
    }
}

/// Waits for the response to a request, as long as it takes. `beginning` is boxed, so that an exchange that is held has
/// no room for its request.
#[allow(clippy::manual_async_fn, reason = "an async function would have room for its arguments twice")]
pub(crate) fn respond(
    beginning: Pin<Box<impl Future<Output = Result<Begun, Refusal>> + Send>>,
    parking: Option<Parking>,
    http1: bool,
    cors: Cors,
) -> impl Future<Output = Response<ResponseBody>> + Send {
    async move {
        match beginning.await {
            Ok(begun) => {
                if begun.link.is_held() {
                    parking.inspect(Parking::park);
                }
                begun.respond().await
            }
            Err(refusal) => refusal.response(http1, &cors),
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

    /// The headers of all responses of this form.
    fn headers(&self) -> &'static HeaderMap {
        static JSON: LazyLock<HeaderMap> =
            // Rule TH-7.
            LazyLock::new(|| usual([(CONTENT_TYPE, HeaderValue::from_static("application/json;charset=UTF-8"))]));
        static SCRIPT: LazyLock<HeaderMap> = LazyLock::new(|| {
            usual([
                (CONTENT_TYPE, HeaderValue::from_static("text/javascript;charset=UTF-8")),
                // Nothing that is looked at by itself, whatever its beginning may be taken for.
                (CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=f.txt")),
            ])
        });
        match self {
            Self::Json => &JSON,
            Self::Script(_) => &SCRIPT,
        }
    }
}

fn usual(own: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> HeaderMap {
    let all = [
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    own.into_iter().chain(all).collect()
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

    /// The response to a request that is refused.
    pub(crate) fn response(&self, http1: bool, cors: &Cors) -> Response<ResponseBody> {
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
        let mut response = text_response(status, text);
        cors::add(cors, response.headers_mut());
        if http1 && self.leaves_body() {
            // Said, so that no client is surprised (rule TH-53).
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use bayeux_server::Config;
    use bayeux_server::proto::{Limits, decode};
    use http::Request;

    use super::*;

    /// Exchanges are many, and nearly all of them are held.
    #[tokio::test]
    async fn exchanges_are_small() {
        let server = Server::builder(Config::default()).build().unwrap();
        let (head, ()) = Request::new(()).into_parts();
        let batch = decode(Bytes::from_static(b"[{}]"), &Limits::default()).unwrap();
        let way = Way { form: Form::Json, cors: None, responder: None };
        let options = Arc::new(HttpOptions::default());
        let prepared = Prepared::new(&server, Transport::LongPolling, head, batch, way, options);
        let size = size_of_val(&prepared.begin(&server).respond());
        assert!(size <= 300, "{size} bytes");
    }
}
