//! Corners where two rules meet.
//!
//! Rule: each test names its own. Risk: code that is right for each rule alone, and wrong where they meet: a decision
//! that outlives what it is about, a queue that overflows with what may wait, a setting that changes with messages
//! queued, two questions of one session. Method: the smallest conversation that brings them together.

use std::collections::BTreeSet;
use std::time::Duration;

use bayeux_core::{Answer, Budget, ChannelSetting, Command, Notice, Overflow, Point, Points, SessionSetting, Verdict};
use bayeux_testkit::{Client, Options, Via, World, Writes, channel, event, pattern};
use serde_json::{Value, json};

const SHARDS: [u16; 3] = [1, 2, 4];

fn publish(world: &mut World, name: &str, data: &Value) {
    world.command(Command::Publish { channel: channel(name), event: event(name, data), from: None, chain: 0 });
}

/// Waits at `points` for messages on `name`, and nowhere else.
fn wait_for(world: &World, points: Points, name: &'static str) {
    world
        .hooks()
        .on(points, move |question, _| (question.message.channel.as_deref() == Some(name)).then_some(Answer::Later));
}

/// S-3, A-5: the channel is swept while its subscribe is being authorised, again and again; the subscribe is granted
/// all the same, and asked once.
#[test]
fn subscribe_that_takes_longer_than_the_sweep_is_granted() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.config.each_transport(|transport| transport.max_interval = Duration::from_secs(600));
        let mut world = World::new(options);
        for mut alice in [Client::websocket(&mut world), Client::long_polling(&mut world)] {
            world.hooks().forget();
            alice = alice.connected(&mut world);
            world.hooks().wait(Points::SUBSCRIBE);
            let request = alice.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/slow"}));
            let mut asked = 0;
            while !world.questions().is_empty() {
                asked += 1;
                assert!(asked < 5, "asked again and again");
                world.advance(Duration::from_secs(4));
                world.answer(0, Verdict::allow());
            }
            assert_eq!(alice.reply(&world, &request).expect("an answer")["successful"], true, "{shards} shards");
            publish(&mut world, "/slow", &json!(1));
            alice.ask(&mut world, json!({"channel": "/meta/connect", "advice": {"timeout": 0}}));
            assert_eq!(alice.data(&world), [json!(1)]);
            alice.disconnect(&mut world);
        }
    }
}

/// A-10, C-23: the application publishes on a meta channel, which has neither subscribers nor a handler for it.
#[test]
fn publish_of_the_application_on_a_meta_channel_does_nothing() {
    for shards in SHARDS {
        for listened in [false, true] {
            let mut world = World::new(Options::shards(shards));
            let mut alice = Client::websocket(&mut world).connected(&mut world);
            alice.subscribe(&mut world, "/**");
            if listened {
                world.hooks().always(Points::LISTEN, Verdict::allow());
            }
            for name in ["/meta/foo", "/meta/connect", "/meta/handshake", "/meta/disconnect", "/service/foo"] {
                publish(&mut world, name, &json!(1));
            }
            assert!(alice.data(&world).is_empty(), "C-28");
            assert_eq!(world.session_count(), 1);
        }
    }
}

/// Z-11, Q-8: a message that may not wait pushes a lazy one out of a full queue; it still wakes the held connect.
#[test]
fn urgent_message_that_displaces_lazy_ones_wakes_the_connect() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.config.long_polling.max_queue = 2;
        options.config.long_polling.overflow = Overflow::DropOldest;
        let mut world = World::new(options);
        let setting = ChannelSetting::Lazy(true);
        world.command(Command::SetChannel { channel: pattern("/lazy"), setting });
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        alice.ask(&mut world, json!({"channel": "/meta/subscribe", "subscription": ["/lazy", "/now"]}));
        let poll = alice.connect(&mut world).exchange.expect("over HTTP");
        publish(&mut world, "/lazy", &json!(1));
        publish(&mut world, "/lazy", &json!(2));
        assert!(world.exchange(poll).is_held());
        publish(&mut world, "/now", &json!(3));
        assert_eq!(world.exchange(poll).status(), Some(200), "{shards} shards");
        assert_eq!(alice.data(&world), [json!(2), json!(3)]);
    }
}

