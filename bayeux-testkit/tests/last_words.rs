//! What a session was sent before it ended, it gets.
//!
//! Rule: a disconnect wakes the held connect, which carries what is queued and says not to come back (D-2, D-3, V-22).
//! Risk: something woke that connect in the same turn already, so that nothing is held any more when the session ends,
//! and what the connect was woken for has nobody to leave with. Method: one envelope that publishes to its own session,
//! whose events only connects carry, and then disconnects; and an application that delivers while it is asked about the
//! disconnect.

use bayeux_core::{Answer, Command, Points, Verdict};
use bayeux_testkit::{Client, Options, World, event};
use serde_json::{Value, json};

/// The messages of a connect's response: events first, the reply last.
fn assert_is_last_word(messages: &[Value], data: &Value) {
    let [event, reply] = messages else { panic!("an event and a reply, not {messages:?}") };
    assert_eq!(&event["data"], data);
    assert_eq!((&reply["channel"], &reply["successful"]), (&json!("/meta/connect"), &json!(true)));
    assert_eq!(reply["advice"]["reconnect"], "none", "V-22: {reply}");
}

#[test]
fn event_of_the_envelope_that_disconnects_comes_with_the_connect() {
    let mut options = Options::shards(1);
    options.config.acknowledge = true;
    let mut world = World::new(options);
    let mut client = Client::websocket(&mut world);
    let hello = client.ask(&mut world, json!({"channel": "/meta/handshake", "ext": {"ack": true}}));
    client.set_id(hello["clientId"].as_str().expect("a session"));
    client.ask(&mut world, json!({"channel": "/meta/connect", "ext": {"ack": 0}}));
    client.subscribe(&mut world, "/own");
    client.send(&mut world, json!({"channel": "/meta/connect", "ext": {"ack": 1}}));
    world.take_frames(client.socket());
    let envelope = json!([{"channel": "/own", "data": 1}, {"channel": "/meta/disconnect"}]);
    client.send(&mut world, envelope);
    let frames = world.take_frames(client.socket());
    let messages: Vec<Value> = frames.into_iter().flat_map(|frame| frame.messages).collect();
    assert_is_last_word(&messages[..2], &json!(1));
    assert_eq!(messages[2]["channel"], "/own");
    assert_eq!(messages[3]["channel"], "/meta/disconnect");
}

#[test]
fn event_delivered_while_a_disconnect_is_decided_comes_with_the_connect() {
    let mut options = Options::shards(1);
    options.config.websocket.meta_connect_deliver_only = true;
    let mut world = World::new(options);
    let mut client = Client::websocket(&mut world).connected(&mut world);
    client.connect(&mut world);
    world.hooks().on(Points::LISTEN, |question, effects| {
        let to = question.session.clone()?;
        effects.push(Command::Deliver { to, event: event("/private", &json!(2)), from: None });
        Some(Answer::Now(Verdict::allow()))
    });
    world.take_frames(client.socket());
    client.send(&mut world, json!({"channel": "/meta/disconnect"}));
    let frames = world.take_frames(client.socket());
    let messages: Vec<Value> = frames.into_iter().flat_map(|frame| frame.messages).collect();
    assert_is_last_word(&messages[..2], &json!(2));
    assert_eq!(messages[2]["channel"], "/meta/disconnect");
}
