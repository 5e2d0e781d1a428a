//! What hooks may decide besides yes and no: an error of their own, another message, more in the reply, laziness.
//!
//! Rule: F-31, G-3, G-11, V-24, Q-30, A-23. Risk: a message that a hook made passes checks that a client's would not, or
//! what a hook adds to a reply is lost on the way through the steps. Method: one hook, one message, one reply.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bayeux_core::{Answer, Edit, Points, Ruling, Verdict};
use bayeux_proto::{ErrorField, Lazy, Message, RawJson};
use bayeux_testkit::{Client, Options, World};
use serde_json::{Value, json};

fn connected() -> (World, Client) {
    let mut world = World::new(Options::shards(1));
    let mut alice = Client::websocket(&mut world).connected(&mut world);
    alice.subscribe(&mut world, "/a");
    (world, alice)
}

fn ruling(ruling: Ruling) -> Verdict {
    Verdict { ruling, ..Verdict::allow() }
}

/// The message of the question with another channel.
fn rerouted(world: &World, points: Points, channel: &'static str) {
    world.hooks().on(points, move |question, _| {
        let mut message = Message::clone(&question.message);
        message.channel = Some(channel.into());
        Some(Answer::Now(ruling(Ruling::Replace(Box::new(message)))))
    });
}

/// F-31: what the application says stands in the place of `404::message_deleted` and `403::handshake_denied`.
#[test]
fn error_of_the_application_is_the_reply_s() {
    let quota = || ruling(Ruling::Fail(ErrorField::custom(429, "10", "too_many")));
    for points in [Points::INCOMING, Points::PUBLISH, Points::LISTEN] {
        let (mut world, mut alice) = connected();
        world.hooks().always(points, quota());
        let reply = alice.publish(&mut world, "/a", json!(1));
        assert_eq!((&reply["successful"], &reply["error"]), (&json!(false), &json!("429:10:too_many")), "{points:?}");
        assert!(alice.data(&world).is_empty(), "{points:?}");
    }
    let mut world = World::new(Options::shards(1));
    world.hooks().always(Points::HANDSHAKE, quota());
    let mut bob = Client::websocket(&mut world);
    let reply = bob.handshake(&mut world);
    assert_eq!((&reply["successful"], &reply["error"]), (&json!(false), &json!("429:10:too_many")));
    assert_eq!(world.session_count(), 0);
}

/// G-2: what a hook puts in the place of a message is held to the same rules, and then goes its own way.
#[test]
fn message_of_a_hook_is_checked_like_a_client_s() {
    let (mut world, mut alice) = connected();
    rerouted(&world, Points::INCOMING, "/no?channel");
    assert_eq!(alice.publish(&mut world, "/elsewhere", json!(1))["error"], "405::channel_invalid");

    let (mut world, mut alice) = connected();
    rerouted(&world, Points::INCOMING, "/a");
    assert_eq!(alice.publish(&mut world, "/elsewhere", json!(2))["successful"], true);
    assert_eq!(alice.data(&world), [json!(2)]);
}

/// V-24: advice, `ext` and fields come together from all that are asked; the later one lies over the earlier.
#[test]
fn reply_has_what_each_hook_adds() {
    let (mut world, mut alice) = connected();
    let adds = |ext: &'static str, field: &'static str| Verdict {
        ext: Some(RawJson::new(ext).expect("JSON")),
        fields: vec![(format!("\"{field}\"").into(), RawJson::new("1").expect("JSON"))],
        ..Verdict::allow()
    };
    world.hooks().always(Points::INCOMING, adds(r#"{"a":1,"b":1}"#, "x-first"));
    world.hooks().always(Points::LISTEN, adds(r#"{"b":2,"c":2}"#, "x-second"));
    let reply = alice.publish(&mut world, "/elsewhere", json!(1));
    assert_eq!(reply["ext"], json!({"a": 1, "b": 2, "c": 2}));
    assert_eq!((&reply["x-first"], &reply["x-second"]), (&json!(1), &json!(1)));
}

/// Q-30: a listener may let a publish wait.
#[test]
fn listener_makes_a_publish_lazy() {
    let (mut world, mut alice) = connected();
    let lazy = Lazy::Within(Duration::from_secs(2));
    world.hooks().always(Points::LISTEN, Verdict { lazy: Some(lazy), ..Verdict::allow() });
    let mut bob = Client::websocket(&mut world).connected(&mut world);
    bob.publish(&mut world, "/a", json!(1));
    assert!(alice.data(&world).is_empty());
    world.advance(Duration::from_millis(1_999));
    assert!(alice.data(&world).is_empty());
    world.advance(Duration::from_millis(1));
    assert_eq!(alice.data(&world), [json!(1)]);
    // Her own reply does not wait, and takes along what does.
    world.hooks().always(Points::LISTEN, Verdict { lazy: Some(Lazy::Yes), ..Verdict::allow() });
    alice.publish(&mut world, "/a", json!(2));
    assert_eq!(alice.data(&world), [json!(1), json!(2)]);
}

/// G-14, L-20: a reply that a hook drops is never sent, and the session's time runs as if it had been.
#[test]
fn session_whose_connect_reply_is_dropped_expires() {
    let (mut world, mut alice) = connected();
    world.hooks().on_reply(|_, _| Edit::Drop);
    let request = alice.send(&mut world, json!({"channel": "/meta/connect", "advice": {"timeout": 0}}));
    assert_eq!(alice.reply(&world, &request), None);
    world.advance(Duration::from_millis(9_999));
    assert_eq!(world.session_count(), 1);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.session_count(), 0);
}

/// Q-14, E-123: a de-queue listener sees what is about to be sent, and may thin it out.
#[test]
fn queue_is_seen_as_it_is() {
    let (mut world, alice) = connected();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = Arc::clone(&seen);
    world.hooks().on_dequeue(move |_, queue| {
        let text = format!("{queue:?}");
        let bytes: usize = queue.iter().map(|event| event.size()).sum();
        sees.lock().expect("no panic").push((queue.len(), queue.is_empty(), queue.bytes() == bytes, text));
        queue.retain(|event| !event.as_object().ends_with(b"\"drop\"}"));
    });
    let session = alice.session(&world);
    let deliver = |world: &mut World, data: Value| {
        let event = bayeux_testkit::event("/a", &data);
        world.command(bayeux_core::Command::Deliver { to: session.clone(), event, from: None });
    };
    world.command(bayeux_core::Command::Hold { session: session.clone() });
    deliver(&mut world, json!("keep"));
    deliver(&mut world, json!("drop"));
    world.command(bayeux_core::Command::Release { session: session.clone() });
    assert_eq!(alice.data(&world), [json!("keep")]);
    let seen = seen.lock().expect("no panic");
    let (len, is_empty, adds_up, text) = seen.first().expect("it was asked");
    assert_eq!((*len, *is_empty, *adds_up), (2, false, true));
    assert!(text.starts_with("QueueView { len: 2, bytes: "), "{text}");
}
