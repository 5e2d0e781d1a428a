//! Slow and lost writes: what has left, what has not, and when the clock of expiry starts.
//!
//! Rule: expiry counts from when a connect reply was written (L-20, E-55); a connection has one write in flight, and
//! what it did not begin to write goes to the connection that takes over (TW-13, L-41); a message is handed out at most
//! once (Q-14, Z-16). Risk: sessions die during slow writes, frames overtake each other, messages vanish or come twice
//! when connections change. Method: writes that end when the test says so, small budgets, cuts in between.

use std::time::Duration;

use bayeux_core::{Budget, Command, Points, Time, Verdict};
use bayeux_testkit::{Client, Options, Peer, World, Writes, channel, event};
use serde_json::{Value, json};

const SHARDS: [u16; 3] = [1, 2, 4];

fn publish(world: &mut World, name: &str, data: &Value) {
    world.command(Command::Publish { channel: channel(name), event: event(name, data), from: None, chain: 0 });
}

/// A world where writes take until the test ends them, and a client with its first connect behind it.
fn slow_world(shards: u16, budget: Budget) -> (World, Client) {
    let mut options = Options::shards(shards);
    options.writes = Writes::Manual;
    options.budget = budget;
    let mut world = World::new(options);
    let socket = world.open_socket();
    let mut alice = Client::over(bayeux_testkit::Via::Socket(socket));
    let request = alice.send(&mut world, json!({"channel": "/meta/handshake", "version": "1.0"}));
    world.written(socket);
    let id = alice.reply(&world, &request).expect("an answer")["clientId"].clone();
    let mut alice = alice.with_id(id.as_str().unwrap_or_default());
    alice.send(&mut world, json!({"channel": "/meta/connect"}));
    world.written(socket);
    alice.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/foo"}));
    world.written(socket);
    world.take_frames(socket);
    (world, alice)
}

/// E-55, L-20: the response takes longer than maxInterval to write; the session lives, and expires maxInterval after.
#[test]
fn session_does_not_expire_while_its_reply_is_being_written() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.writes = Writes::Manual;
        let mut world = World::new(options);
        let mut alice = Client::long_polling(&mut world);
        let request = alice.send(&mut world, json!({"channel": "/meta/handshake", "version": "1.0"}));
        world.advance(Duration::from_secs(60));
        assert_eq!(world.session_count(), 1, "the handshake reply is still being written");
        world.written(request.exchange.expect("over HTTP"));
        world.advance(Duration::from_secs(9));
        assert_eq!(world.session_count(), 1);
        world.advance(Duration::from_secs(1));
        assert_eq!(world.session_count(), 0);
    }
}

/// L-20: "successfully or not": a reply that could not be written starts expiry as well.
#[test]
fn failed_write_of_a_connect_reply_starts_expiry() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.writes = Writes::Manual;
        let mut world = World::new(options);
        let mut alice = Client::long_polling(&mut world);
        let request = alice.send(&mut world, json!({"channel": "/meta/handshake", "version": "1.0"}));
        world.advance(Duration::from_secs(60));
        world.cut(request.exchange.expect("over HTTP"));
        world.advance(Duration::from_secs(9));
        assert_eq!(world.session_count(), 1);
        world.advance(Duration::from_secs(1));
        assert_eq!(world.session_count(), 0);
    }
}

/// L-20: nor does it begin before the reply was written where the connect had to wait for the message before it.
#[test]
fn expiry_begins_when_the_reply_of_a_connect_that_waited_was_written() {
    for shards in SHARDS {
        let (mut world, mut alice) = slow_world(shards, Budget::UNLIMITED);
        let socket = alice.socket();
        world.hooks().wait(Points::PUBLISH);
        alice.send(&mut world, json!({"channel": "/other", "data": 1}));
        alice.send(&mut world, json!({"channel": "/meta/connect", "advice": {"timeout": 0}}));
        world.answer(0, Verdict::allow());
        world.advance(Duration::from_secs(60));
        assert_eq!(world.session_count(), 1, "{shards} shards: the client does not read");
        while world.is_writing(socket) {
            world.written(socket);
        }
        world.advance(Duration::from_secs(9));
        assert_eq!(world.session_count(), 1);
        world.advance(Duration::from_secs(1));
        assert_eq!(world.session_count(), 0, "{shards} shards: it read, and was silent");
    }
}

/// Q-23, T-8: while a frame is in flight everything else waits, and then leaves together and in order.
#[test]
fn events_wait_for_the_frame_in_flight_and_then_leave_together() {
    for shards in SHARDS {
        let (mut world, alice) = slow_world(shards, Budget::UNLIMITED);
        let socket = alice.socket();
        for n in 0..5 {
            publish(&mut world, "/foo", &json!(n));
        }
        assert!(world.is_writing(socket));
        world.written(socket);
        assert_eq!(alice.data(&world), [json!(0)]);
        world.written(socket);
        assert_eq!(alice.data(&world), (0..5).map(|n| json!(n)).collect::<Vec<_>>(), "one turn for the rest");
        assert!(!world.is_writing(socket));
    }
}

