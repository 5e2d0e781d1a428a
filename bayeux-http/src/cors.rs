//! Cross-origin requests (rule TH-36): off until origins are allowed.

use std::sync::Arc;

use bayeux_server::RequestHead;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use crate::options::AllowedOrigins;

/// Headers of a response; nearly always there are none.
pub(crate) type Cors = Option<Arc<HeaderMap>>;

/// The headers that any response to a request from that origin gets.
pub(crate) fn headers(allowed: &AllowedOrigins, origin: Option<&[u8]>) -> Cors {
    if *allowed == AllowedOrigins::None {
        return None;
    }
    let mut headers = HeaderMap::new();
    // Also where it is not allowed, or names no origin: what a cache keeps must not answer one that is.
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    // A copy: the original would keep the whole request's buffer while a poll is held.
    let origin = origin.and_then(|origin| HeaderValue::from_bytes(origin).ok());
    if let Some(origin) = origin.filter(|origin| allowed.allows(origin)) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    Some(Arc::new(headers))
}

/// Adds headers to those of a response.
pub(crate) fn add(cors: &Cors, response: &mut HeaderMap) {
    if let Some(cors) = cors {
        response.extend(HeaderMap::clone(cors));
    }
}

/// Adds the headers of a response that is not long-polling's own, such as that to a preflight.
pub(crate) fn decorate(allowed: &AllowedOrigins, request: &Parts, response: &mut HeaderMap) {
    let cors = headers(allowed, request.value(&ORIGIN));
    let may = cors.as_ref().is_some_and(|headers| headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
    add(&cors, response);
    if may && request.method == Method::OPTIONS && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        response.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, OPTIONS"));
        response.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("Content-Type, Accept, Authorization, X-Requested-With, Pragma, Cache-Control"),
        );
        response.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    }
}