/// Z-11: the publisher's own messages overflow its own queue in the middle of its envelope: the rest finds no session,
/// and every message has its reply.
#[test]
fn publisher_that_overflows_itself_is_answered() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.config.long_polling.max_queue = 1;
        let mut world = World::new(options);
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        alice.subscribe(&mut world, "/a");
        let batch: Vec<_> = (0..3).map(|n| json!({"channel": "/a", "data": n})).collect();
        let request = alice.send(&mut world, Value::Array(batch));
        assert_eq!(world.session_count(), 0);
        let replies = alice.replies(&world, &request);
        assert_eq!(replies.len(), 3);
        assert_eq!(replies[2]["error"], "402::session_unknown");
    }
}

/// Z-11, TW-13: connections that come and go without reading do not let a queue grow beyond its limit.
#[test]
fn takeovers_do_not_grow_the_queue() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.config.websocket.max_queue = 10;
        options.budget = Budget { messages: 1, bytes: usize::MAX };
        options.writes = Writes::Manual;
        let mut world = World::new(options);
        let first = world.open_socket();
        let mut alice = Client::over(Via::Socket(first));
        for message in
            [json!({"channel": "/meta/handshake"}), json!({"channel": "/meta/subscribe", "subscription": "/one"})]
        {
            let request = alice.send(&mut world, message);
            world.written(first);
            if let Some(id) = alice.reply(&world, &request).expect("an answer")["clientId"].as_str() {
                alice.set_id(id);
            }
        }
        for _ in 0..50 {
            let socket = world.open_socket();
            let mut moved = alice.moved(Via::Socket(socket));
            moved.send(&mut world, json!({"channel": "/other", "data": 1}));
            for n in 0..3 {
                publish(&mut world, "/one", &json!(n));
            }
        }
        assert_eq!(world.session_count(), 0, "{shards} shards: 150 messages, nobody read any");
    }
}

/// L-33, D-4: several connects of one session wait for a listener; when the session ends, all of them are answered.
#[test]
fn all_waiting_connects_of_a_session_are_answered_when_it_ends() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        wait_for(&world, Points::LISTEN, "/meta/connect");
        let requests = [alice.connect(&mut world), alice.connect(&mut world), alice.connect(&mut world)];
        assert_eq!(world.questions().len(), 3);
        let session = alice.session(&world);
        world.command(Command::Disconnect { session });
        world.advance(Duration::from_secs(60));
        for request in &requests {
            let reply = alice.reply(&world, request).expect("an answer");
            assert_eq!(reply["error"], "402::session_unknown", "{shards} shards");
            assert_eq!(reply["advice"]["reconnect"], "none", "V-22");
        }
    }
}

/// M-2, TW-10: a WebSocket carried one session, then another; the end of the first does not decide what the second asked.
#[test]
fn end_of_an_earlier_session_leaves_the_questions_of_the_later_one() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        let old = alice.session(&world);
        alice.handshake(&mut world);
        wait_for(&world, Points::LISTEN, "/meta/connect");
        let request = alice.connect(&mut world);
        assert_eq!(world.questions().len(), 1);
        world.command(Command::Remove { session: old });
        assert_eq!(world.questions().len(), 1, "{shards} shards");
        assert_eq!(alice.reply(&world, &request), None);
        world.answer(0, Verdict::deny());
        assert_eq!(alice.reply(&world, &request).expect("an answer")["error"], "404::message_deleted");
    }
}

/// The same with both sessions' connects waiting in one lane.
#[test]
fn connect_of_another_session_in_the_same_lane_is_not_decided() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        let old = alice.session(&world);
        wait_for(&world, Points::LISTEN, "/meta/connect");
        alice.connect(&mut world);
        let handshake = alice.send(&mut world, json!({"channel": "/meta/handshake"}));
        world.answer(0, Verdict::deny());
        let id = alice.reply(&world, &handshake).expect("an answer")["clientId"].clone();
        alice.set_id(id.as_str().unwrap_or_default());
        let request = alice.connect(&mut world);
        world.command(Command::Remove { session: old });
        assert_eq!(world.questions().len(), 1, "{shards} shards: still asked");
        assert_eq!(alice.reply(&world, &request), None);
    }
}

