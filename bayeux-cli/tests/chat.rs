//! The chat services over real sockets: who is told of whom, and who is not. People come in by two paths (E-161) and
//! leave in different ways; the lists must follow (B44), and a private message must reach nobody else (B45).

mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use bayeux_cli::options;
use bayeux_cli::serve::{self, Running};
use serde_json::{Value, json};
use tokio::time::timeout;
use wire::{Frame, Frames, Http, PATIENCE, WebSocket};

async fn server() -> Running {
    let flags = ["serve", "--listen=127.0.0.1:0", "--path=/cometd,/other", "--shards=2", "--max-interval=500ms"];
    let matches = options::command().try_get_matches_from(flags).expect("these flags exist");
    let settings = options::load(&matches, std::iter::empty()).expect("these options are valid").settings;
    serve::start(settings, |server| server).await.expect("a server")
}

struct Person {
    socket: WebSocket,
    frames: Frames,
    id: String,
    /// What was read ahead of what was waited for.
    unread: Vec<Value>,
}

impl Person {
    /// Comes in, subscribes to everything of the room and joins it.
    async fn join(address: SocketAddr, path: &str, name: &str) -> Self {
        let (socket, frames) = wire::upgrade(address, path).await.expect("a WebSocket");
        let mut person = Self { socket, frames, id: String::new(), unread: Vec::new() };
        let reply =
            person.ask(json!({ "channel": "/meta/handshake", "supportedConnectionTypes": ["websocket"] })).await;
        person.id = reply["clientId"].as_str().expect("a session").to_owned();
        let channels = ["/chat/demo", "/members/demo"];
        person.ask(json!({ "channel": "/meta/subscribe", "subscription": channels })).await;
        // Held from now on; what matters is pushed past it.
        person.ask(json!({ "channel": "/meta/connect", "connectionType": "websocket" })).await;
        person.send(json!({ "channel": "/meta/connect", "connectionType": "websocket" })).await;
        let reply =
            person.ask(json!({ "channel": "/service/members", "data": { "user": name, "room": "/chat/demo" } })).await;
        assert_eq!(reply["successful"], true, "{reply}");
        person
    }

    async fn send(&mut self, mut message: Value) {
        message["id"] = "1".into();
        if !self.id.is_empty() {
            message["clientId"] = self.id.clone().into();
        }
        self.socket.text(json!([message]).to_string().as_bytes()).await.expect("an open connection");
    }

    /// Sends a message and waits for its reply.
    async fn ask(&mut self, message: Value) -> Value {
        let channel = message["channel"].clone();
        self.send(message).await;
        self.wait_for(|message| message["channel"] == channel && message.get("successful").is_some()).await
    }

    async fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                if let Some(at) = self.unread.iter().position(&wanted) {
                    return self.unread.remove(at);
                }
                match self.frames.next().await.expect("a frame") {
                    Frame::Text(text) => {
                        self.unread.extend(serde_json::from_str::<Vec<Value>>(&text).expect("messages"));
                    }
                    other @ (Frame::Pong(_) | Frame::Close(_) | Frame::Cut) => panic!("{other:?}"),
                }
            }
        };
        timeout(PATIENCE, waiting).await.expect("it comes")
    }

    /// Waits until the room has exactly these people.
    async fn sees(&mut self, names: &[&str]) {
        self.wait_for(|message| message["channel"] == "/members/demo" && message["data"] == json!(names)).await;
    }

    async fn hears(&mut self, data: Value) {
        self.wait_for(|message| message["channel"] == "/chat/demo" && message["data"] == data).await;
    }
}

#[tokio::test]
async fn lists_follow_who_comes_and_goes() {
    let server = server().await;
    let address = server.addresses()[0];
    let mut alice = Person::join(address, "/cometd", "alice").await;
    alice.sees(&["alice"]).await;
    let mut bob = Person::join(address, "/other/", "bob").await;
    alice.sees(&["alice", "bob"]).await;
    bob.sees(&["alice", "bob"]).await;

    // A third over long-polling, who never says goodbye and expires.
    let mut http = Http::connect(address).await.expect("a connection");
    let handshake = br#"[{"channel":"/meta/handshake","supportedConnectionTypes":["long-polling"]}]"#;
    let response = http.post("", handshake).await.expect("a response");
    let cookie = response.cookie.expect("a cookie");
    let replies: Value = serde_json::from_slice(&response.body).expect("replies");
    let join = json!([{
        "channel": "/service/members",
        "clientId": replies[0]["clientId"],
        "data": { "user": "carol", "room": "demo" },
    }]);
    let response = http.post(&cookie, join.to_string().as_bytes()).await.expect("a response");
    assert_eq!(response.status, 200);
    alice.sees(&["alice", "bob", "carol"]).await;
    bob.sees(&["alice", "bob", "carol"]).await;
    alice.sees(&["alice", "bob"]).await;
    bob.sees(&["alice", "bob"]).await;

    // One leaves the room and stays connected, one disconnects.
    bob.ask(json!({ "channel": "/meta/unsubscribe", "subscription": "/chat/demo" })).await;
    alice.sees(&["alice"]).await;
    bob.ask(json!({ "channel": "/service/members", "data": { "user": "rob", "room": "demo" } })).await;
    alice.sees(&["alice", "rob"]).await;
    bob.send(json!({ "channel": "/meta/disconnect" })).await;
    alice.sees(&["alice"]).await;
    server.stop().await;
}

#[tokio::test]
async fn private_messages_reach_the_named_and_the_sender_only() {
    let server = server().await;
    let address = server.addresses()[0];
    let mut alice = Person::join(address, "/cometd", "alice").await;
    let mut bob = Person::join(address, "/other", "bob").await;
    let mut carol = Person::join(address, "/cometd", "carol").await;
    let private = json!({ "room": "/chat/demo", "user": "mallory", "chat": "psst", "peer": "bob" });
    alice.ask(json!({ "channel": "/service/privatechat", "data": private })).await;
    let delivered = json!({ "user": "alice", "chat": "psst", "scope": "private", "peer": "bob" });
    bob.hears(delivered.clone()).await;
    alice.hears(delivered).await;
    // What is published afterwards arrives afterwards: had carol been told, she would have it by now.
    alice.ask(json!({ "channel": "/chat/demo", "data": { "user": "alice", "chat": "hello" } })).await;
    carol.hears(json!({ "user": "alice", "chat": "hello" })).await;
    assert!(!carol.unread.iter().any(|message| message["data"]["scope"] == "private"), "{:?}", carol.unread);

    // Nothing to deliver, nobody to deliver to, and no member at all.
    for refused in [json!(null), json!({ "room": "demo" }), json!({ "room": "elsewhere", "chat": "x", "peer": "bob" })]
    {
        let reply = alice.ask(json!({ "channel": "/service/privatechat", "data": refused })).await;
        assert_eq!(reply["error"], "404::message_deleted", "{refused}");
    }
    for refused in [json!("bob"), json!({ "user": "a,b", "room": "demo" }), json!({ "user": "x", "room": "/meta/*" })] {
        let reply = alice.ask(json!({ "channel": "/service/members", "data": refused })).await;
        assert_eq!(reply["error"], "404::message_deleted", "{refused}");
    }
    // A list that is not the server's.
    let reply = alice.ask(json!({ "channel": "/members/demo", "data": ["alice", "the queen"] })).await;
    assert_eq!(reply["error"], "404::message_deleted");
    timeout(Duration::from_secs(10), server.stop()).await.expect("it stops");
}