/// A budget cuts the writing, not the order, and nothing is handed out twice.
#[test]
fn budget_cuts_the_writing_into_pieces() {
    for shards in SHARDS {
        let (mut world, mut alice) = slow_world(shards, Budget { messages: 2, bytes: usize::MAX });
        let socket = alice.socket();
        for n in 0..6 {
            publish(&mut world, "/foo", &json!(n));
        }
        alice.send(&mut world, json!({"channel": "/bar", "data": "last"}));
        let mut turns = 0;
        while world.is_writing(socket) {
            world.written(socket);
            turns += 1;
        }
        assert_eq!(alice.data(&world), (0..6).map(|n| json!(n)).collect::<Vec<_>>());
        assert!(turns >= 4, "seven messages, at most two at a time: {turns}");
        let messages = world.socket(socket).messages();
        assert_eq!(messages.last().map(|last| &last["channel"]), Some(&json!("/bar")), "the reply behind the queue");
    }
}

/// A byte budget hands out at least one message, however large.
#[test]
fn budget_of_one_byte_still_moves() {
    for shards in SHARDS {
        let (mut world, alice) = slow_world(shards, Budget { messages: usize::MAX, bytes: 1 });
        for n in 0..3 {
            publish(&mut world, "/foo", &json!(n));
        }
        while world.is_writing(alice.socket()) {
            world.written(alice.socket());
        }
        assert_eq!(alice.data(&world), (0..3).map(|n| json!(n)).collect::<Vec<_>>());
    }
}

/// TW-13, L-41, Q-21: what the old WebSocket did not begin to write leaves on the new one, in order; what was in flight
/// on the old one does not come again.
#[test]
fn unwritten_events_move_to_the_connection_that_takes_over() {
    for shards in SHARDS {
        let (mut world, mut alice) = slow_world(shards, Budget { messages: 1, bytes: usize::MAX });
        for n in 0..4 {
            publish(&mut world, "/foo", &json!(n));
        }
        let second = world.open_socket();
        let mut moved = alice.moved(bayeux_testkit::Via::Socket(second));
        moved.send(&mut world, json!({"channel": "/meta/connect", "advice": {"timeout": 0}}));
        while world.is_writing(second) {
            world.written(second);
        }
        while world.is_writing(alice.socket()) {
            world.written(alice.socket());
        }
        assert_eq!(alice.data(&world), [json!(0)], "what was in flight");
        assert_eq!(moved.data(&world), [json!(1), json!(2), json!(3)], "{shards} shards");
        // And with the old one gone, the same again.
        publish(&mut world, "/foo", &json!(4));
        publish(&mut world, "/foo", &json!(5));
        world.cut(second);
        let third = world.open_socket();
        let mut third_life = alice.moved(bayeux_testkit::Via::Socket(third));
        third_life.send(&mut world, json!({"channel": "/meta/connect", "advice": {"timeout": 0}}));
        while world.is_writing(third) {
            world.written(third);
        }
        assert_eq!(third_life.data(&world), [json!(5)], "4 was in flight when the wire broke");
        alice.send(&mut world, json!([]));
    }
}

/// Z-16, L-47: the poll breaks after the response was handed out: those messages are lost, as without ack they must be;
/// but what comes later is not written into it.
#[test]
fn broken_poll_loses_only_what_was_being_written() {
    for shards in SHARDS {
        let (mut world, mut alice, finish) = slow_polling(shards);
        let poll = alice.connect(&mut world);
        publish(&mut world, "/foo", &json!(1));
        publish(&mut world, "/foo", &json!(2));
        world.cut(poll.exchange.expect("over HTTP"));
        let poll = alice.connect(&mut world);
        finish(&mut world, &poll);
        assert_eq!(alice.data(&world), [json!(2)], "{shards} shards: the response held 1 only");
        assert!(world.now() == Time::ZERO);
    }
}

/// TW-10, H-2, L-2: events of one session that a WebSocket had not written when it was bound to another session never
/// reach that other session, however it moves on.
#[test]
fn events_of_the_old_session_never_reach_the_new_one() {
    for shards in SHARDS {
        for closed in [true, false] {
            let (mut world, mut alice) = slow_world(shards, Budget { messages: 1, bytes: usize::MAX });
            let socket = alice.socket();
            for n in 0..4 {
                publish(&mut world, "/foo", &json!({"for the old session": n}));
            }
            // A reply takes the queue along, as far as the budget lets it.
            alice.send(&mut world, json!({"channel": "/bar", "data": 1}));
            world.written(socket);
            let request = alice.send(&mut world, json!({"channel": "/meta/handshake"}));
            // The new session goes on elsewhere before the old one's events were written.
            let deadline = 10;
            let mut written = 0;
            while alice.reply(&world, &request).is_none() && written < deadline {
                world.written(socket);
                written += 1;
            }
            let reply = alice.reply(&world, &request).expect("a handshake reply");
            let id = reply["clientId"].as_str().unwrap_or_default().to_owned();
            if closed {
                world.cut(socket);
            }
            let second = world.open_socket();
            let mut moved = alice.moved(bayeux_testkit::Via::Socket(second)).with_id(&id);
            moved.send(&mut world, json!({"channel": "/meta/connect", "advice": {"timeout": 0}}));
            while world.is_writing(second) {
                world.written(second);
            }
            assert!(moved.data(&world).is_empty(), "{shards} shards, closed: {closed}: {:?}", moved.data(&world));
        }
    }
}