/// Q-13, O-40: messages queued while only connects may carry them are pushed once that is over.
#[test]
fn messages_queued_for_connects_only_are_pushed_afterwards() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        alice.subscribe(&mut world, "/a");
        let session = alice.session(&world);
        let only =
            |on| Command::SetSession { session: session.clone(), setting: SessionSetting::MetaConnectDeliverOnly(on) };
        world.command(only(true));
        publish(&mut world, "/a", &json!(1));
        assert!(alice.data(&world).is_empty());
        world.command(only(false));
        publish(&mut world, "/a", &json!(2));
        publish(&mut world, "/a", &json!(3));
        assert_eq!(alice.data(&world), [json!(1), json!(2), json!(3)], "{shards} shards");
    }
}

/// TW-13: lazy messages that a broken connection gives back are as late as they were meant to be, no later.
#[test]
fn lazy_messages_given_back_keep_their_deadline() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.budget = Budget { messages: 2, bytes: usize::MAX };
        options.link_delay = Duration::ZERO;
        let mut world = World::new(options);
        let setting = ChannelSetting::Lazy(true);
        world.command(Command::SetChannel { channel: pattern("/lazy"), setting });
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        alice.subscribe(&mut world, "/lazy");
        for n in 0..6 {
            publish(&mut world, "/lazy", &json!(n));
        }
        world.cut(alice.socket());
        let second = world.open_socket();
        let mut moved = alice.moved(Via::Socket(second));
        wait_for(&world, Points::LISTEN, "/meta/connect");
        moved.connect(&mut world);
        world.advance(Duration::from_secs(6));
        let got = alice.data(&world).len() + moved.data(&world).len();
        assert_eq!(got, 6, "{shards} shards: beyond the lazy timeout");
    }
}

/// L-21: a connect that waits behind another envelope of its connection has come, and keeps its session.
#[test]
fn connect_behind_a_parked_lane_keeps_its_session() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        alice.connect(&mut world);
        world.hooks().wait(Points::SUBSCRIBE);
        world.advance(Duration::from_secs(29));
        alice.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/a"}));
        world.advance(Duration::from_millis(1_001));
        alice.connect(&mut world);
        world.advance(Duration::from_millis(10_500));
        assert_eq!(world.session_count(), 1, "{shards} shards: its connect is here");
    }
}

/// TH-33: in whatever way a hold ends, the browser's place is free again.
#[test]
fn every_end_of_a_hold_frees_the_browsers_place() {
    for shards in SHARDS {
        for way in 0..8 {
            let mut world = World::new(Options::shards(shards));
            let mut alice = Client::long_polling(&mut world).connected(&mut world);
            let poll = alice.connect(&mut world).exchange.expect("over HTTP");
            let session = alice.session(&world);
            match way {
                0 => world.cut(poll),
                1 => world.command(Command::Disconnect { session }),
                2 => world.command(Command::Remove { session }),
                3 => {
                    alice.connect(&mut world);
                    world.command(Command::Disconnect { session });
                }
                4 => {
                    let socket = world.open_socket();
                    alice.moved(Via::Socket(socket)).publish(&mut world, "/a", json!(1));
                }
                5 => world.advance(Duration::from_secs(30)),
                6 => world.command(Command::Deliver { to: session, event: event("/a", &json!(1)), from: None }),
                _ => drop(alice.send(&mut world, json!({"channel": "/meta/connect", "advice": {"timeout": 0}}))),
            }
            let mut tab = Client::over(alice.via()).connected(&mut world);
            let poll = tab.connect(&mut world).exchange.expect("over HTTP");
            assert!(world.exchange(poll).is_held(), "{shards} shards, way {way}");
        }
    }
}

