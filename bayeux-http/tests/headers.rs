//! Headers: the browser cookie, cross-origin requests, what every response has.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use bayeux_http::{AllowedOrigins, HttpOptions, SameSite, Server};
use common::{quick, start, start_with};
use serde_json::json;

const JSON: &str = "Content-Type: application/json\r\n";
const HELLO: &str = r#"[{"id":"1","channel":"/meta/handshake","version":"1.0"}]"#;

/// TH-7: what a response with messages has.
#[tokio::test]
async fn response_has_its_headers() {
    let running = start(quick()).await;
    let response = running.client().await.post(HELLO).await;
    assert_eq!(response.header("content-type"), Some("application/json;charset=UTF-8"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(response.header("content-length"), Some(response.body.len().to_string().as_str()));
    running.stop().await;
}

/// TH-20, TH-21: the cookie is set by a successful handshake that brought none, and never again.
#[tokio::test]
async fn cookie_is_set_once() {
    let running = start(quick()).await;
    let mut client = running.client().await;
    let response = client.post(HELLO).await;
    let cookie = response.header("set-cookie").unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly");
    let value = pair.strip_prefix("BAYEUX_BROWSER=").unwrap();
    assert!(!value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric()), "{value}");
    client.cookie = Some(pair.to_owned());
    assert_eq!(client.post(HELLO).await.header("set-cookie"), None);
    // Z-12: an id that does not look like ours counts as none.
    client.cookie = Some("BAYEUX_BROWSER=<script>".to_owned());
    assert!(client.post(HELLO).await.header("set-cookie").is_some());
    running.stop().await;
}

/// O-19 to O-24, TH-20: all attributes, in order.
#[tokio::test]
async fn cookie_has_the_attributes_of_the_options() {
    let mut options = HttpOptions::default();
    options.browser_cookie_name = "TAB".to_owned();
    options.browser_cookie_domain = Some("example.com".to_owned());
    options.browser_cookie_path = Some("/cometd".to_owned());
    options.browser_cookie_max_age = Some(std::time::Duration::from_secs(3600));
    options.browser_cookie_secure = true;
    options.browser_cookie_same_site = Some(SameSite::Lax);
    options.browser_cookie_partitioned = true;
    let running = start_with(Server::builder(quick()), options).await;
    let response = running.client().await.post(HELLO).await;
    let cookie = response.header("set-cookie").unwrap();
    let attributes = cookie.split_once("; ").unwrap().1;
    // The request is not over TLS: no `Secure`.
    assert_eq!(attributes, "Domain=example.com; Path=/cometd; Max-Age=3600; HttpOnly; SameSite=Lax; Partitioned");
    assert!(cookie.starts_with("TAB="));
    running.stop().await;
}

/// TH-36: no cross-origin access by default.
#[tokio::test]
async fn cross_origin_access_is_off_by_default() {
    let running = start(quick()).await;
    let mut client = running.client().await;
    let origin = "Origin: https://other.example\r\n";
    let responses = [
        client.request("OPTIONS", "/cometd", &format!("{origin}Access-Control-Request-Method: POST\r\n"), "").await,
        client.request("POST", "/cometd", &format!("{JSON}{origin}"), HELLO).await,
    ];
    for response in responses {
        assert_eq!(response.status, 200);
        assert!(!response.headers.iter().any(|(name, _)| name.starts_with("access-control")), "{response:?}");
    }
    running.stop().await;
}

/// TH-36: permitted origins are echoed, never `*`; others get nothing.
#[tokio::test]
async fn allowed_origin_is_echoed() {
    for (allowed, any) in
        [(AllowedOrigins::Any, true), (AllowedOrigins::from_list(["https://a.example".to_owned()]), false)]
    {
        let mut options = HttpOptions::default();
        options.allowed_origins = allowed;
        let running = start_with(Server::builder(quick()), options).await;
        let mut client = running.client().await;
        for (origin, allowed) in [("https://a.example", true), ("https://b.example", any)] {
            let header = format!("Origin: {origin}\r\n");
            let preflight = format!("{header}Access-Control-Request-Method: POST\r\n");
            let preflight = client.request("OPTIONS", "/cometd/handshake", &preflight, "").await;
            let posted = client.request("POST", "/cometd", &format!("{JSON}{header}"), HELLO).await;
            let refused = client.request("POST", "/cometd", &format!("{JSON}{header}"), "[").await;
            let unknown = client.request("GET", "/cometd", &header, "").await;
            for response in [&preflight, &posted, &refused, &unknown] {
                assert_eq!(response.header("access-control-allow-origin"), allowed.then_some(origin));
                assert_eq!(response.header("access-control-allow-credentials"), allowed.then_some("true"));
                assert_eq!(response.header("vary"), Some("Origin"));
            }
            let methods = preflight.header("access-control-allow-methods");
            assert_eq!(methods, allowed.then_some("POST, GET, OPTIONS"));
            if allowed {
                let headers = preflight.header("access-control-allow-headers").unwrap();
                for needed in ["Content-Type", "Accept", "Authorization", "X-Requested-With", "Pragma"] {
                    assert!(headers.contains(needed), "{headers}");
                }
                assert_eq!(preflight.header("access-control-max-age"), Some("86400"));
            }
        }
        running.stop().await;
    }
}

/// E-7, TH-4: Greek in ISO-8859-7 arrives as the same text in UTF-8.
#[tokio::test]
async fn other_charsets_are_decoded() {
    let running = start(quick()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.subscribe("/greek").await;
    let publish = alice.message("/greek", json!({"id": "p", "data": "ab"})).to_string();
    let mut body = publish.into_bytes();
    let at = body.windows(4).position(|window| window == b"\"ab\"").unwrap();
    body[at + 1..at + 3].copy_from_slice(b"\xe1\xe2");
    let headers = "Content-Type: application/json;charset=ISO-8859-7\r\n";
    let response = alice.request("POST", "/cometd", headers, body).await;
    assert_eq!(response.json()[0], json!({"channel": "/greek", "data": "αβ"}));
    running.stop().await;
}
