//! What a session was sent before it ended, it gets.
//!
//! Rule: a disconnect wakes the held connect, which carries what is queued and says not to come back (D-2, D-3, V-22).
//! Risk: something woke that connect in the same turn already, so that nothing is held any more when the session ends,
//! and what the connect was woken for has nobody to leave with. Method: one envelope that publishes to its own session,
//! whose events only connects carry, and then disconnects; and an application that delivers while it is asked about the
//! disconnect.

use std::time::Duration;

use bayeux_core::{Activity, ActivityPolicy, Answer, Command, Points, Verdict};
use bayeux_testkit::{Client, Options, Outcome, Via, World, event};
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
    let mut client = Client::websocket(&mut world).acknowledging(&mut world);
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

/// XA-5, XA-13: an acknowledged batch was sent on one WebSocket, something is queued behind it, and no connect is there
/// when the application disconnects the session. Where its client is still on that WebSocket, it has the batch, and
/// gets the rest. On another one it may lack the batch: then the rest would leave a gap, and only the last word comes.
#[test]
fn events_behind_a_batch_that_may_be_lost_are_no_last_words() {
    for moves in [false, true] {
        let mut options = Options::shards(1);
        options.config.acknowledge = true;
        let mut world = World::new(options);
        let mut client = Client::websocket(&mut world).acknowledging(&mut world);
        client.send(&mut world, json!({"channel": "/meta/connect", "ext": {"ack": 1}}));
        let session = client.session(&world);
        let deliver =
            |data| Command::Deliver { to: session.clone(), event: event("/private", &json!(data)), from: None };
        world.command(deliver(1));
        if moves {
            let socket = world.open_socket();
            client = client.moved(Via::Socket(socket));
        }
        client.ask(&mut world, json!({"channel": "/service/any", "data": 0}));
        world.take_frames(client.socket());
        world.command(deliver(2));
        world.command(Command::Disconnect { session: session.clone() });
        let frames = world.take_frames(client.socket());
        let messages: Vec<Value> = frames.into_iter().flat_map(|frame| frame.messages).collect();
        let channels: Vec<_> = messages.iter().map(|message| message["channel"].as_str().expect("a channel")).collect();
        let expected: &[&str] = if moves { &["/meta/disconnect"] } else { &["/private", "/meta/disconnect"] };
        assert_eq!(channels, expected, "moves: {moves}");
    }
}

/// XV-2, XA-7: the connect that ends an idle session says what its client has. Where that is all that was sent, what is
/// queued comes before the disconnect.
#[test]
fn connect_that_ends_an_idle_session_acknowledges_first() {
    let all = ["/private", "/meta/disconnect", "/meta/connect"];
    for (batch, expected) in [(2, &all[..]), (1, &all[1..])] {
        let mut options = Options::shards(1);
        options.config.acknowledge = true;
        options.config.activity =
            Some(Activity { max_inactivity: Duration::from_secs(5), policy: ActivityPolicy::Client });
        let mut world = World::new(options);
        let mut client = Client::long_polling(&mut world).acknowledging(&mut world);
        client.send(&mut world, json!({"channel": "/meta/connect", "ext": {"ack": 1}}));
        let to = client.session(&world);
        let deliver = |data| Command::Deliver { to: to.clone(), event: event("/private", &json!(data)), from: None };
        world.command(deliver(1));
        world.advance(Duration::from_secs(6));
        world.command(deliver(2));
        client.send(&mut world, json!({"channel": "/meta/connect", "ext": {"ack": batch}}));
        let exchange = client.exchanges().last().map(|key| world.exchange(*key)).expect("that one");
        let Outcome::Answered(envelope) = &exchange.outcome else { panic!("not {:?}", exchange.outcome) };
        let channels: Vec<_> = envelope.messages.iter().map(|message| &message["channel"]).collect();
        assert_eq!(channels, expected, "batch {batch}");
    }
}