/// G-14, TW-8: where a hook drops the last reply of an envelope, the next envelope's replies are still a frame of their
/// own.
#[test]
fn dropped_reply_does_not_join_envelopes() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.writes = Writes::Manual;
        let mut world = World::new(options);
        world.hooks().on_reply(|_, reply| {
            if reply.channel.as_deref() == Some("/drop") { bayeux_core::Edit::Drop } else { bayeux_core::Edit::Keep }
        });
        let socket = world.open_socket();
        let mut alice = Client::over(Via::Socket(socket));
        let nobody = |name: &str| json!({"channel": name, "clientId": "nobody", "data": 1});
        alice.send(&mut world, nobody("/first"));
        alice.send(&mut world, json!([nobody("/x"), nobody("/drop")]));
        alice.send(&mut world, json!([nobody("/y")]));
        while world.is_writing(socket) {
            world.written(socket);
        }
        let frames: Vec<_> = world.socket(socket).frames.iter().map(|frame| frame.messages.len()).collect();
        assert_eq!(frames, [1, 1, 1], "{shards} shards");
    }
}

/// T-8: what waits behind a parked lane is bounded in bytes, too.
#[test]
fn envelopes_behind_a_parked_lane_are_bounded_in_bytes() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.config.max_waiting_bytes = 100_000;
        let mut world = World::new(options);
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        wait_for(&world, Points::LISTEN, "/slow");
        alice.send(&mut world, json!({"channel": "/slow", "data": 1}));
        let pad = "x".repeat(40_000);
        let mut sent = 0;
        while world.wants_input(alice.socket()) && sent < 60 {
            alice.send(&mut world, json!({"channel": "/slow", "data": pad}));
            sent += 1;
        }
        assert!(sent <= 3, "{shards} shards: {sent} envelopes of 40 kB wait");
    }
}

/// T-8: what counts is what they take in memory, which for the smallest messages is a hundred times their bytes.
#[test]
fn envelopes_of_small_messages_behind_a_parked_lane_are_bounded() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        wait_for(&world, Points::LISTEN, "/slow");
        alice.send(&mut world, json!({"channel": "/slow", "data": 1}));
        let envelope = format!("[{}{{}}]", "{},".repeat(19_999));
        let mut sent = 0;
        while world.wants_input(alice.socket()) && sent < 60 {
            world.send(alice.socket(), &envelope);
            sent += 1;
        }
        assert!(sent <= 4, "{shards} shards: {sent} envelopes of 20,000 messages wait");
    }
}

/// A-9, Z-9: a subscription by the application beyond the session's limit leaves no channel behind.
#[test]
fn refused_subscription_by_the_application_leaves_no_channel() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.config.max_subscriptions = 1;
        let mut world = World::new(options);
        let alice = Client::websocket(&mut world).connected(&mut world);
        let session = alice.session(&world);
        for n in 0..40 {
            let channel = pattern(&format!("/c{n}"));
            world.command(Command::Subscribe { session: session.clone(), channel });
        }
        world.command(Command::Remove { session });
        world.advance(Duration::from_secs(60));
        assert_eq!(world.channel_count(), 0, "{shards} shards");
    }
}

/// House style, bounded work: the end of one session ends the next, and so on, hundreds of times: each WebSocket waits with
/// a connect, and behind it with the disconnect of the next one's session. No stack may be used up.
#[test]
fn chain_of_sessions_that_end_each_other() {
    const SESSIONS: usize = 600;
    // As small as the stacks of worker threads.
    let run = || {
        let mut options = Options::shards(1);
        options.steps_kept = 10;
        let mut world = World::new(options);
        let mut clients: Vec<_> = (0..SESSIONS).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
        wait_for(&world, Points::LISTEN, "/meta/connect");
        let ids: Vec<_> = clients.iter().map(|client| client.id().to_owned()).collect();
        for (at, client) in clients.iter_mut().enumerate() {
            client.connect(&mut world);
            if let Some(next) = ids.get(at + 1) {
                // The first finds its session gone and unbinds the WebSocket (rule TW-12), the second binds the next.
                client.send(&mut world, json!({"channel": "/junk", "data": 1}));
                client.send(&mut world, json!({"channel": "/meta/disconnect", "clientId": next}));
            }
        }
        let session = clients[0].session(&world);
        world.command(Command::Remove { session });
        world.take_notices().iter().filter(|notice| matches!(notice, Notice::SessionRemoved { .. })).count()
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run).expect("a thread");
    let ended = thread.join().expect("no stack overflow");
    assert_eq!(ended, SESSIONS);
}

