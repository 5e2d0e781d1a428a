//! Extensions of the application, at server and session level, in and out (section 21.4), and the order of everything
//! that one publish calls (section 21.8).

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::sync::{Arc, Mutex};

use bayeux_http::proto::{Advice, ErrorField, Message, RawJson};
use bayeux_http::{Directions, Extension, HttpOptions, Incoming, Outcome, OutgoingMessage, Server};
use common::{quick, sharded, start_with};
use serde_json::json;

type Log = Arc<Mutex<Vec<String>>>;

/// Notes what it sees on channels that begin with `/news` or are meta channels of interest.
#[derive(Clone)]
struct Notes(&'static str, Log);

impl Notes {
    fn note(&self, what: &str) {
        self.1.lock().unwrap().push(format!("{} {what}", self.0));
    }
}

impl Extension for Notes {
    async fn rcv(&self, message: Incoming) -> Outcome {
        tokio::task::yield_now().await;
        self.note(&format!("rcv {}", message.channel.as_str()));
        Outcome::Continue
    }

    async fn rcv_meta(&self, message: Incoming) -> Outcome {
        if message.channel.as_str() == "/meta/subscribe" {
            self.note("rcv_meta");
        }
        Outcome::Continue
    }

    fn send(&self, message: &mut OutgoingMessage<'_>) -> bool {
        let kind = if message.as_reply().is_some() { "reply" } else { "event" };
        let (from, to) = (message.from().is_some(), message.to().is_some());
        self.note(&format!("send {kind} from {from} to {to}"));
        true
    }

    fn send_meta(&self, message: &mut OutgoingMessage<'_>) -> bool {
        if message.channel() == "/meta/subscribe" {
            self.note("send_meta");
        }
        true
    }
}

/// section 21.8: in as added, out the other way round, the server's before the session's; a broadcast
/// once without a target.
#[tokio::test]
async fn one_publish_calls_everybody_in_order() {
    let log = Log::default();
    let listener = Notes("listener", Arc::clone(&log));
    let builder = Server::builder(quick())
        .extension(Notes("s1", Arc::clone(&log)))
        .extension(Notes("s2", Arc::clone(&log)))
        .on_message("/news", move |_: Incoming| {
            listener.note("called");
            async {}
        });
    // In one shard: between two, bob's part has no place in the order.
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    let mut bob = running.handshaken().await;
    bob.subscribe("/news").await;
    for (client, name) in [(&alice, "alice"), (&bob, "bob")] {
        let session = running.server.session(&client.id).unwrap();
        session.add_extension(Notes(name, Arc::clone(&log)));
        let own = Notes(name, Arc::clone(&log));
        session.on_message(move |_| {
            own.note("message");
            true
        });
    }
    log.lock().unwrap().clear();
    alice.publish("/news", 1).await;
    assert_eq!(
        *log.lock().unwrap(),
        [
            "s1 rcv /news",
            "s2 rcv /news",
            "alice rcv /news",
            "listener called",
            "s2 send event from true to false",
            "s1 send event from true to false",
            "bob send event from true to true",
            "bob message",
            "s2 send reply from true to true",
            "s1 send reply from true to true",
            "alice send reply from true to true",
        ]
    );
    log.lock().unwrap().clear();
    alice.subscribe("/x").await;
    assert_eq!(
        *log.lock().unwrap(),
        ["s1 rcv_meta", "s2 rcv_meta", "alice rcv_meta", "s2 send_meta", "s1 send_meta", "alice send_meta"]
    );
    log.lock().unwrap().clear();
    running.server.session(&bob.id).unwrap().deliver("/news", &1).unwrap();
    assert_eq!(
        *log.lock().unwrap(),
        [
            "s2 send event from false to true",
            "s1 send event from false to true",
            "bob send event from false to true",
            "bob message"
        ],
        "A-11"
    );
    running.stop().await;
}

/// What to do to a message, by its data.
struct Obeys;

impl Extension for Obeys {
    async fn incoming(&self, message: Incoming) -> Outcome {
        let order = message.message.data.as_ref().and_then(RawJson::as_text);
        match order.as_deref() {
            Some("drop") => Outcome::Veto,
            Some("fail") => Outcome::Fail(ErrorField::custom(499, "why", "because")),
            Some("change") => Outcome::Data(RawJson::from_text("changed")),
            Some("empty") => Outcome::Message(Box::default()),
            Some("forge") => {
                let mut other = Message::clone(&message.message);
                other.client_id = Some("somebody".into());
                Outcome::Message(Box::new(other))
            }
            Some("move") => {
                let mut other = Message::clone(&message.message);
                other.channel = Some("/elsewhere".into());
                Outcome::Message(Box::new(other))
            }
            Some("panic") => panic!("as it was told"),
            _ => Outcome::Continue,
        }
    }

    fn outgoing(&self, message: &mut OutgoingMessage<'_>) -> bool {
        let order = message.data().and_then(|data| data.as_text());
        match order.as_deref() {
            Some("drop event") => return false,
            Some("panic event") => panic!("as it was told"),
            Some("extend event") => {
                message.set_ext("a", RawJson::null());
                message.set_field("extra", RawJson::from_text("x"));
                // Known fields are not fields of the application's.
                message.set_field("channel", RawJson::from_text("/other"));
                message.set_field("data", RawJson::null());
            }
            _ => {}
        }
        if let Some(reply) = message.as_reply()
            && reply.channel.as_deref() == Some("/quiet")
        {
            return false;
        }
        true
    }
}

/// A-32, B28, F-23: dropped, refused, changed, emptied, forged.
#[tokio::test]
async fn incoming_extension_decides_on_each_message() {
    let running = start_with(sharded().extension(Obeys), HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    let mut bob = running.handshaken().await;
    bob.subscribe("/a").await;
    bob.subscribe("/elsewhere").await;
    assert_eq!(alice.publish_error("/a", "drop").await, "404::message_deleted");
    assert_eq!(alice.publish_error("/a", "fail").await, "499:why:because");
    assert_eq!(alice.publish_error("/a", "empty").await, "400::channel_missing");
    assert_eq!(alice.publish_error("/a", "forge").await, "402::session_unknown");
    assert_eq!(alice.publish_error("/a", "panic").await, "404::message_deleted");
    assert!(bob.poll().await.is_empty());
    assert_eq!(alice.publish_error("/a", "change").await, json!(null));
    assert_eq!(alice.publish_error("/a", "move").await, json!(null));
    assert_eq!(bob.poll().await, ["changed", "move"]);
    running.stop().await;
}

/// an event that an outgoing extension drops is answered, a reply that it drops is not sent, a panic
/// changes nothing.
#[tokio::test]
async fn outgoing_extension_decides_on_each_message() {
    let running = start_with(sharded().extension(Obeys), HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    let mut bob = running.handshaken().await;
    bob.subscribe("/a").await;
    assert_eq!(alice.publish_error("/a", "drop event").await, "404::message_deleted");
    assert_eq!(alice.publish_error("/a", "panic event").await, json!(null));
    assert_eq!(alice.publish_error("/a", "extend event").await, json!(null));
    let messages = bob.exchange(&json!([bob.connect(0)])).await;
    assert_eq!(messages[0], json!({"channel": "/a", "data": "panic event"}));
    assert_eq!(messages[1], json!({"channel": "/a", "data": "extend event", "ext": {"a": null}, "extra": "x"}));
    assert!(alice.publish("/quiet", 1).await.is_empty(), "no reply at all");
    running.stop().await;
}

/// A-1, G-3: extensions run without a session, too.
#[tokio::test]
async fn extensions_see_messages_of_unknown_sessions() {
    let log = Log::default();
    let running = start_with(sharded().extension(Notes("s", Arc::clone(&log))), HttpOptions::default()).await;
    let mut nobody = running.client().await;
    let replies = nobody.exchange(&json!([{"id": "1", "channel": "/a", "clientId": "nobody", "data": 1}])).await;
    assert_eq!(replies[0]["error"], "402::session_unknown");
    assert_eq!(*log.lock().unwrap(), ["s rcv /a", "s send reply from false to false"]);
    running.stop().await;
}

struct OutOnly;

impl Extension for OutOnly {
    fn directions(&self) -> Directions {
        Directions::Outgoing
    }

    async fn incoming(&self, _: Incoming) -> Outcome {
        Outcome::Veto
    }
}

#[tokio::test]
async fn extension_is_not_asked_the_way_it_does_not_want() {
    let running = start_with(sharded().extension(OutOnly), HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    assert_eq!(alice.publish_error("/a", 1).await, json!(null));
    running.stop().await;
}

/// G-1, V-24: what hooks add to the reply, from several places, member by member.
#[tokio::test]
async fn hooks_add_to_the_reply() {
    struct Adds;
    impl Extension for Adds {
        async fn rcv(&self, message: Incoming) -> Outcome {
            message.associated().set_ext("a", &RawJson::from_text("extension"));
            message.associated().set_ext("b", &RawJson::from_text("extension"));
            message.associated().set_field("x", RawJson::null());
            message.associated().set_field("successful", RawJson::null());
            Outcome::Continue
        }
    }
    let builder = sharded().extension(Adds).on_message("/a", |message: Incoming| async move {
        message.associated().set_ext("b", &RawJson::from_text("listener"));
        message.associated().advise(Advice { interval_ms: Some(5), ..Advice::default() });
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    let reply = alice.publish("/a", 1).await.pop().unwrap();
    assert_eq!(
        reply,
        json!({
            "id": "p", "channel": "/a", "successful": true, "advice": {"interval": 5},
            "ext": {"a": "extension", "b": "listener"}, "x": null
        })
    );
    running.stop().await;
}
