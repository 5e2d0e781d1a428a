//! The chat page and what it loads: a few files, compiled in.

use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Method, Response, StatusCode};

/// The files, ready to be sent.
#[derive(Debug)]
pub(crate) struct Pages {
    pages: Vec<Page>,
}

#[derive(Debug)]
struct Page {
    path: &'static str,
    content_type: &'static str,
    body: Bytes,
    etag: HeaderValue,
}

/// Everything from this server and nothing else, WebSockets excepted: `'self'` does not cover their scheme in every
/// browser.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self' ws: wss:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// What `index.html` says of the endpoint.
const ENDPOINT: &str = r#"<meta name="bayeux-endpoint" content="/cometd">"#;

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

impl Pages {
    /// The pages of a server whose endpoint is at `endpoint`.
    pub(crate) fn new(endpoint: &str) -> Self {
        let quoted = endpoint.replace('&', "&amp;").replace('"', "&quot;");
        let index = include_str!("../web/index.html").replace(ENDPOINT, &ENDPOINT.replace("/cometd", &quoted));
        Self {
            pages: vec![
                Page::new("/", "text/html; charset=utf-8", index.into()),
                Page::embedded("/bayeux.js", JAVASCRIPT, include_str!("../web/bayeux.js")),
                Page::embedded("/chat.js", JAVASCRIPT, include_str!("../web/chat.js")),
                Page::embedded("/chat.css", "text/css; charset=utf-8", include_str!("../web/chat.css")),
                Page::embedded("/favicon.svg", "image/svg+xml", include_str!("../web/favicon.svg")),
            ],
        }
    }

    /// Answers a request that is not for the endpoint.
    pub(crate) fn respond(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<Bytes> {
        let Some(page) = self.pages.iter().find(|page| page.path == path) else {
            return not_found();
        };
        let mut response = if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        } else if page.is_known_to(headers) {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            let body = if *method == Method::HEAD { Bytes::new() } else { page.body.clone() };
            let mut response = Response::new(body);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(page.body.len()));
            response
        };
        let headers = response.headers_mut();
        headers.insert(ETAG, page.etag.clone());
        // Asked for again each time, so that a newer server is noticed; the answer is mostly 304.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}

/// The answer to a path that nothing is at.
pub(crate) fn not_found() -> Response<Bytes> {
    text(StatusCode::NOT_FOUND, "Not Found\n")
}

fn text(status: StatusCode, body: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl Page {
    fn embedded(path: &'static str, content_type: &'static str, body: &'static str) -> Self {
        Self::new(path, content_type, Bytes::from_static(body.as_bytes()))
    }

    fn new(path: &'static str, content_type: &'static str, body: Bytes) -> Self {
        // Not cryptographic, and need not be: it tells two versions of our own file apart.
        let mut hasher = DefaultHasher::new();
        hasher.write(&body);
        let etag = HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish())).expect("hexadecimal digits");
        Self { path, content_type, body, etag }
    }

    /// Whether the client says that it has this version.
    fn is_known_to(&self, headers: &HeaderMap) -> bool {
        let listed = headers.get_all(IF_NONE_MATCH).iter().flat_map(|list| list.as_bytes().split(|b| *b == b','));
        listed.map(<[u8]>::trim_ascii).any(|tag| {
            // Proxies that compress make tags weak.
            tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == self.etag.as_bytes()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Response<Bytes> {
        Pages::new("/bayeux").respond(&Method::GET, path, &HeaderMap::new())
    }

    #[test]
    fn each_file_has_its_type() {
        for (path, content_type) in [
            ("/", "text/html; charset=utf-8"),
            ("/bayeux.js", "text/javascript; charset=utf-8"),
            ("/chat.js", "text/javascript; charset=utf-8"),
            ("/chat.css", "text/css; charset=utf-8"),
            ("/favicon.svg", "image/svg+xml"),
        ] {
            let response = get(path);
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(response.headers()[CONTENT_TYPE], content_type);
            assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert!(response.headers().contains_key(CONTENT_SECURITY_POLICY));
            assert!(!response.body().is_empty());
        }
        assert_eq!(get("/elsewhere").status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn the_page_knows_where_the_endpoint_is() {
        let page = get("/").into_body();
        let page = std::str::from_utf8(&page).expect("the page is UTF-8");
        assert!(page.contains(r#"<meta name="bayeux-endpoint" content="/bayeux">"#));
    }

    #[test]
    fn an_unchanged_file_is_not_sent_again() {
        let pages = Pages::new("/cometd");
        let etag = get("/bayeux.js").headers()[ETAG].clone();
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, HeaderValue::try_from([b"\"x\", W/", etag.as_bytes()].concat()).expect("ASCII"));
        let response = pages.respond(&Method::GET, "/bayeux.js", &headers);
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(response.headers()[ETAG], etag);
        assert!(response.body().is_empty());
    }

    #[test]
    fn heads_have_a_length_and_no_body() {
        let response = Pages::new("/cometd").respond(&Method::HEAD, "/chat.css", &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.body().is_empty());
        assert_ne!(response.headers()[CONTENT_LENGTH], "0");
        let response = Pages::new("/cometd").respond(&Method::POST, "/", &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