/// S-1, A-5: ten thousand channels in one message, and away again, leave nothing.
#[test]
fn many_subscriptions_in_one_message() {
    let mut world = World::new(Options::shards(2));
    let mut alice = Client::websocket(&mut world).connected(&mut world);
    let names: BTreeSet<_> = (0..10_000).map(|n| format!("/c{n}")).collect();
    for kind in ["/meta/subscribe", "/meta/unsubscribe"] {
        let reply = alice.ask(&mut world, json!({"channel": kind, "subscription": names}));
        assert_eq!(reply["successful"], true);
    }
    alice.disconnect(&mut world);
    world.advance(Duration::from_secs(60));
    assert_eq!(world.channel_count(), 0);
}

/// L-20, L-21: and where that connect is refused for what it says, before it is a connect of the session, the session
/// expires as any other.
#[test]
fn refused_connect_behind_a_parked_lane_does_not_keep_its_session() {
    for shards in SHARDS {
        for connect in [
            json!({"channel": "/meta/connect", "id": "<>"}),
            json!({"channel": "/meta/connect", "clientId": "nobody"}),
            json!({"channel": "/meta/connect", "advice": 7}),
        ] {
            let mut world = World::new(Options::shards(shards));
            let mut alice = Client::websocket(&mut world).connected(&mut world);
            world.hooks().wait(Points::SUBSCRIBE);
            alice.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/a"}));
            alice.send(&mut world, connect.clone());
            world.advance(Duration::from_secs(5));
            world.answer(0, Verdict::allow());
            world.advance(Duration::from_secs(45));
            assert_eq!(world.session_count(), 0, "{shards} shards, {connect}");
        }
    }
}

/// The same where the connection closes while the connect waits.
#[test]
fn connect_behind_a_parked_lane_of_a_closed_connection_does_not_keep_its_session() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        world.hooks().wait(Points::SUBSCRIBE);
        alice.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/a"}));
        alice.connect(&mut world);
        world.cut(alice.socket());
        world.advance(Duration::from_secs(80));
        assert_eq!(world.session_count(), 0, "{shards} shards");
    }
}

/// L-21: and where connects wait on two connections, the end of the one does not end what the other is owed.
#[test]
fn connects_behind_two_parked_lanes_keep_their_session_both() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.config.decision_timeout = Duration::from_secs(60);
        let mut world = World::new(options);
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        world.hooks().wait(Points::SUBSCRIBE);
        alice.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/a"}));
        alice.send(&mut world, json!({"channel": "/meta/connect", "advice": 7}));
        let mut moved = alice.moved(Via::Socket(world.open_socket()));
        moved.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/b"}));
        moved.connect(&mut world);
        world.cut(alice.socket());
        world.answer(0, Verdict::allow());
        world.advance(Duration::from_secs(15));
        assert_eq!(world.session_count(), 1, "{shards} shards: its other connect is here");
        world.answer(0, Verdict::allow());
        world.advance(Duration::from_secs(60));
        assert_eq!(world.session_count(), 0, "{shards} shards: nothing is here any more");
    }
}

/// Two lanes of one session wait, and both give up in the same moment; what the first goes on to do ends the session, and
/// must not decide for the second again: its next message is asked about, and waits.
#[test]
fn decisions_that_expire_together_are_each_decided_once() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        for name in ["/slow", "/meta/connect", "/later"] {
            wait_for(&world, Points::INCOMING.with(Points::LISTEN), name);
        }
        alice.send(&mut world, json!([{"channel": "/slow", "data": 1}, {"channel": "/meta/disconnect"}]));
        let second = json!([{"channel": "/meta/connect"}, {"channel": "/later", "data": 2}]);
        // Past what comes before listeners.
        let request = alice.send(&mut world, second);
        while let Some(at) = world.questions().iter().position(|question| question.point == Point::Incoming) {
            world.answer(at, Verdict::allow());
        }
        assert_eq!(world.questions().len(), 2);
        world.advance(world.options().config.decision_timeout);
        assert_eq!(world.session_count(), 0, "the first lane went on to its disconnect");
        assert_eq!(world.questions().len(), 1, "{shards} shards: the next message of the second");
        assert!(alice.replies(&world, &request).is_empty());
        world.answer(0, Verdict::deny());
        assert_eq!(alice.replies(&world, &request)[1]["error"], "404::message_deleted");
    }
}

