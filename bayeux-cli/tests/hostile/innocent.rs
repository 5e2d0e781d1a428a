//! Two people who chat while all this goes on: one over WebSocket, one over long-polling.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Barrier, mpsc, watch};
use tokio::time::timeout;

use crate::wire::{Frame, Http, PATIENCE, WebSocket, upgrade};

pub(crate) const CHANNEL: &str = "/chat/innocent";

/// The pause between two messages of one person.
const PACE: Duration = Duration::from_millis(40);

/// What somebody saw of the chat.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) sent: usize,
    /// Numbers of the other's messages, as they came.
    pub(crate) received: Vec<usize>,
    /// The longest that a message was under way.
    pub(crate) slowest: Duration,
}

/// A conversation: what is said is told from forgeries by a secret.
#[derive(Clone)]
pub(crate) struct Talk {
    pub(crate) address: SocketAddr,
    pub(crate) secret: u64,
    pub(crate) start: Instant,
    /// Says when to stop talking.
    pub(crate) stop: watch::Receiver<bool>,
    /// Where the ids of the sessions go, for attackers to know.
    pub(crate) ids: mpsc::UnboundedSender<String>,
    /// Nobody talks before both listen.
    pub(crate) both: Arc<Barrier>,
}

impl Talk {
    fn say(&self, name: &str, number: usize) -> Value {
        json!({ "from": name, "number": number, "secret": self.secret, "at": self.start.elapsed().as_micros() as u64 })
    }

    /// Takes down what `other` said in `messages`; yields the rest, the replies.
    fn listen(&self, other: &str, messages: Vec<Value>, seen: &mut Seen) -> Vec<Value> {
        let (said, rest): (Vec<Value>, Vec<Value>) =
            messages.into_iter().partition(|message| message["channel"] == CHANNEL && message.get("data").is_some());
        for data in said.iter().map(|message| &message["data"]) {
            if data["secret"] == self.secret && data["from"] == other {
                seen.received.push(data["number"].as_u64().expect("a number") as usize);
                let at = Duration::from_micros(data["at"].as_u64().expect("a time"));
                seen.slowest = seen.slowest.max(self.start.elapsed().saturating_sub(at));
            }
        }
        rest
    }
}

fn messages(text: &[u8]) -> Vec<Value> {
    serde_json::from_slice(text).expect("the server sends arrays of messages")
}

/// Talks over WebSocket until told to stop, then listens a little longer.
pub(crate) async fn over_websocket(mut talk: Talk, name: &str, other: &str) -> Seen {
    let (mut socket, mut frames) = upgrade(talk.address, "/cometd").await.expect("a WebSocket");
    let (received, mut inbox) = mpsc::unbounded_channel();
    let reader = tokio::spawn(async move {
        while let Ok(Frame::Text(text)) = frames.next().await {
            if received.send(messages(text.as_bytes())).is_err() {
                break;
            }
        }
    });
    let handshake =
        json!([{ "channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": ["websocket"] }]);
    send(&mut socket, &handshake).await;
    let reply = timeout(PATIENCE, inbox.recv()).await.expect("in time").expect("a handshake reply");
    let id = reply[0]["clientId"].as_str().expect("a session").to_owned();
    let _ = talk.ids.send(id.clone());
    let connect = json!([{ "channel": "/meta/connect", "clientId": id, "connectionType": "websocket" }]);
    let subscribe = json!([{ "channel": "/meta/subscribe", "clientId": id, "subscription": CHANNEL }]);
    send(&mut socket, &subscribe).await;
    let reply = timeout(PATIENCE, inbox.recv()).await.expect("in time").expect("a reply to the subscription");
    assert_eq!(reply[0]["successful"], true, "{reply:?}");
    send(&mut socket, &connect).await;
    talk.both.wait().await;
    let mut seen = Seen::default();
    let mut pace = tokio::time::interval(PACE);
    let mut quiet_at = None;
    loop {
        tokio::select! {
            batch = timeout(PATIENCE, inbox.recv()) => {
                let batch = batch.expect("heartbeats at least").expect("nobody closes an innocent's connection");
                for reply in talk.listen(other, batch, &mut seen) {
                    assert_eq!(reply["successful"], true, "{reply}");
                    if reply["channel"] == "/meta/connect" {
                        send(&mut socket, &connect).await;
                    }
                }
            }
            _ = pace.tick() => {
                if *talk.stop.borrow_and_update() {
                    if quiet_at.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(2) {
                        break;
                    }
                    continue;
                }
                let data = talk.say(name, seen.sent);
                send(&mut socket, &json!([{ "channel": CHANNEL, "clientId": id, "data": data }])).await;
                seen.sent += 1;
            }
        }
    }
    send(&mut socket, &json!([{ "channel": "/meta/disconnect", "clientId": id }])).await;
    let goodbye = async {
        while let Some(batch) = inbox.recv().await {
            if batch.iter().any(|reply| reply["channel"] == "/meta/disconnect") {
                return;
            }
        }
        panic!("no reply to the disconnect");
    };
    timeout(PATIENCE, goodbye).await.expect("a reply to the disconnect");
    reader.abort();
    seen
}

