//! The WebSocket transport: the upgrade.

use std::sync::Arc;

use bayeux_server::core::LinkFacts;
use bayeux_server::proto::Limits;
use bayeux_server::{
    Origin, PostHead, RequestBody, ResponseBody, Server, ServiceFuture, Transport, TransportService, text_response,
    upgraded_socket,
};
use http::header::{CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use http::header::{SEC_WEBSOCKET_VERSION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::conversation::Conversation;
use crate::direct::Direct;
use crate::options::{WsOptions, WsOptionsError};

/// The `websocket` transport: any number of envelopes both ways on one connection (section TW).
#[derive(Debug)]
pub struct WebSocket {
    options: Arc<WsOptions>,
}

impl WebSocket {
    /// The transport with these options.
    ///
    /// # Errors
    /// [`WsOptionsError`] where the options cannot be used.
    pub fn new(options: WsOptions) -> Result<Self, WsOptionsError> {
        options.validate()?;
        Ok(Self { options: Arc::new(options) })
    }
}

impl TransportService for WebSocket {
    fn transport(&self) -> Transport {
        Transport::WebSocket
    }

    fn accepts(&self, request: &Parts) -> bool {
        request.method == Method::GET && has_token(&request.headers, &UPGRADE, "websocket")
    }

    fn accepts_post(&self, _: &PostHead<'_>) -> bool {
        false
    }

    fn serve(&self, server: &Server, mut request: Request<RequestBody>) -> ServiceFuture {
        let accepted = if request.version() == Version::HTTP_11 {
            self.accept(request.headers())
        } else {
            Err(Refusal::Malformed)
        };
        let response = match accepted {
            Ok(response) => {
                let upgrade = hyper::upgrade::on(&mut request);
                let (parts, _) = request.into_parts();
                let (origin, _) = server.origin(parts, None);
                tokio::spawn(run(upgrade, server.clone(), origin, Arc::clone(&self.options)));
                response
            }
            Err(refusal) => refusal.response(),
        };
        Box::pin(std::future::ready(response))
    }

    fn mounted(&self, server: &Server) {
        let (idle, timeout) = (self.options.idle_timeout, server.config().websocket.timeout);
        if idle <= timeout {
            tracing::warn!(?idle, ?timeout, "ws.idleTimeout should exceed timeout: held connects will be cut");
        }
    }
}

/// Why an upgrade is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// No key, or no upgrade after all (rule TW-28).
    Malformed,
    /// Another version of the protocol (rule TW-28).
    Version,
    /// The origin may not connect (rule Z-14).
    Origin,
    /// The client does not offer our subprotocol (rule TW-3).
    Protocol,
}

impl WebSocket {
    /// The response that accepts an upgrade (rules TW-1, TW-3, TW-4).
    fn accept(&self, headers: &HeaderMap) -> Result<Response<ResponseBody>, Refusal> {
        if !has_token(headers, &CONNECTION, "upgrade") {
            return Err(Refusal::Malformed);
        }
        if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(Refusal::Version);
        }
        // 16 bytes in base 64.
        let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
        let digits = key.strip_suffix(b"==").unwrap_or_default();
        if digits.len() != 22 || !digits.iter().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(b)) {
            return Err(Refusal::Malformed);
        }
        if headers.get(ORIGIN).is_some_and(|origin| !self.options.allowed_origins.allows(origin)) {
            return Err(Refusal::Origin);
        }
        let protocol = self.select_protocol(headers)?;
        let accept = HeaderValue::try_from(derive_accept_key(key)).map_err(|_| Refusal::Malformed)?;
        let mut response = Response::new(ResponseBody::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let answer = response.headers_mut();
        answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
        answer.insert(SEC_WEBSOCKET_ACCEPT, accept);
        answer.extend(protocol.map(|protocol| (SEC_WEBSOCKET_PROTOCOL, protocol)));
        Ok(response)
    }

    /// The subprotocol to name in the response (rules TW-3, Z-19).
    fn select_protocol(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Refusal> {
        let mut offered = tokens(headers, &SEC_WEBSOCKET_PROTOCOL);
        let selected = match &self.options.protocol {
            Some(ours) => Some(offered.find(|offer| offer == ours).ok_or(Refusal::Protocol)?),
            None => offered.find(|offer| !offer.is_empty()),
        };
        Ok(selected.and_then(|name| HeaderValue::from_str(name).ok()))
    }
}

impl Refusal {
    fn response(self) -> Response<ResponseBody> {
        match self {
            Self::Malformed => text_response(StatusCode::BAD_REQUEST, "Not A WebSocket Upgrade"),
            Self::Protocol => text_response(StatusCode::BAD_REQUEST, "WebSocket Subprotocol Missing"),
            Self::Origin => text_response(StatusCode::FORBIDDEN, "Origin Not Allowed"),
            Self::Version => {
                let mut response = text_response(StatusCode::UPGRADE_REQUIRED, "WebSocket Version 13 Only");
                response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                response
            }
        }
    }
}

/// The elements of a header that is a list.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',').map(str::trim))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|element| element.eq_ignore_ascii_case(token))
}

/// Waits for the upgrade, then leaves the connection to a task of its own: one that has no room for what was needed to
/// get there.
async fn run(upgrade: OnUpgrade, server: Server, origin: Origin, options: Arc<WsOptions>) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "connection was not upgraded");
            return;
        }
    };
    let limits = server.limits(Transport::WebSocket);
    let config = config(&options, &limits);
    let facts = LinkFacts { transport: Transport::WebSocket, http2: false, browser: None };
    let link = server.connect(facts, origin);
    match own_stream(upgraded) {
        Ok((stream, read)) => {
            tokio::spawn(Direct::new(stream, read, config, link, limits, options).run());
        }
        Err(upgraded) => {
            let stream: TokioIo<Upgraded> = TokioIo::new(upgraded);
            let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
            tokio::spawn(Conversation::new(socket, link, limits, options).run());
        }
    }
}

/// Takes the socket out of hyper, with the bytes that were read ahead, where it is one: under our listener, or under
/// hyper-util's automatic choice of version, as in axum.
fn own_stream(upgraded: Upgraded) -> Result<(TcpStream, Vec<u8>), Upgraded> {
    upgraded_socket(upgraded).or_else(|upgraded| {
        // The bytes are copied: they are a slice of hyper's buffer, which is much larger.
        upgrade::downcast::<TokioIo<TcpStream>>(upgraded).map(|parts| (parts.io.into_inner(), parts.read_buf.to_vec()))
    })
}

/// Frames are collected up to this size before they are written: a batch of small messages is one system call, and what
/// a connection keeps of its buffer after a large batch stays of this order.
const WRITE_BUFFER: usize = 16 * 1024;

/// The largest envelope that could be sent at once: far beyond what sessions may queue by default.
const WRITE_BUFFER_MAX: usize = 256 * 1024 * 1024;

fn config(options: &WsOptions, limits: &Limits) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(options.buffer_size)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER_MAX)
        .max_message_size(Some(limits.bytes_max))
        .max_frame_size(Some(limits.bytes_max))
}
