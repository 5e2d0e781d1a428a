//! What hooks know of the request that a message came with, and what they add to its response.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bayeux_http::{
    Asked, Context, Endpoint, HttpOptions, Incoming, Listener, LongPolling, Outcome, Policy, RequestBody,
    ResponseHeaderError, Server, Verdict,
};
use common::{Client, quick, start_with};
use http::{Request, Response};
use serde_json::json;
use tokio::net::TcpStream;

/// The headers of the very request that carried the message.
#[tokio::test]
async fn listener_reads_a_header_of_the_message_s_own_request() {
    let builder = Server::builder(quick()).on_message("/service/echo", async |message: Incoming| {
        let header = message.context.as_ref().and_then(|context| context.headers().get("x-request"));
        let header = header.map(|header| header.to_str().unwrap().to_owned());
        message.answer(&header).unwrap();
        Outcome::Continue
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    for value in ["one", "two"] {
        let message = alice.message("/service/echo", json!({"id": "m"}));
        let headers = format!("Content-Type: application/json\r\nX-Request: {value}\r\n");
        let response = alice.request("POST", "/cometd", &headers, message.to_string()).await;
        assert_eq!(response.json()[0]["data"], value, "{response:?}");
    }
    running.stop().await;
}

/// A header is set for the response that carries the reply, and for no other; the transport's own are out of reach.
#[tokio::test]
async fn listener_sets_a_header_of_the_response() {
    let builder = Server::builder(quick()).on_message("/service/mark", async |message: Incoming| {
        let context = message.context.unwrap();
        context.set_response_header("X-My-Header", "mine").unwrap();
        context.set_response_header("Set-Cookie", "own=1").unwrap();
        assert_eq!(context.set_response_header("Content-Type", "text/html"), Err(ResponseHeaderError::Reserved));
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    let response = alice.post(alice.message("/service/mark", json!({"id": "m"})).to_string()).await;
    assert_eq!(response.header("x-my-header"), Some("mine"));
    assert_eq!(response.header("set-cookie"), Some("own=1"));
    assert!(response.header("content-type").unwrap().starts_with("application/json"));
    let other = alice.post(alice.message("/service/other", json!({"id": "m"})).to_string()).await;
    assert_eq!(other.header("x-my-header"), None);
    running.stop().await;
}

/// Who is there, according to the layer that authenticated the request.
#[derive(Debug, Clone)]
struct Principal(String);

/// Puts a [`Principal`] into requests, as middleware for basic authentication or tokens does.
#[derive(Clone)]
struct Authenticated(Endpoint);

impl tower_service::Service<Request<RequestBody>> for Authenticated {
    type Response = Response<bayeux_http::ResponseBody>;
    type Error = Infallible;
    type Future = <Endpoint as tower_service::Service<Request<RequestBody>>>::Future;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        if let Some(user) = request.headers().get("authorization") {
            let user = Principal(user.to_str().unwrap().to_owned());
            request.extensions_mut().insert(user);
        }
        tower_service::Service::call(&mut self.0, request)
    }
}

struct Known(Arc<Mutex<Vec<String>>>);

impl Policy for Known {
    async fn can_handshake(&self, asked: Asked) -> Verdict {
        let context: Arc<Context> = asked.context.unwrap();
        assert!(context.peer().unwrap().ip().is_loopback() && !context.is_tls());
        assert_eq!((context.method().as_str(), context.uri().path()), ("POST", "/cometd/"));
        match context.extension::<Principal>() {
            Some(Principal(user)) => {
                self.0.lock().unwrap().push(user.clone());
                Verdict::allow()
            }
            None => Verdict::deny(),
        }
    }
}

/// The policy goes by the principal that an outer layer found.
#[tokio::test]
async fn policy_sees_the_principal_of_an_outer_layer() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = Server::builder(quick()).policy(Known(Arc::clone(&seen))).build().unwrap();
    let endpoint = Endpoint::new(server.clone()).with(LongPolling::new(HttpOptions::default()).unwrap());
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(server.clone(), Authenticated(endpoint), std::future::pending()));
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    let hello = r#"[{"id":"1","channel":"/meta/handshake","version":"1.0"}]"#;
    let denied = client.post(hello).await.json();
    assert_eq!(denied[0]["error"], "403::handshake_denied", "{denied:?}");
    let response = client.request("POST", "/cometd/", "Authorization: alice\r\n", hello).await.json();
    assert_eq!(response[0]["successful"], true, "{response:?}");
    assert_eq!(*seen.lock().unwrap(), ["alice"]);
}

/// HTTP/1.1 names its host once; anything else is an attempt to be taken for another's request.
#[tokio::test]
async fn request_without_its_host_is_refused() {
    let running = start_with(Server::builder(quick()), HttpOptions::default()).await;
    for (head, status) in [
        ("POST /cometd HTTP/1.1\r\n", 400),
        ("POST /cometd HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400),
        ("POST /cometd HTTP/1.0\r\nHost: a\r\nHost: b\r\n", 400),
        ("POST /cometd HTTP/1.1\r\nHost: a b\r\n", 400),
        ("POST /cometd HTTP/1.1\r\nHost: a@b\r\n", 400),
        ("POST /cometd HTTP/1.1\r\nHost: http://a/\r\n", 400),
        ("POST /cometd HTTP/1.1\r\nHost: a\r\n", 200),
        ("POST /cometd HTTP/1.1\r\nHost:\r\n", 200),
        ("POST /cometd HTTP/1.1\r\nHost: [::1]:80\r\n", 200),
        ("POST /cometd HTTP/1.0\r\n", 200),
    ] {
        let mut client = running.client().await;
        client.send(format!("{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}")).await;
        assert_eq!(client.response().await.status, status, "{head}");
    }
    running.stop().await;
}

/// Clients that never said anything keep nobody from stopping.
#[tokio::test]
async fn silent_connections_do_not_delay_a_stop() {
    let running = start_with(Server::builder(quick()), HttpOptions::default()).await;
    let _silent = [running.client().await, running.client().await];
    let mut alice = running.client().await;
    alice.handshake().await;
    let began = std::time::Instant::now();
    running.stop().await;
    // The drain timeout is 5 s.
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());
}