async fn send(socket: &mut WebSocket, batch: &Value) {
    socket.text(batch.to_string().as_bytes()).await.expect("nobody closes an innocent's connection");
}

/// Talks over long-polling, on two connections as browsers do.
pub(crate) async fn over_long_polling(mut talk: Talk, name: &str, other: &str) -> Seen {
    let mut http = Http::connect(talk.address).await.expect("a connection");
    let handshake =
        json!([{ "channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": ["long-polling"] }]);
    let response = http.post("", handshake.to_string().as_bytes()).await.expect("a response");
    let cookie = response.cookie.expect("a browser cookie");
    let id = messages(&response.body)[0]["clientId"].as_str().expect("a session").to_owned();
    let _ = talk.ids.send(id.clone());
    let mut seen = Seen::default();
    let subscribe = json!([{ "channel": "/meta/subscribe", "clientId": id, "subscription": CHANNEL }]);
    post(&mut http, &cookie, &subscribe, &talk, other, &mut seen).await;
    talk.both.wait().await;

    let poll = tokio::spawn({
        let (talk, cookie, id, other) = (talk.clone(), cookie.clone(), id.clone(), other.to_owned());
        async move {
            let mut http = Http::connect(talk.address).await.expect("a connection");
            let mut seen = Seen::default();
            let connect = json!([{ "channel": "/meta/connect", "clientId": id, "connectionType": "long-polling" }]);
            let mut quiet_at: Option<Instant> = None;
            loop {
                post(&mut http, &cookie, &connect, &talk, &other, &mut seen).await;
                if *talk.stop.borrow() && quiet_at.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(2) {
                    return seen;
                }
            }
        }
    });
    let mut pace = tokio::time::interval(PACE);
    while !*talk.stop.borrow_and_update() {
        pace.tick().await;
        let data = talk.say(name, seen.sent);
        let publish = json!([{ "channel": CHANNEL, "clientId": id, "data": data }]);
        post(&mut http, &cookie, &publish, &talk, other, &mut seen).await;
        seen.sent += 1;
    }
    let polled = poll.await.expect("the poll goes on");
    let disconnect = json!([{ "channel": "/meta/disconnect", "clientId": id }]);
    post(&mut http, &cookie, &disconnect, &talk, other, &mut seen).await;
    seen.slowest = seen.slowest.max(polled.slowest);
    // Publish replies carry messages too: what two connections brought has no order between them.
    seen.received.extend(polled.received);
    seen.received.sort_unstable();
    seen
}

async fn post(http: &mut Http, cookie: &str, batch: &Value, talk: &Talk, other: &str, seen: &mut Seen) {
    let response = http.post(cookie, batch.to_string().as_bytes()).await.expect("nobody cuts an innocent's request");
    assert_eq!(response.status, 200, "{batch}");
    for reply in talk.listen(other, messages(&response.body), seen) {
        assert_eq!(reply["successful"], true, "{reply} to {batch}");
    }
}

/// Whether everybody heard everything that the other said: once, and in order.
pub(crate) fn judge(seen: &HashMap<&str, Seen>) {
    for (name, other) in [("alice", "bob"), ("bob", "alice")] {
        let expected: Vec<usize> = (0..seen[other].sent).collect();
        assert_eq!(seen[name].received, expected, "what {name} heard of {other}");
        assert!(seen[name].slowest < Duration::from_secs(5), "{name} waited {:?}", seen[name].slowest);
        assert!(seen[other].sent > 50, "{other} hardly spoke");
    }
}
