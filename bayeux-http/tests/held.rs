//! Held connects on our own listener, where whoever makes a response writes it, or the connection's task, or hyper:
//! nothing of that may show. Each end of a hold is tried, what may come behind the request, and the connection's life
//! after it.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::time::Duration;

use bayeux_http::{AllowedOrigins, Config, HttpOptions, Incoming, Listener, Server};
use common::{Client, Running, config, quick, start, start_on, start_with, until};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

const JSON: &str = "Content-Type: application/json;charset=UTF-8\r\n";

/// A client whose connect is held: what it sends next in its session was answered on another connection.
async fn held(running: &Running) -> (Client<TcpStream>, Client<TcpStream>) {
    let mut client = running.client().await;
    client.handshake().await;
    client.subscribe("/news").await;
    let mut other = sibling(running, &client).await;
    client.hold(&json!([client.connect(None)])).await;
    behind(&mut other).await;
    (client, other)
}

/// Another connection of the same session.
async fn sibling(running: &Running, client: &Client<TcpStream>) -> Client<TcpStream> {
    let mut other = running.client().await;
    other.cookie = client.cookie.clone();
    other.id = client.id.clone();
    other
}

/// Gives what was sent elsewhere the time to be read: the engine answers in order, sockets need not.
async fn behind(other: &mut Client<TcpStream>) {
    for _ in 0..10 {
        other.exchange(&json!([other.message("/service/x", json!({"data": 1}))])).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn news(data: &Value) -> Value {
    json!({"channel": "/news", "data": data})
}

/// TH-1: one connection, many connects, held and not held, other requests between them.
#[tokio::test]
async fn connection_lives_on_after_held_connects() {
    let running = start(config()).await;
    let (mut client, _other) = held(&running).await;
    for round in 0..100 {
        running.server.publish("/news", &round).await.unwrap();
        let response = client.response().await;
        assert_eq!(response.status, 200);
        assert_eq!(response.json()[0], news(&json!(round)));
        assert_eq!(response.json()[1]["successful"], true);
        if round % 3 == 0 {
            let replies = client.exchange(&json!([client.message("/service/x", json!({"id": "x", "data": 1}))])).await;
            assert_eq!(replies[0]["successful"], true);
        }
        if round % 7 == 0 {
            assert_eq!(client.request("OPTIONS", "/cometd", "", "").await.status, 200);
        }
        client.hold(&json!([client.connect(None)])).await;
        if round % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    running.stop().await;
}

/// K-13: a hold ends with its timeout.
#[tokio::test]
async fn held_connect_times_out() {
    let running = start(quick()).await;
    let (mut client, _other) = held(&running).await;
    for _ in 0..3 {
        let response = client.response().await;
        assert_eq!(response.status, 200);
        assert_eq!(response.json(), [json!({"id": "c", "channel": "/meta/connect", "successful": true})]);
        client.hold(&json!([client.connect(None)])).await;
    }
    running.stop().await;
}

/// K-20, TH-46: the connect that is replaced fails, and its connection can be used again.
#[tokio::test]
async fn replaced_connect_leaves_its_connection_usable() {
    let running = start(config()).await;
    let (mut client, mut other) = held(&running).await;
    other.hold(&json!([other.connect(None)])).await;
    let response = client.response().await;
    assert_eq!(response.status, 500);
    assert_eq!(response.header("connection"), None);
    client.hold(&json!([client.connect(None)])).await;
    assert_eq!(other.response().await.status, 500);
    running.server.publish("/news", &1).await.unwrap();
    assert_eq!(client.response().await.json()[0], news(&json!(1)));
    running.stop().await;
}

/// The session times of a server that notices a lost client soon.
fn brief() -> Config {
    let mut config = config();
    config.each_transport(|options| options.max_interval = Duration::from_millis(300));
    config
}

/// Z-16, L-20, L-47: a client that goes away, or says that it will send no more, ends its hold at once. Its session
/// expires an interval later, not a timeout later, and takes what is queued with it.
#[tokio::test]
async fn client_that_goes_away_ends_its_hold() {
    for half in [false, true] {
        let running = start(brief()).await;
        let (mut client, other) = held(&running).await;
        drop(other);
        assert_eq!(running.server.session_count(), 1);
        if half {
            client.stream.shutdown().await.unwrap();
            assert_eq!(client.rest().await, b"");
        } else {
            drop(client);
        }
        until("the session expires", || running.server.session_count() == 0).await;
        running.stop().await;
    }
}

/// Q-14, Z-16: what is published after the client went away waits for its next connect.
#[tokio::test]
async fn nothing_is_lost_in_a_hold_that_its_client_left() {
    let running = start(config()).await;
    let (client, mut other) = held(&running).await;
    drop(client);
    behind(&mut other).await;
    running.server.publish("/news", &1).await.unwrap();
    let replies = other.exchange(&json!([other.connect(None)])).await;
    assert_eq!(replies[0], news(&json!(1)));
    running.stop().await;
}

/// TH-2, TH-53: requests behind a held connect are answered after it, in order, whether they came with it or later,
/// whole or in pieces.
#[tokio::test]
async fn requests_behind_a_held_connect_wait_for_it() {
    let running = start(config()).await;
    let mut client = running.client().await;
    client.handshake().await;
    client.subscribe("/news").await;
    let mut other = sibling(&running, &client).await;
    let path = |path: &str, body: &Value, cookie: &str| {
        let body = body.to_string();
        let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nCookie: {cookie}\r\n{JSON}");
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let cookie = client.cookie.clone().unwrap();
    let connect = path("/cometd/connect", &json!([client.connect(None)]), &cookie);
    let first = path("/cometd", &json!([client.message("/service/x", json!({"id": "1", "data": 1}))]), &cookie);
    // Longer than hyper's first buffer.
    let long = "x".repeat(20_000);
    let second = path("/cometd", &json!([client.message("/service/x", json!({"id": "2", "data": long}))]), &cookie);
    for (with, later) in [
        ([connect.as_str(), &first, &second].concat(), String::new()),
        (connect.clone(), [first.as_str(), &second].concat()),
        ([connect.as_str(), &first[..20]].concat(), [&first[20..], &second].concat()),
        ([connect.as_str(), &first, &second[..300]].concat(), second[300..].to_owned()),
    ] {
        client.send(&with).await;
        behind(&mut other).await;
        if !later.is_empty() {
            client.send(&later[..later.len() / 2]).await;
            behind(&mut other).await;
            client.send(&later[later.len() / 2..]).await;
            behind(&mut other).await;
        }
        running.server.publish("/news", &"n").await.unwrap();
        let held = client.response().await.json();
        assert_eq!(held[0], news(&json!("n")));
        assert_eq!(held[1]["channel"], "/meta/connect");
        assert_eq!(client.response().await.json()[0]["id"], "1");
        assert_eq!(client.response().await.json()[0]["id"], "2");
    }
    running.stop().await;
}

/// TH-2: two connects of different sessions in one go; the first answer does not wait for the second hold.
#[tokio::test]
async fn held_connect_behind_a_held_connect() {
    let running = start(config()).await;
    let (mut first, _) = held(&running).await;
    let (second, mut other) = held(&running).await;
    first.cookie = second.cookie.clone();
    // Replaces the connect that `second` holds.
    first.hold(&json!([second.connect(None)])).await;
    behind(&mut other).await;
    running.server.publish("/news", &1).await.unwrap();
    assert_eq!(first.response().await.json()[0], news(&json!(1)));
    let mut second = second;
    assert_eq!(second.response().await.json()[0], news(&json!(1)));
    running.server.publish("/news", &2).await.unwrap();
    assert_eq!(first.response().await.json()[0], news(&json!(2)));
    running.stop().await;
}

/// RFC 9112, 9.6: a client that wants its connection closed gets that after the response.
#[tokio::test]
async fn connection_closes_where_the_client_wants_it() {
    for (version, headers, says) in [
        ("1.1", "Connection: close\r\n", Some("close")),
        ("1.0", "", None),
        ("1.1", "Connection: x, close\r\n", Some("close")),
    ] {
        let running = start(config()).await;
        let mut client = running.client().await;
        client.handshake().await;
        client.subscribe("/news").await;
        let mut other = sibling(&running, &client).await;
        let body = json!([client.connect(None)]).to_string();
        let cookie = client.cookie.clone().unwrap();
        let head = format!("POST /cometd HTTP/{version}\r\nHost: test\r\nCookie: {cookie}\r\n{JSON}{headers}");
        client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
        behind(&mut other).await;
        running.server.publish("/news", &1).await.unwrap();
        let response = client.response().await;
        assert_eq!(response.json()[0], news(&json!(1)));
        assert_eq!(response.header("connection"), says, "{version} {headers}");
        assert_eq!(response.header("transfer-encoding"), None);
        assert_eq!(client.rest().await, b"");
        running.stop().await;
    }
}

/// HTTP/1.0 with `keep-alive`: the connection lives on, and says so.
#[tokio::test]
async fn http_1_0_keeps_alive_where_asked() {
    let running = start(config()).await;
    let mut client = running.client().await;
    client.handshake().await;
    client.subscribe("/news").await;
    let mut other = sibling(&running, &client).await;
    let body = json!([client.connect(None)]).to_string();
    let cookie = client.cookie.clone().unwrap();
    for round in 0..2 {
        let head = format!("POST /cometd HTTP/1.0\r\nConnection: keep-alive\r\nCookie: {cookie}\r\n{JSON}");
        client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
        behind(&mut other).await;
        running.server.publish("/news", &round).await.unwrap();
        let response = client.response().await;
        assert_eq!(response.json()[0], news(&json!(round)));
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
    running.stop().await;
}

/// L-20: a client that reads slowly gets a large response whole, and the connection lives on.
#[tokio::test]
async fn slow_reader_gets_a_large_response() {
    let running = start(config()).await;
    let mut client = running.client().await;
    client.handshake().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = Client::new(socket.connect(running.address).await.unwrap());
    slow.cookie = client.cookie.clone();
    slow.id = client.id.clone();
    slow.subscribe("/news").await;
    slow.hold(&json!([slow.connect(None)])).await;
    behind(&mut client).await;
    let large = "y".repeat(3_000_000);
    running.server.publish("/news", &large).await.unwrap();
    // A second request while the response is stuck, and a connect that is held behind that.
    let ping = slow.message("/service/x", json!({"id": "p", "data": 1}));
    slow.begin("POST", "/cometd", JSON, json!([ping]).to_string()).await;
    slow.hold(&json!([slow.connect(None)])).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let response = slow.response().await.json();
    assert_eq!(response[0]["data"].as_str().unwrap().len(), large.len());
    assert_eq!(slow.response().await.json()[0]["id"], "p");
    behind(&mut client).await;
    running.server.publish("/news", &1).await.unwrap();
    assert_eq!(slow.response().await.json()[0], news(&json!(1)));
    running.stop().await;
}

/// L-20: what a full socket takes in part comes whole, and until then the session is being answered.
#[tokio::test]
async fn response_that_a_socket_takes_in_part_is_finished() {
    let sockets = || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(4096).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket
    };
    let listening = sockets();
    listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = Listener::new(listening.listen(16).unwrap());
    let mut config = config();
    config.each_transport(|options| options.max_interval = Duration::from_millis(1_500));
    let running = start_on(listener, Server::builder(config), HttpOptions::default());
    let mut client = Client::new(sockets().connect(running.address).await.unwrap());
    client.handshake().await;
    client.subscribe("/news").await;
    // Small enough to be written by whoever publishes.
    let large = "y".repeat(50_000);
    for round in 0..2 {
        client.hold(&json!([client.connect(None)])).await;
        behind(&mut running.client().await).await;
        running.server.publish("/news", &json!([round, large])).await.unwrap();
        // Longer than the session lives without a connect.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(running.server.session(&client.id).is_some());
        let response = client.response().await.json();
        assert_eq!(response[0], news(&json!([round, large])));
    }
    running.stop().await;
}

/// TH-7, TH-36: a response that was waited for has the headers of one that was not.
#[tokio::test]
async fn held_response_has_the_same_headers() {
    let mut options = HttpOptions::default();
    options.allowed_origins = AllowedOrigins::Any;
    let running = start_with(Server::builder(config()), options).await;
    let (mut client, mut other) = held(&running).await;
    let origin = format!("{JSON}Origin: https://a.example\r\n");
    running.server.publish("/news", &1).await.unwrap();
    client.response().await;
    let connect = |timeout: Option<u64>| json!([client.connect(timeout)]).to_string();
    let (at_once, long) = (connect(Some(0)), connect(None));
    running.server.publish("/news", &2).await.unwrap();
    let unheld = client.request("POST", "/cometd/connect", &origin, at_once).await;
    client.begin("POST", "/cometd/connect", &origin, long).await;
    behind(&mut other).await;
    running.server.publish("/news", &3).await.unwrap();
    let held = client.response().await;
    assert_eq!(held.json()[0], news(&json!(3)));
    let names = |response: &common::Response| {
        let of = |(name, value): &(String, String)| {
            if name == "date" { (name.clone(), String::new()) } else { (name.clone(), value.clone()) }
        };
        response.headers.iter().map(of).filter(|(name, _)| name != "content-length").collect::<Vec<_>>()
    };
    assert_eq!(names(&held), names(&unheld));
    assert_eq!(held.header("access-control-allow-origin"), Some("https://a.example"));
    assert_eq!(held.header("content-length"), Some(held.body.len().to_string().as_str()));
    assert!(held.header("date").is_some());
    running.stop().await;
}

/// L-36, TH-46: a server that stops answers what it holds, and closes.
#[tokio::test]
async fn stop_answers_held_connects() {
    let running = start(config()).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(held(&running).await.0);
    }
    tokio::time::timeout(Duration::from_secs(3), running.stop()).await.unwrap();
    for mut client in clients {
        let response = client.response().await;
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!(client.rest().await, b"");
    }
}

/// Hooks on the request's messages are asked before a connect is held; nothing of the request is needed after.
#[tokio::test]
async fn held_connect_with_hooks() {
    let builder = Server::builder(config()).on_message("/service/x", async |message: Incoming| {
        assert!(message.context.is_some());
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let (mut client, mut other) = held(&running).await;
    for round in 0..2 {
        running.server.publish("/news", &round).await.unwrap();
        assert_eq!(client.response().await.json()[0], news(&json!(round)));
        client.hold(&json!([client.connect(None)])).await;
        behind(&mut other).await;
    }
    running.stop().await;
}