/// The same where the handshake waits behind what is unwritten: the session is known before its reply has left.
#[test]
fn events_of_the_old_session_stay_behind_when_the_connection_breaks() {
    for shards in SHARDS {
        let (mut world, mut alice) = slow_world(shards, Budget { messages: 1, bytes: usize::MAX });
        let socket = alice.socket();
        for n in 0..4 {
            publish(&mut world, "/foo", &json!({"for the old session": n}));
        }
        alice.send(&mut world, json!({"channel": "/bar", "data": 1}));
        world.written(socket);
        let old = alice.id().to_owned();
        world.take_notices();
        alice.send(&mut world, json!({"channel": "/meta/handshake"}));
        let added = world.take_notices().into_iter().find_map(|notice| {
            if let bayeux_core::Notice::SessionAdded { session, .. } = notice { Some(session) } else { None }
        });
        let new = added.expect("a session was added");
        world.cut(socket);
        for (id, expected) in [(new.as_str(), 0), (&*old, 2)] {
            let second = world.open_socket();
            let mut moved = alice.moved(bayeux_testkit::Via::Socket(second)).with_id(id);
            moved.send(&mut world, json!({"channel": "/meta/connect", "advice": {"timeout": 0}}));
            while world.is_writing(second) {
                world.written(second);
            }
            let data = moved.data(&world);
            assert_eq!(data.len(), expected, "{shards} shards: {data:?}");
        }
    }
}

/// K-22, L-20, E-55: a reply of an older hold that is written late says nothing about the session's present: the newer
/// reply is still being written, however long it takes.
#[test]
fn late_write_of_an_older_connect_reply_does_not_start_expiry() {
    for shards in SHARDS {
        let (mut world, mut alice, finish) = slow_polling(shards);
        let first = alice.connect(&mut world);
        publish(&mut world, "/foo", &json!(1));
        let second = alice.connect(&mut world);
        publish(&mut world, "/foo", &json!(2));
        assert!(world.is_writing(first.exchange.expect("over HTTP")));
        assert!(world.is_writing(second.exchange.expect("over HTTP")));
        finish(&mut world, &first);
        world.advance(Duration::from_secs(60));
        assert_eq!(world.session_count(), 1, "{shards} shards: the second reply is still being written");
        finish(&mut world, &second);
        world.advance(Duration::from_secs(10));
        assert_eq!(world.session_count(), 0);
    }
}

/// TW-13: what a reply took along, but the old WebSocket did not begin to write, moves on as well, before what came later.
#[test]
fn events_that_a_reply_took_along_move_to_the_connection_that_takes_over() {
    for shards in SHARDS {
        for closed in [true, false] {
            let (mut world, mut alice) = slow_world(shards, Budget { messages: 1, bytes: usize::MAX });
            for n in 0..4 {
                publish(&mut world, "/foo", &json!(n));
            }
            alice.send(&mut world, json!({"channel": "/bar", "data": 1}));
            world.written(alice.socket());
            publish(&mut world, "/foo", &json!(4));
            if closed {
                world.cut(alice.socket());
            }
            let second = world.open_socket();
            let mut moved = alice.moved(bayeux_testkit::Via::Socket(second));
            moved.send(&mut world, json!({"channel": "/meta/connect", "advice": {"timeout": 0}}));
            while world.is_writing(second) {
                world.written(second);
            }
            assert_eq!(moved.data(&world), [json!(2), json!(3), json!(4)], "{shards} shards, closed: {closed}");
        }
    }
}

/// A world where writes take until the test ends them, a long-polling client that is subscribed to `/foo`, and what ends
/// the write of a response.
fn slow_polling(shards: u16) -> (World, Client, impl Fn(&mut World, &bayeux_testkit::Request)) {
    let mut options = Options::shards(shards);
    options.writes = Writes::Manual;
    let mut world = World::new(options);
    let browser = world.browser();
    let mut alice = Client::over(bayeux_testkit::Via::Http(browser, bayeux_testkit::Http::default()));
    let finish = |world: &mut World, request: &bayeux_testkit::Request| {
        world.written(Peer::Exchange(request.exchange.expect("over HTTP")));
    };
    let request = alice.send(&mut world, json!({"channel": "/meta/handshake", "version": "1.0"}));
    finish(&mut world, &request);
    let id = alice.reply(&world, &request).expect("an answer")["clientId"].clone();
    alice.set_id(id.as_str().unwrap_or_default());
    for message in [json!({"channel": "/meta/connect"}), json!({"channel": "/meta/subscribe", "subscription": "/foo"})]
    {
        let request = alice.send(&mut world, message);
        finish(&mut world, &request);
    }
    (world, alice, finish)
}
