//! Where an endpoint can be mounted: an axum router beside other routes, bare hyper, HTTP/2 by prior knowledge.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bayeux_http::{Endpoint, HttpOptions, Listener, LongPolling, Server};
use bytes::Bytes;
use common::{Client, config, quick, start};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

fn endpoint(server: &Server) -> Endpoint {
    Endpoint::new(server.clone()).with(LongPolling::new(HttpOptions::default()).unwrap())
}

/// T-5: below a prefix of a router, any sub-path; the router's other routes are its own.
#[tokio::test]
async fn mounts_in_an_axum_router() {
    let server = Server::builder(quick()).build().unwrap();
    let app = axum::Router::new()
        .route("/hello", axum::routing::get(async || "hello"))
        .nest_service("/cometd", endpoint(&server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    assert_eq!(client.request("GET", "/hello", "", "").await.text(), "hello");
    client.handshake().await;
    client.subscribe("/a").await;
    client.hold(&json!([client.connect(None)])).await;
    server.publish("/a", "x").await.unwrap();
    assert_eq!(client.response().await.json()[0], json!({"channel": "/a", "data": "x"}));
    for path in ["/cometd", "/cometd/", "/cometd/a/b"] {
        assert_eq!(client.request("POST", path, "", "[{}]").await.status, 200, "{path}");
    }
    assert_eq!(client.request("POST", "/elsewhere", "", "[{}]").await.status, 404);
}

/// T-3: small `POST`s to an endpoint that is named go past the router, and nothing else does; what a connection has of
/// either kind is answered in turn.
#[tokio::test]
async fn listener_gives_small_posts_to_an_endpoint_straight() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let look = axum::middleware::from_fn(move |request: axum::extract::Request, next: axum::middleware::Next| {
        count.fetch_add(1, Ordering::Relaxed);
        next.run(request)
    });
    let server = Server::builder(quick()).build().unwrap();
    let inside = endpoint(&server);
    let app = axum::Router::new()
        .route("/echo", axum::routing::post(async |text: String| text))
        .nest_service("/cometd", inside.clone())
        .layer(look);
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().endpoints([inside.at("/cometd")]);
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(server.clone(), app, std::future::pending()));
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    client.handshake().await;
    client.subscribe("/a").await;
    for round in 0..3 {
        client.hold(&json!([client.connect(None)])).await;
        server.publish("/a", &round).await.unwrap();
        assert_eq!(client.response().await.json()[0], json!({"channel": "/a", "data": round}));
        assert_eq!(client.request("POST", "/echo", "", "abc").await.text(), "abc");
        assert_eq!(seen.load(Ordering::Relaxed), round + 1, "only what is no endpoint's");
    }
    // Another path, although it begins alike; another method; and what is too large to be read whole.
    assert_eq!(client.request("POST", "/cometd2", "", "[{}]").await.status, 404);
    assert_eq!(client.request("OPTIONS", "/cometd", "", "").await.status, 200);
    let large = client.message("/service/x", json!({"data": "x".repeat(200_000)}));
    assert_eq!(client.exchange(&json!([large])).await[0]["successful"], true);
    assert_eq!(seen.load(Ordering::Relaxed), 6);
}

/// T-5: the same router served by our own listener, which takes exchanges of Bayeux and others alike.
#[tokio::test]
async fn listener_serves_an_axum_router() {
    let server = Server::builder(quick()).build().unwrap();
    let app = axum::Router::new()
        .route("/hello", axum::routing::get(async || "hello"))
        .route("/echo", axum::routing::post(async |text: String| text))
        .nest_service("/cometd", endpoint(&server));
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(server.clone(), app, std::future::pending()));
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    client.handshake().await;
    client.subscribe("/a").await;
    client.hold(&json!([client.connect(None)])).await;
    server.publish("/a", "x").await.unwrap();
    assert_eq!(client.response().await.json()[0], json!({"channel": "/a", "data": "x"}));
    assert_eq!(client.request("POST", "/echo", "", "abc").await.text(), "abc");
    assert_eq!(client.request("GET", "/hello", "", "").await.text(), "hello");
    assert_eq!(client.request("POST", "/echo", "", "def").await.text(), "def");
    assert_eq!(client.request("POST", "/elsewhere", "", "[{}]").await.status, 404);
}

#[tokio::test]
async fn serves_bare_hyper() {
    let server = Server::builder(quick()).build().unwrap();
    let service = endpoint(&server);
    let (near, far) = tokio::io::duplex(1024);
    tokio::spawn(async move {
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).await
    });
    let mut client = Client::new(near);
    client.handshake().await;
    let replies = client.exchange(&json!([client.connect(None)])).await;
    assert_eq!(replies[0]["successful"], true);
}

