//! Hooks that misbehave: each is bounded, told with its reason, and harmless to others.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bayeux_http::{
    Asked, Extension, HttpOptions, Incoming, Outcome, OutgoingMessage, Policy, SendError, Server, ServerBuilder,
    Verdict, proto,
};
use common::{Running, quick, start_with, until};
use serde_json::json;

fn builder() -> ServerBuilder {
    let mut config = quick();
    config.shards = 2;
    config.decision_timeout = Duration::from_millis(150);
    Server::builder(config)
}

/// Other sessions publish and receive as ever.
async fn others_are_well(running: &Running) {
    let mut bob = running.handshaken().await;
    bob.subscribe("/well").await;
    let mut carol = running.handshaken().await;
    assert_eq!(carol.publish_error("/well", 1).await, json!(null));
    assert_eq!(bob.poll().await, [1]);
}

/// Where a hook panics, or never answers.
struct Bad(&'static str, bool);

impl Bad {
    async fn act(&self, place: &str) {
        if self.0 == place {
            assert!(!self.1, "a hook panics");
            std::future::pending::<()>().await;
        }
    }
}

impl Policy for Bad {
    async fn can_create(&self, channel: proto::ChannelPattern, _: Asked) -> Verdict {
        if channel.as_str() == "/bad" {
            self.act("create").await;
        }
        Verdict::allow()
    }

    async fn can_publish(&self, channel: proto::ChannelName, _: Asked) -> Verdict {
        if channel.as_str() == "/bad" {
            self.act("publish").await;
        }
        Verdict::allow()
    }

    async fn can_subscribe(&self, channel: proto::ChannelPattern, _: Asked) -> Verdict {
        if channel.as_str() == "/bad" {
            self.act("subscribe").await;
        }
        Verdict::allow()
    }
}

impl Extension for Bad {
    async fn rcv(&self, message: Incoming) -> Outcome {
        if message.channel.as_str() == "/bad" {
            self.act("extension").await;
        }
        Outcome::Continue
    }
}

/// Z-1: no answer and a panic are a no, for that message alone.
#[tokio::test]
async fn hooks_that_panic_or_never_answer_fail_closed() {
    let by_policy = "denied_by_security_policy";
    for panics in [true, false] {
        for (place, error) in [
            ("create", format!("403:{by_policy}:channel_create_denied")),
            ("publish", format!("403:{by_policy}:publish_denied")),
            ("extension", "404::message_deleted".to_owned()),
            ("listener", "404::message_deleted".to_owned()),
            ("authorizer", format!("403:{by_policy}:channel_create_denied")),
        ] {
            let builder = builder()
                .policy(Bad(place, panics))
                .extension(Bad(place, panics))
                .on_message("/bad", move |_: Incoming| async move { Bad(place, panics).act("listener").await })
                .authorizer("/**", move |_, channel: proto::ChannelPattern, _| async move {
                    if channel.as_str() == "/bad" {
                        Bad(place, panics).act("authorizer").await;
                    }
                    bayeux_http::Authorization::Grant
                });
            let running = start_with(builder, HttpOptions::default()).await;
            let mut alice = running.handshaken().await;
            assert_eq!(alice.publish_error("/bad", 1).await, error, "{place} {panics}");
            others_are_well(&running).await;
            running.stop().await;
        }
    }
}

/// An answer that comes when its session is gone does no harm, and what the hook does then finds nobody.
#[tokio::test]
async fn answer_after_the_session_is_gone() {
    let running = start_with(
        builder().on_message("/service/slow", |message: Incoming| async move {
            tokio::time::sleep(Duration::from_millis(60)).await;
            message.deliver(&1).unwrap();
            message.session.unwrap().set_attribute("late", 1);
        }),
        HttpOptions::default(),
    )
    .await;
    let mut alice = running.handshaken().await;
    let session = running.server.session(&alice.id).unwrap();
    let call = alice.message("/service/slow", json!({"id": "1", "data": 1}));
    alice.begin("POST", "/cometd", "", json!([call]).to_string()).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    session.disconnect();
    assert_eq!(alice.response().await.status, 200);
    assert!(!session.is_alive());
    others_are_well(&running).await;
    running.stop().await;
}

/// A listener that publishes where it listens is told, after 64 in a row.
#[tokio::test]
async fn listener_that_calls_itself_is_stopped() {
    let count = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(Mutex::new(Vec::new()));
    let (counts, notes) = (Arc::clone(&count), Arc::clone(&refused));
    let builder = builder().on_message("/echo", move |message: Incoming| {
        counts.fetch_add(1, Ordering::Relaxed);
        let notes = Arc::clone(&notes);
        async move {
            if let Err(error) = message.server().publish("/echo", &1).await {
                notes.lock().unwrap().push(error);
            }
        }
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    assert_eq!(alice.publish_error("/echo", 1).await, json!(null));
    until("it is refused", || !refused.lock().unwrap().is_empty()).await;
    assert!(matches!(refused.lock().unwrap()[..], [SendError::Circle]));
    assert_eq!(count.load(Ordering::Relaxed), 65);
    others_are_well(&running).await;
    running.stop().await;
}

/// What one hook does is bounded.
#[tokio::test]
async fn hook_that_floods_is_told() {
    let sent = Arc::new(Mutex::new(None));
    let notes = Arc::clone(&sent);
    let builder = builder().on_message("/service/flood", move |message: Incoming| {
        let notes = Arc::clone(&notes);
        async move {
            let mut count = 0;
            let error = loop {
                match message.server().publish("/flood", &count).await {
                    Ok(()) => count += 1,
                    Err(error) => break error,
                }
            };
            // Control commands are bounded, too, and cannot fail.
            message.server().create_channel_if_absent("/x").unwrap().set_lazy(true);
            *notes.lock().unwrap() = Some((count, error));
        }
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    assert_eq!(alice.publish_error("/service/flood", 1).await, json!(null));
    assert!(matches!(*sent.lock().unwrap(), Some((10_000, SendError::Flooded))));
    others_are_well(&running).await;
    running.stop().await;
}

/// An outgoing extension that answers each message with another.
struct Parrot(Server, Mutex<usize>);

impl Extension for Parrot {
    fn send(&self, message: &mut OutgoingMessage<'_>) -> bool {
        if message.channel() == "/parrot" {
            *self.1.lock().unwrap() += 1;
            let _ = self.0.try_publish("/parrot", &1);
        }
        true
    }
}

/// Extensions that cause each other's messages for ever are cut off.
#[tokio::test]
async fn outgoing_extension_that_causes_itself_is_stopped() {
    let running = start_with(builder(), HttpOptions::default()).await;
    let parrot = Arc::new(Parrot(running.server.clone(), Mutex::new(0)));
    struct Shared(Arc<Parrot>);
    impl Extension for Shared {
        fn send(&self, message: &mut OutgoingMessage<'_>) -> bool {
            self.0.send(message)
        }
    }
    running.server.add_extension(Shared(Arc::clone(&parrot)));
    running.server.publish("/parrot", &1).await.unwrap();
    let count = *parrot.1.lock().unwrap();
    assert!((1_000..1_000_000).contains(&count), "{count}");
    others_are_well(&running).await;
    running.stop().await;
}

/// Hooks that run inside the engine may call anything: nothing locks up.
#[tokio::test]
async fn hooks_inside_the_engine_may_call_the_server() {
    struct Curious(Server);
    impl Extension for Curious {
        fn send(&self, message: &mut OutgoingMessage<'_>) -> bool {
            if message.channel() != "/a" || message.as_reply().is_some() {
                return true;
            }
            let server = &self.0;
            assert!(server.channel("/a").is_none() && server.channels().is_empty());
            assert!(matches!(server.create_channel_if_absent("/new"), Err(SendError::Inside)));
            for session in server.sessions() {
                assert!(session.subscriptions().is_empty());
                session.batch(|session| session.deliver("/inside", &1).unwrap());
                session.set_timeout(Some(Duration::from_millis(77)));
                session.subscribe("/b").unwrap();
            }
            server.try_publish("/b", &2).unwrap();
            true
        }
    }
    let running = start_with(builder(), HttpOptions::default()).await;
    running.server.add_extension(Curious(running.server.clone()));
    let mut alice = running.handshaken().await;
    alice.subscribe("/a").await;
    alice.publish("/a", 0).await;
    let mut data = Vec::new();
    for _ in 0..50 {
        data.extend(alice.poll().await);
        if data.len() >= 2 {
            break;
        }
    }
    assert_eq!(data, [1, 2]);
    others_are_well(&running).await;
    running.stop().await;
}

/// Leaves nothing of messages on some channels.
struct Empties;

impl Extension for Empties {
    async fn rcv(&self, message: Incoming) -> Outcome {
        if message.channel.as_str() == "/in" {
            return Outcome::Message(Box::default());
        }
        Outcome::Continue
    }

    fn send(&self, message: &mut OutgoingMessage<'_>) -> bool {
        if message.channel() == "/out"
            && let Some(event) = message.as_event_mut()
        {
            *event = proto::Event::new("", proto::RawJson::null());
            event.data = None;
        }
        true
    }

    fn send_meta(&self, message: &mut OutgoingMessage<'_>) -> bool {
        if let Some(reply) = message.as_reply()
            && reply.id.as_ref().is_some_and(|id| *id == proto::MessageId::Text("empty".into()))
        {
            *reply = proto::Reply::to(&proto::Message::default());
        }
        true
    }
}

/// What an extension empties is still a message: refused where it came in, on its own channel where it goes out.
#[tokio::test]
async fn extension_that_empties_a_message_harms_nobody() {
    let running = start_with(builder().extension(Empties), HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    alice.subscribe("/out").await;
    assert_eq!(alice.publish_error("/in", 1).await, "400::channel_missing");
    running.server.publish("/out", &1).await.unwrap();
    let messages = alice.exchange(&json!([alice.connect(0)])).await;
    assert_eq!(messages[0], json!({"channel": "/out"}));
    let subscribe = alice.message("/meta/subscribe", json!({"id": "empty", "subscription": "/x"}));
    assert_eq!(alice.exchange(&json!([subscribe])).await, [json!({"successful": false})]);
    others_are_well(&running).await;
    running.stop().await;
}