/// The same where the WebSocket is bound to another session before the refusal is written (H-2).
#[test]
fn refused_connect_before_a_new_handshake_does_not_keep_its_session() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        world.hooks().wait(Points::SUBSCRIBE);
        alice.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/a"}));
        alice.send(&mut world, json!({"channel": "/meta/connect", "id": "<>"}));
        alice.send(&mut world, json!({"channel": "/meta/handshake"}));
        world.advance(Duration::from_secs(5));
        world.answer(0, Verdict::allow());
        world.advance(Duration::from_secs(80));
        assert_eq!(world.session_count(), 0, "{shards} shards");
    }
}

/// A client that acknowledges, on a WebSocket that it has just opened, after a long-polling response with three events
/// was lost. Each is so large that a batch over WebSocket has room for no other.
fn three_large_events_lost(shards: u16) -> (World, Client) {
    let mut options = Options::shards(shards);
    options.config.acknowledge = true;
    let mut world = World::new(options);
    let mut alice = Client::long_polling(&mut world).acknowledging(&mut world);
    alice.subscribe(&mut world, "/a");
    for n in 1..=3 {
        publish(&mut world, "/a", &json!([n, "x".repeat(40_000)]));
    }
    let lost = alice.send(&mut world, json!({"channel": "/meta/connect", "ext": {"ack": 1}}));
    assert_eq!(alice.replies(&world, &lost).len(), 1, "all three are with it, and it is lost");
    let socket = world.open_socket();
    (world, alice.moved(Via::Socket(socket)))
}

/// XA-5, XA-8: what a repeated batch has no room for comes with the next connect, however long that wants to be held.
#[test]
fn events_put_off_do_not_wait_for_the_timeout_of_the_client() {
    for shards in SHARDS {
        let (mut world, mut alice) = three_large_events_lost(shards);
        let socket = alice.socket();
        let mut batch = json!(1);
        for n in 1..=3 {
            let mut connect = json!({"channel": "/meta/connect", "ext": {"ack": batch}});
            if n > 1 {
                connect["advice"] = json!({"timeout": 60_000});
            }
            alice.send(&mut world, connect);
            let frames = world.take_frames(socket);
            let messages: Vec<Value> = frames.into_iter().flat_map(|frame| frame.messages).collect();
            let [event, reply] = &messages[..] else { panic!("{shards} shards, {n}: {} messages", messages.len()) };
            assert_eq!(event["data"][0], n);
            batch = reply["ext"]["ack"].clone();
        }
    }
}

/// XA-5, D-10: and before what came later, where the application disconnects the session.
#[test]
fn events_put_off_are_among_the_last_words_of_a_session() {
    for shards in SHARDS {
        let (mut world, mut alice) = three_large_events_lost(shards);
        alice.send(&mut world, json!({"channel": "/meta/connect", "ext": {"ack": 1}}));
        publish(&mut world, "/a", &json!([4]));
        let session = alice.session(&world);
        world.command(Command::Disconnect { session });
        let frames = world.take_frames(alice.socket());
        let messages: Vec<Value> = frames.into_iter().flat_map(|frame| frame.messages).collect();
        let events = messages.iter().filter(|message| message["channel"] == "/a");
        let numbers: Vec<_> = events.map(|event| event["data"][0].clone()).collect();
        assert_eq!(numbers, [1, 2, 3, 4], "{shards} shards");
        assert_eq!(messages.last().expect("a farewell")["channel"], "/meta/disconnect");
    }
}
