//! callback-polling over real sockets (section TJ).

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::time::Duration;

use bayeux_http::{CallbackPolling, Config, Endpoint, HttpOptions, Listener, LongPolling, Server, Transport};
use common::{Client, Response, quick};
use serde_json::{Value, json};
use tokio::net::TcpStream;

fn offering() -> Config {
    let mut config = quick();
    config.allowed_transports.push(Transport::CallbackPolling);
    config
}

/// A server whose endpoint has both transports; it ends with the test.
async fn start(config: Config) -> (Server, Client<TcpStream>) {
    let server = Server::builder(config).build().unwrap();
    let options = HttpOptions::default();
    let endpoint = Endpoint::new(server.clone())
        .with(LongPolling::new(options.clone()).unwrap())
        .with(CallbackPolling::new(options).unwrap());
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
    tokio::spawn(listener.serve(server.clone(), endpoint, std::future::pending()));
    (server, client)
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn path(callback: &str, messages: &[Value]) -> String {
    let messages: String = messages.iter().map(|m| format!("&message={}", encoded(&m.to_string()))).collect();
    format!("/cometd?jsonp={callback}{messages}")
}

async fn get(client: &mut Client<TcpStream>, path: &str) -> Response {
    client.request("GET", path, "", "").await
}

/// What the function would be called with.
fn called(callback: &str, response: &Response) -> Vec<Value> {
    assert_eq!(response.status, 200, "{response:?}");
    let text = response.text();
    let arguments = text.strip_prefix(callback).and_then(|rest| rest.strip_prefix('(')).unwrap();
    serde_json::from_str(arguments.strip_suffix(')').unwrap()).unwrap()
}

async fn handshake(client: &mut Client<TcpStream>) -> Response {
    let hello = json!({"id": "1", "channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": ["callback-polling"]});
    let response = get(client, &path("cb", &[json!([hello])])).await;
    let reply = &called("cb", &response)[0];
    assert_eq!(reply["successful"], true, "{reply}");
    client.id = reply["clientId"].as_str().unwrap().to_owned();
    client.cookie = response.header("set-cookie").map(|cookie| cookie.split(';').next().unwrap().to_owned());
    response
}

fn connect(client: &Client<TcpStream>) -> Value {
    let mut connect = client.connect(None);
    connect["connectionType"] = json!("callback-polling");
    connect
}

/// TJ-1, TJ-4, Z-13: nothing but the call, and nothing that could be taken for anything else.
#[tokio::test]
async fn the_response_is_a_call_and_nothing_else() {
    let (_server, mut client) = start(offering()).await;
    let response = handshake(&mut client).await;
    assert_eq!(response.header("content-type"), Some("text/javascript;charset=UTF-8"));
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(response.header("content-disposition"), Some("attachment; filename=f.txt"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert!(response.header("set-cookie").unwrap().starts_with("BAYEUX_BROWSER="), "TJ-6");
    // An object and an array, and a parameter that means nothing.
    let (one, two) = (client.message("/service/a", json!({"id": "a"})), client.message("/b", json!({"id": "b"})));
    let response = get(&mut client, &format!("{}&_=123", path("$.f-1", &[one, json!([two])]))).await;
    let replies = called("$.f-1", &response);
    assert_eq!((&replies[0]["id"], &replies[1]["id"]), (&json!("a"), &json!("b")));
}

/// TJ-7, TJ-9: messages come with connects only, which they wake.
#[tokio::test]
async fn messages_wake_the_held_connect() {
    let (server, mut client) = start(offering()).await;
    handshake(&mut client).await;
    let first = connect(&client);
    called("cb", &get(&mut client, &path("cb", &[first])).await);
    let subscribe = client.message("/meta/subscribe", json!({"id": "s", "subscription": "/a"}));
    called("cb", &get(&mut client, &path("cb", &[subscribe])).await);
    let publish = client.message("/a", json!({"id": "p", "data": "own"}));
    let replies = called("cb", &get(&mut client, &path("cb", &[publish])).await);
    assert_eq!(replies.len(), 1, "O-16: {replies:?}");
    let next = connect(&client);
    let messages = called("cb", &get(&mut client, &path("cb", std::slice::from_ref(&next))).await);
    assert_eq!(messages[0], json!({"channel": "/a", "data": "own"}));
    client.begin("GET", &path("cb", &[next]), "", "").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    // TJ-5: what ends a line in scripts is escaped.
    server.publish("/a", "line\u{2028}and\u{2029}").await.unwrap();
    let response = client.response().await;
    assert!(response.text().contains("line\\u2028and\\u2029"), "{}", response.text());
    assert_eq!(called("cb", &response)[0]["data"], "line\u{2028}and\u{2029}");
    // And held to its end, out of hyper: a response of its own, too.
    let last = connect(&client);
    let replies = called("cb", &get(&mut client, &path("cb", &[last])).await);
    assert_eq!(replies[0]["successful"], true);
}

/// TJ-2, TJ-3
#[tokio::test]
async fn what_is_no_call_is_refused() {
    let (_server, mut client) = start(offering()).await;
    for path in [
        "/cometd?jsonp=cb",
        "/cometd?jsonp=cb&message=",
        "/cometd?jsonp=cb&message=%5B%5D",
        "/cometd?jsonp=cb&message=%7B",
        "/cometd?jsonp=cb&message=%FF",
        "/cometd?jsonp=a(1)&message=%7B%7D",
        "/cometd?jsonp=%3Cscript%3E&message=%7B%7D",
        "/cometd?jsonp=a&jsonp=b&message=%7B%7D",
        "/cometd?jsonp=&message=%7B%7D",
        "/cometd?message=%7B%7D",
        "/cometd",
    ] {
        let response = get(&mut client, path).await;
        assert_eq!(response.status, 400, "{path}");
        assert!(!response.text().contains("script"), "nothing of the request is repeated");
    }
    assert_eq!(get(&mut client, &path("cb", &[json!({})])).await.status, 200);
}

/// Z-13: off unless it is asked for, also where it is mounted.
#[tokio::test]
async fn it_is_off_by_default() {
    let (_server, mut client) = start(quick()).await;
    assert_eq!(get(&mut client, &path("cb", &[json!({})])).await.status, 400);
    let hello =
        json!([{"channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": ["callback-polling"]}]);
    let replies = client.exchange(&hello).await;
    assert_eq!(replies[0]["supportedConnectionTypes"], json!(["long-polling"]), "what is mounted and allowed");
}