/// E-65, T2-1: over HTTP/2 all sessions of a browser hold on one connection; TH-7, TH-20 hold there, too.
#[tokio::test]
async fn sessions_of_one_browser_hold_on_one_http2_connection() {
    let mut config = config();
    config.shards = 2;
    let running = start(config).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let url = format!("http://{}/cometd", running.address);
    let mut cookie: Option<String> = None;
    let mut held = Vec::new();
    for _ in 0..3 {
        let hello = json!([{"id": "1", "channel": "/meta/handshake", "version": "1.0"}]);
        let response = sender.send_request(request(&url, cookie.as_deref(), &hello)).await.unwrap();
        assert_eq!(response.version(), hyper::Version::HTTP_2);
        if let Some(set) = response.headers().get("set-cookie") {
            cookie = set.to_str().unwrap().split(';').next().map(str::to_owned);
        }
        let reply = body(response).await.remove(0);
        let connect = |timeout: Value| {
            json!([{"id": "c", "channel": "/meta/connect", "clientId": reply["clientId"],
                "connectionType": "long-polling", "advice": timeout}])
        };
        let first = request(&url, cookie.as_deref(), &connect(json!({"timeout": 0})));
        let first = body(sender.send_request(first).await.unwrap()).await;
        assert_eq!(first[0]["successful"], true);
        let holding = sender.send_request(request(&url, cookie.as_deref(), &connect(Value::Null)));
        held.push((tokio::spawn(holding), reply["clientId"].clone()));
    }
    for (held, id) in held {
        let session = running.server.session(id.as_str().unwrap()).unwrap();
        session.deliver("/private", &id).unwrap();
        let messages = body(held.await.unwrap().unwrap()).await;
        assert_eq!(messages[0], json!({"channel": "/private", "data": id}));
        assert!(messages[1]["advice"].get("multiple-clients").is_none(), "{messages:?}");
    }
    drop(sender);
    running.stop().await;
}

/// TH-44 over HTTP/2: the answer comes when the body was read, or its sender might take it for a broken stream.
#[tokio::test]
async fn body_over_the_limit_is_answered_over_http2_after_it_was_read() {
    let mut config = config();
    config.long_polling.max_message_size = 10_000;
    let running = start(config).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let url = format!("http://{}/cometd", running.address);
    let large = json!([{"channel": "/a", "data": "x".repeat(2_000_000)}]);
    let response = sender.send_request(request(&url, None, &large)).await.unwrap();
    assert_eq!(response.status(), 413);
    let hello = json!([{"id": "1", "channel": "/meta/handshake", "version": "1.0"}]);
    let replies = body(sender.send_request(request(&url, None, &hello)).await.unwrap()).await;
    assert_eq!(replies[0]["successful"], true, "the connection goes on");
    drop(sender);
    running.stop().await;
}

/// T2-2: a cancelled stream is an aborted request.
#[tokio::test]
async fn cancelled_stream_ends_its_hold() {
    let mut config = config();
    config.http2_max_sessions_per_browser = 1;
    let running = start(config).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let url = format!("http://{}/cometd", running.address);
    let hello = json!([{"id": "1", "channel": "/meta/handshake", "version": "1.0"}]);
    let response = sender.send_request(request(&url, None, &hello)).await.unwrap();
    let cookie = response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let id = body(response).await[0]["clientId"].as_str().unwrap().to_owned();
    let connect = json!([{"id": "c", "channel": "/meta/connect", "clientId": id, "advice": {"timeout": 0}}]);
    body(sender.send_request(request(&url, Some(&cookie), &connect)).await.unwrap()).await;
    let connect = json!([{"id": "c", "channel": "/meta/connect", "clientId": id}]);
    let holding = tokio::spawn(sender.send_request(request(&url, Some(&cookie), &connect)));
    let publish = json!([{"id": "p", "channel": "/service/x", "clientId": id, "data": 1}]);
    body(sender.send_request(request(&url, Some(&cookie), &publish)).await.unwrap()).await;
    holding.abort();
    let _ = holding.await;
    let publish = sender.send_request(request(&url, Some(&cookie), &publish)).await.unwrap();
    body(publish).await;
    // Nothing is delivered into the cancelled stream: the next connect gets it.
    running.server.session(&id).unwrap().deliver("/private", &1).unwrap();
    let next = body(sender.send_request(request(&url, Some(&cookie), &connect)).await.unwrap()).await;
    assert_eq!(next[0], json!({"channel": "/private", "data": 1}));
    drop(sender);
    running.stop().await;
}

fn request(url: &str, cookie: Option<&str>, messages: &Value) -> hyper::Request<Full<Bytes>> {
    let mut request = hyper::Request::post(url).header("content-type", "application/json;charset=UTF-8");
    if let Some(cookie) = cookie {
        request = request.header("cookie", cookie);
    }
    request.body(Full::from(messages.to_string())).unwrap()
}

async fn body(response: hyper::Response<hyper::body::Incoming>) -> Vec<Value> {
    assert_eq!(response.status(), 200);
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}
